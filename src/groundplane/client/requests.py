"""What the user asks for, as the request that travels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
) -> RunRequest:
    """`ground run`'s arguments as a request, with this process' current folder and variables.

    target: a script, a folder with a ground.toml, or the name of a pipeline in the current folder's.
    runs_in: an environment of that ground.toml. cpus: number of CPUs. memory: bytes. timeout: seconds of an attempt.
    here: the current folder.
    Raises Invalid that lists what there is when the target is none of these.
    """
    found = targets.resolve(target, pipeline, here)
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
