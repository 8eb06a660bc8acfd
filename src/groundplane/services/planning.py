"""From a request to a plan: snapshot, pipeline, engines, backend; everything is checked before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from groundplane.model import environment
from groundplane.model.documents import Context, RunRequest
from groundplane.model.errors import Invalid, NotFound
from groundplane.model.pipelines import Pipeline, Step
from groundplane.model.quantities import format_size
from groundplane.model.resources import Resources
from groundplane.services import (
    bringing,
    callers,
    connections,
    environments,
    gpus,
    languages,
    placing,
    plans,
    snapshots,
    spec,
    work_tokens,
)
from groundplane.services import engines as host_engines
from groundplane.services.plans import Placement, PlannedEngine, RunPlan
from groundplane.services.platform import Platform, now
from groundplane.spi import layout
from groundplane.spi.driver import CanSpanNodes, Driver, RunsBeside, RunsPipelines
from groundplane.spi.toolchain import Toolchain
from groundplane.store import caches, labels
from groundplane.toolchains import registry


def plan(platform: Platform, request: RunRequest, admit: Callable[[str], None], *, stranger: bool) -> RunPlan:
    """What the request would do. Raises Invalid or NotFound for all that cannot work. admit: is told the project as
    soon as it is known, and raises what keeps the caller from it. stranger: see `callers.is_stranger`."""
    environment.check(request.environment)
    if request.backend is not None:
        platform.driver(request.backend)
    folder = Path(request.folder)
    if not folder.is_dir():
        raise Invalid(f"{folder} is no folder that the control plane can see", hint="run it where the folder is")
    text = request.spec or request.project
    project = spec.parse(text) if text is not None else None  # before the folder is read: a wrong file is told at once
    called = project.name if project else folder.name
    admit(called)
    chosen = spec.pipeline(project, request.pipeline) if project and request.spec is not None else None
    taken = snapshot(platform, folder)
    names = {name: entry.sha256 for name, entry in taken.manifest.reachable().items()}
    if chosen is not None:
        pipeline = spec.resolve(chosen, taken.names(), request.parameters)
        pipeline = _with_arguments(pipeline, request.arguments)
    elif request.script is not None:
        if request.script.removeprefix("./") not in names:
            raise NotFound(f"there is no file {request.target!r} to run", hint="`.groundignore` may leave it out")
        pipeline = spec.single(request.script, request.toolchain, request.arguments, request.parameters, project=called)
    else:
        raise Invalid("the request names neither a script nor a pipeline")
    pipeline = replace(pipeline, steps=tuple(_with_limits(step, request) for step in pipeline.steps))
    places = placing.Places(platform, request, project, names)
    engines: dict[str, PlannedEngine] = {}
    placements: dict[str, Placement] = {}
    for step in pipeline.steps:
        engines[step.name], placements[step.name] = _placed(platform, places, step, request, names)
    pipeline = replace(pipeline, steps=tuple(gpus.settled(step, places.chosen) for step in pipeline.steps))
    warnings = places.warnings
    whole, fresh = "", request.fresh
    for backend in dict.fromkeys(placed.backend for placed in placements.values()):
        steps = [step for step in pipeline.steps if placements[step.name].backend == backend]
        driver = platform.driver(backend)
        _check_nodes(driver, backend, steps)
        if isinstance(driver, RunsPipelines):
            _check_alone(backend, placements)
            fresh |= not driver.caches
            whole = _whole(platform, replace(request, fresh=fresh), places, pipeline, names, taken)
            continue
        _check_capacity(driver, backend, steps)
        warnings += gpus.check(driver, backend, steps, places.chosen)
        _check_copyable(driver, taken)
    first = next(iter(placements.values())).backend
    return RunPlan(
        name=pipeline.name,
        pipeline=pipeline,
        lone=request.spec is None,
        fresh=fresh,
        backend=first,
        snapshot=taken.digest,
        folder=request.folder,
        engines=engines,
        placements=placements,
        labels=project_labels(platform, pipeline.project, project.labels if project else ()),
        warnings=(*warnings, *_reach_nothing(platform, pipeline, placements, stranger=stranger)),
        whole=whole,
        environment=tuple(sorted(request.environment)),
        files=len(taken.manifest.files),
        bytes=taken.total_bytes,
        ignored=tuple(taken.ignored),
    )


def _reach_nothing(
    platform: Platform, pipeline: Pipeline, placements: Mapping[str, Placement], *, stranger: bool
) -> list[str]:
    """Warnings of steps that are given what to reach, and no network."""

    def encloses(placed: Placement) -> bool:
        return placed.image is not None or (stranger and isinstance(platform.driver(placed.backend), RunsBeside))

    without = [name for name, placed in placements.items() if not placed.network and encloses(placed)]
    steps = [step for step in pipeline.steps if step.name in without]
    return [*connections.warnings(steps), *work_tokens.warnings(steps)]


def _check_alone(backend: str, placements: Mapping[str, Placement]) -> None:
    for step, placed in placements.items():
        if placed.backend != backend:
            raise Invalid(
                f"step {step!r} runs on {placed.backend!r}, and backend {backend!r} runs a pipeline whole",
                hint=f"run all of it there: --on {backend}",
                code="kubeflow_cannot",
            )


def _whole(
    platform: Platform,
    request: RunRequest,
    places: placing.Places,
    pipeline: Pipeline,
    names: Mapping[str, str],
    taken: snapshots.Snapshot,
) -> str:
    """The pipeline compiled for the backend that runs all of it, stored; the document's digest."""
    from groundplane.services import parts

    made = parts.whole(platform, request, places, pipeline, names, taken.manifest)
    with platform.database.write() as connection:
        return plans.store_whole(connection, made)


