"""A script given alone: a pipeline of one step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from groundplane.model.errors import Invalid
from groundplane.model.parameters import check_names
from groundplane.model.pipelines import Pipeline, Step
from groundplane.model.resources import Resources


def single(
    script: str,
    toolchain: str | None = None,
    arguments: Sequence[str] = (),
    parameters: Mapping[str, str] | None = None,
    resources: Resources | None = None,
    name: str = "",
    project: str = "",
) -> Pipeline:
    """The script as a pipeline: one step whose outputs are whatever it creates or changes.

    script: its path in the folder, as typed. name: the step's and pipeline's, else the script's own without folder.
    A lone script takes any parameter; raises Invalid for a name that no toolchain could pass, and for NUL.
    """
    given = dict(parameters or {})
    check_names(given)
    for text in (*arguments, *given.values()):
        if "\0" in text:
            raise Invalid(f"the argument {text!r} holds a NUL character", hint="no program can be given one")
    called = name or PurePosixPath(script).name
    step = Step(
        name=called,
        script=script,
        toolchain=toolchain,
        arguments=tuple(arguments),
        outputs=None,
        parameters=given,
        resources=resources or Resources(),
    )
    return Pipeline(name=called, project=project, steps=(step,), parameters=given)
