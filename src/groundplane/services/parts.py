"""What a compiler is told about a pipeline's steps: their commands, images and files as another system has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from groundplane.kubeflow import compiling as kubeflow
from groundplane.kubeflow.parts import SUPPORT, Files, Part, Start
from groundplane.model import documents
from groundplane.model.environments import Environment
from groundplane.model.errors import GroundError, Invalid
from groundplane.model.locks import Lock
from groundplane.model.pipelines import Pipeline, SourceKind, Step
from groundplane.oci import reference
from groundplane.services import bringing, gpus, languages, placing, shelf, staging, variables
from groundplane.services.plans import PlannedEngine
from groundplane.services.platform import Platform
from groundplane.services.spec import fanout
from groundplane.services.variables import Variables
from groundplane.spi import layout
from groundplane.spi.launch import Whole
from groundplane.spi.snapshots import Manifest
from groundplane.spi.toolchain import Call, Command, Engine, Toolchain
from groundplane.toolchains import versions

_NO_IMAGE = "no_images"


def of(
    platform: Platform,
    request: documents.RunRequest,
    places: placing.Places,
    pipeline: Pipeline,
    names: Mapping[str, str],
    manifest: Manifest,
) -> tuple[Pipeline, list[Part], Files]:
    """The pipeline as it is compiled, its steps' parts, and the project's files. names: every file's sha256."""
    maker = _Maker(platform, request, places, names)
    made = [maker.part(step) for step in pipeline.steps]
    pipeline = replace(pipeline, steps=tuple(part.step for part in made))
    return pipeline, made, _files(platform, pipeline, manifest)


def whole(
    platform: Platform,
    request: documents.RunRequest,
    places: placing.Places,
    pipeline: Pipeline,
    names: Mapping[str, str],
    manifest: Manifest,
) -> Whole:
    """The pipeline for a backend that runs it whole; its cache is left off by `request.fresh`. Raises Invalid for what
    that cannot hold."""
    if request.spec is None:
        raise alone(request)
    if request.environment:
        raise Invalid(
            f"KFP cannot hold {', '.join(sorted(request.environment))}, given with -e: all could read it there",
            hint="let the step take it from where the cluster keeps secrets",
            code="kubeflow_cannot",
        )
    return kubeflow.whole(*of(platform, request, places, pipeline, names, manifest))


def alone(request: documents.RunRequest) -> Invalid:
    """The error for a script without a pipeline."""
    return Invalid(
        f"{request.target} is a script alone, which does not declare what it leaves",
        hint="make it a step of a pipeline in ground.toml, with its `outputs`",
    )


@dataclass(frozen=True, slots=True)
class _Maker:
    platform: Platform
    request: documents.RunRequest
    places: placing.Places
    names: Mapping[str, str]

    def part(self, step: Step) -> Part:
        """The step with all that the compiler is told about it."""
        toolchain, asked, _, head = languages.written_in(self.platform, step, self.names, step.toolchain)
        environment = self.places.image_for(step, asked or toolchain.name)
        lock = self.places.locked(environment)[1] if environment.name else None
        program = step.command[0] if step.command else ""
        found = placing.inside(toolchain, head, step.command, environment, asked)
        engine = PlannedEngine(toolchain.name, found.name, path=program or found.in_image)
        engine = bringing.inside(engine, lock) if lock else engine
        step = gpus.settled(replace(step, network=self.places.said_network(step)), {step.name: (environment, lock)})
        fan = step.for_each
        items: tuple[str, ...] | None = None
        if fan is not None and (fan.values is not None or (fan.source and fan.source.kind is SourceKind.PROJECT)):
            items = fanout.items(step, self.names)
        token = f"{{{fan.variable}}}" if fan else None
        return Part(
            step=step,
            image=self._image(step, environment, lock, toolchain.name),
            cached=bool(step.outputs) and not self.request.fresh,
            start=_starter(step, toolchain, Engine(engine.name, engine.path or engine.name, engine.version), head),
            items=items,
            converted=staging.converted(step),
            placed={
                entry.name: fanout.placed(entry, self.names)
                for entry in step.inputs
                if entry.source.kind is SourceKind.PROJECT and not (token and token in entry.source.path)
            },
        )

    def _image(self, step: Step, environment: Environment, lock: Lock | None, toolchain: str) -> str:
        """A name by which a cluster can pull the step's image."""
        if environment.image:
            digest = lock.upstream.digest if lock and lock.upstream else ""
            named = reference.parse(environment.image)
            digest = digest if not digest or digest.startswith("sha256:") else f"sha256:{digest}"
            return environment.image if named.digest or not digest else f"{named.name}@{digest}"
        if lock is not None and not lock.attested and (pushed := self._pushed(lock)):
            return pushed
        if environment.name:
            push = f"`ground images push {environment.name} REGISTRY/REPOSITORY:TAG`"
            raise Invalid(
                f"step {step.name!r}: the image of environment {environment.name!r} is in no registry",
                hint=f"{push} puts it there, after `ground env lock {environment.name}`"
                if lock is None
                else f"{push} puts it there",
                code=_NO_IMAGE,
            )
        try:
            public = versions.match(environment.toolchain).images
        except GroundError:
            public = ()
        if not public:
            raise Invalid(
                f"step {step.name!r} says no environment, and no public image for {toolchain} is known",
                hint='name one: environment = "NAME" at the step, and [environments.NAME] with image = "…"',
                code=_NO_IMAGE,
            )
        return public[0]

    def _pushed(self, lock: Lock) -> str:
        from groundplane.images.pushes import pushed_as

        image = shelf.built(self.platform.home, lock)
        return pushed_as(shelf.store(self.platform.home).folder, image.manifest) if image else ""


def _starter(
    step: Step, toolchain: Toolchain, engine: Engine, head: bytes
) -> Callable[[Mapping[str, str], str], Start]:
    def start(parameters: Mapping[str, str], item: str) -> Start:
        filled = fanout.fill(replace(step, parameters=dict(parameters)), item)
        command: Command = toolchain.command(
            Call(
                engine=engine,
                script=filled.script,
                command=filled.command,
                arguments=filled.arguments,
                parameters=filled.parameters,
                support=SUPPORT,
                head=head,
                inside=True,
            )
        )
        found = {
            **Variables({}, {}).inside(network=True),
            **command.env,
            **variables.for_step(filled.parameters, filled.environment, filled.resources),
            "GROUND_TASK": step.name,
        }
        return Start(filled, command, found)

    return start


def _files(platform: Platform, pipeline: Pipeline, manifest: Manifest) -> Files:
    """The project as every step finds it."""
    large = next((entry for entry in manifest.files if not entry.sha256 or entry.size > kubeflow.FILE_LIMIT), None)
    if large is not None:
        raise kubeflow.too_large(pipeline.steps[0].name, {entry.path: entry.size for entry in manifest.files})
    content = {
        entry.path: (layout.blob(platform.home, entry.sha256).read_bytes(), entry.executable)
        for entry in manifest.files
    }
    return Files(content, manifest.links, manifest.folders)
