"""What the compiler is given: a pipeline's steps with what the platform knows about each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from groundplane.model.pipelines import Step
from groundplane.spi.toolchain import Command

SUPPORT = "GROUNDVALUESUPPORTX"
"""What `Part.start` is given as the support folder: see wrapper.value."""


@dataclass(frozen=True, slots=True)
class Start:
    """One task of a step. step: with the fan-out's item filled in. variables: what the work's environment holds."""

    step: Step
    command: Command
    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Part:
    """One step. items: of its fan-out, None where it is none or they are known only when the run is under way.

    image: by the name that a registry knows. cached: whether an earlier result may be used again. converted: inputs
    whose table would change its format. placed: input -> its project files as (path in the working copy, project file),
    for those that come from the project. start: the task for these parameters and this item ("" for a step that is no
    fan-out), with SUPPORT for the support folder.
    """

    step: Step
    image: str
    cached: bool
    start: Callable[[Mapping[str, str], str], Start]
    items: tuple[str, ...] | None = None
    converted: tuple[str, ...] = ()
    placed: Mapping[str, tuple[tuple[str, str], ...]] | None = None


@dataclass(frozen=True, slots=True)
class Files:
    """The project's files: path -> content, whether executable; links (path, target); empty folders."""

    content: Mapping[str, tuple[bytes, bool]]
    links: tuple[tuple[str, str], ...] = ()
    folders: tuple[str, ...] = ()