def snapshot(platform: Platform, folder: Path) -> snapshots.Snapshot:
    """The folder's content as it is now, kept."""
    sent = folder.is_relative_to(callers.uploads(platform.home))  # it will not lie there for long
    return snapshots.take(platform.home, folder, _Stats(platform), pin=_pin(platform), whole=sent)


def again(platform: Platform, old: RunPlan, context: Context, *, stranger: bool) -> RunPlan:
    """The old plan with its engines looked up again where they were missing, at the site where it runs now."""
    placements = {name: replace(at, site=platform.driver(at.backend).site) for name, at in old.placements.items()}
    warnings = (*old.warnings, *_reach_nothing(platform, old.pipeline, placements, stranger=stranger))
    old = replace(
        old,
        placements=placements,
        labels=project_labels(platform, old.pipeline.project, old.labels),
        warnings=tuple(dict.fromkeys(warnings)),
    )
    if not any(engine.missing for engine in old.engines.values()):
        return old
    found: dict[str, PlannedEngine] = {}
    for step in old.pipeline.steps:
        engine = old.engines[step.name]
        if engine.missing:
            sha256 = engine.script_sha256
            head = layout.blob(platform.home, sha256).read_bytes()[: languages.HEAD_BYTES] if sha256 else b""
            toolchain = registry.get(engine.toolchain)
            engine = _located(platform, toolchain, step, context, None, sha256, head)
        found[step.name] = engine
    return replace(old, engines=found)


def project_labels(platform: Platform, project: str, said: Iterable[str]) -> tuple[str, ...]:
    """Those of the project: what its ground.toml says, and what it has here."""
    with platform.database.read() as connection:
        return tuple(sorted({*said, *labels.of_project(connection, project)}))


def _placed(
    platform: Platform, places: placing.Places, step: Step, request: RunRequest, names: Mapping[str, str]
) -> tuple[PlannedEngine, Placement]:
    """What runs the step, and where."""
    toolchain, engine, sha256, head = languages.written_in(platform, step, names, step.toolchain or request.toolchain)
    placed, chosen, lock = places.of(step, engine or toolchain.name)
    program = step.command[0] if step.command else ""
    whole = isinstance(platform.driver(placed.backend), RunsPipelines)
    if chosen is not None and (whole or placed.image is not None):
        spec_ = placing.inside(toolchain, head, step.command, chosen, engine)
        found = PlannedEngine(toolchain.name, spec_.name, path=program or spec_.in_image, script_sha256=sha256)
        return (bringing.inside(found, lock) if lock else found), placed
    if "/" in program:  # of the working copy, or absolute: the start will tell
        return PlannedEngine(toolchain=toolchain.name, name=PurePosixPath(program).name), placed
    if chosen is not None and step.script is not None:
        engine = engine or environments.match(chosen).engine
    found = _located(platform, toolchain, step, request.context, engine, sha256, head)
    if chosen is not None and step.script is not None:
        placing.check_version(chosen, lock, found)
    return found, placed


