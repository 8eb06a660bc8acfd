"""What the user asks for, as the request that travels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from groundplane.client import context, targets
from groundplane.model.errors import Invalid
from groundplane.model.requests import RunRequest


def request(
    target: str,
    *,
    pipeline: str | None = None,
    toolchain: str | None = None,
    arguments: Sequence[str] = (),
    parameters: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    backend: str | None = None,
    runs_in: str | None = None,
    cpus: float | None = None,
    memory: int | None = None,
    timeout: float | None = None,
    fresh: bool = False,
    here: Path | None = None,
    tell: Callable[[str], None] | None = None,
) -> RunRequest:
    """`ground run`'s arguments as a request, with this process' current folder and variables.

    target: a script, a folder with a ground.toml, the name of a pipeline in the current folder's, or a pipeline that
    the kfp SDK compiled. tell: takes a sentence about what of that is kept in another way.
    runs_in: an environment of that ground.toml. cpus: number of CPUs. memory: bytes. timeout: seconds of an attempt.
    here: the current folder.
    Raises Invalid that lists what there is when the target is none of these.
    """
    found = targets.resolve(target, pipeline, here)
    if toolchain is None and found.script is not None and found.script.lower().endswith((".yaml", ".yml")):
        found = _kubeflow(found, target, parameters or {}, tell, images=backend not in (None, "local"))
    if toolchain is not None and found.script is None:
        raise Invalid(
            f"{target} is a pipeline: --toolchain is for a single script",
            hint="write `toolchain = …` at the step in ground.toml",
        )
    return RunRequest(
        target=target,
        folder=found.folder,
        context=context.caller(),
        script=found.script,
        spec=found.spec,
        pipeline=found.pipeline,
        toolchain=toolchain,
        arguments=tuple(arguments),
        parameters=dict(parameters or {}),
        environment=dict(environment or {}),
        backend=backend,
        runs_in=runs_in,
        project=found.project,
        cpus=cpus,
        memory=memory,
        timeout=timeout,
        fresh=fresh,
    )


def _kubeflow(
    found: targets.Target,
    target: str,
    parameters: Mapping[str, str],
    tell: Callable[[str], None] | None,
    *,
    images: bool,
) -> targets.Target:
    """The file as the project that it becomes."""
    from groundplane.client import imports

    folder, made = imports.kept(Path(found.folder, found.script or ""), target, parameters, images=images)
    if tell is not None:
        for note in made.notes:
            tell(note)
    return targets.Target(str(folder), spec=targets.text_of(folder / targets.SPEC))