def _located(
    platform: Platform,
    toolchain: Toolchain,
    step: Step,
    context: Context,
    engine: str | None,
    sha256: str,
    head: bytes,
) -> PlannedEngine:
    specs = [spec_ for spec_ in toolchain.engines_for(head, step.command) if engine in (None, spec_.name)]
    found = host_engines.find(platform, specs, context, libraries=bool(step.outputs))
    if found is None:
        looked = ", ".join(program for spec_ in specs for program in spec_.programs)
        return PlannedEngine(
            toolchain=toolchain.name,
            name=engine or (specs[0].name if len(specs) == 1 else toolchain.name),
            missing=f"{step.script or step.name} needs {looked}, which your PATH does not have",
            script_sha256=sha256,
        )
    return PlannedEngine(
        toolchain=toolchain.name,
        name=found.spec.name,
        path=found.path,
        version=found.version,
        script_sha256=sha256,
        libraries=host_engines.fingerprint(found.libraries) if step.outputs else "",
    )


def _with_arguments(pipeline: Pipeline, arguments: Sequence[str]) -> Pipeline:
    if not arguments:
        return pipeline
    if len(pipeline.steps) != 1:
        raise Invalid(
            f"pipeline {pipeline.name!r} has {len(pipeline.steps)} steps: which one are the arguments after `--` for?",
            hint="set `args` in the step, or use a parameter: -p NAME=VALUE",
        )
    step = next(iter(pipeline.steps))
    return replace(pipeline, steps=(replace(step, arguments=(*step.arguments, *arguments)),))


def _with_limits(step: Step, request: RunRequest) -> Step:
    given = {"cpus": request.cpus, "memory": request.memory, "timeout": request.timeout}
    changed = {name: value for name, value in given.items() if value is not None}
    for name, value in changed.items():
        if value <= 0:
            raise Invalid(f"--{name} must be more than 0")
    return replace(step, resources=replace(step.resources, **changed)) if changed else step


def _check_nodes(driver: Driver, backend: str, steps: Sequence[Step]) -> None:
    most = driver.most_nodes if isinstance(driver, CanSpanNodes) else 1
    for step in steps:
        nodes = step.resources.nodes or 1
        if nodes > most:
            at_most = f"at most {most} nodes" if most > 1 else "a single node"
            raise Invalid(
                f"step {step.name!r} asks for {nodes} nodes; backend {backend!r} runs a step on {at_most}",
                hint="choose a kubernetes backend with --on, or `on = ` in the step (`ground backends list`)"
                if most == 1
                else "ask for fewer nodes",
                code="never_fits",
            )


def _check_capacity(driver: Driver, backend: str, steps: Sequence[Step]) -> None:
    """What could never fit is refused at once."""
    if all(replace(step.resources, nodes=None, timeout=None) == Resources(gpus=0) for step in steps):
        return
    health = driver.check()
    if not health.ok:  # what it has is not known: the start will tell
        return
    for step in steps:
        asked = step.resources
        for wanted, has, what in (
            (asked.cpus or 0, health.cpus, "CPUs"),
            (asked.memory or 0, health.memory, "memory"),
        ):
            if has and wanted > has:  # 0: it may not be asked, so the start will tell
                shown = [format_size(wanted), format_size(has)] if what == "memory" else [f"{wanted:g}", f"{has:g}"]
                if shown[0] == shown[1]:
                    shown = [f"{wanted:,} B", f"{has:,} B"]
                raise Invalid(
                    f"step {step.name!r} asks for {shown[0]} {what}; backend {backend!r} has {shown[1]} for a task",
                    hint="ask for less, or choose another backend with --on (`ground backends list`)",
                    code="never_fits",
                )


def _check_copyable(driver: Driver, taken: snapshots.Snapshot) -> None:
    if taken.total_bytes > snapshots.COPY_LIMIT:
        copied = driver.check().facts.get("working copies", "").endswith("copied")
        snapshots.check_copyable(taken, overlay=not copied)


class _Stats:
    """The stat cache in the database."""

    def __init__(self, platform: Platform) -> None:
        self._database = platform.database

    def get_many(self, paths: Sequence[str]) -> Mapping[str, snapshots.Known]:
        """See store/caches.py."""
        with self._database.read() as connection:
            return {path: snapshots.Known(*row) for path, row in caches.stats_of(connection, paths).items()}

    def put_many(self, rows: Sequence[tuple[str, snapshots.Known]]) -> None:
        """See store/caches.py."""
        with self._database.write() as connection:
            caches.put_stats(connection, rows)


def _pin(platform: Platform) -> Callable[[Sequence[str]], None]:
    def pin(digests: Sequence[str]) -> None:
        with platform.database.write() as connection:
            caches.pin(connection, digests, now())

    return pin
