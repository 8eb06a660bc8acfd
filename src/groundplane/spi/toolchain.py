"""A toolchain: what work is written in. Pure functions from a step to a command, and from an ending to a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from groundplane.model.reasons import Reason


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """A program that implements a toolchain, and how to find and probe it.

    programs: names looked up on the caller's PATH, first hit wins.
    probe: arguments that make it print its version; () when it must not be asked (it is then never started, and its
    version is ""). version: regex whose first group is the version, "" when there is no probe.
    libraries: arguments that make it print its library folders, one a line (for the reuse key); () when none.
    tested: False where no one has run it yet; shown as `untested`.
    inside: its name in images, where that is not the first of the programs.
    """

    name: str
    programs: tuple[str, ...]
    probe: tuple[str, ...]
    version: str
    libraries: tuple[str, ...] = ()
    tested: bool = True
    note: str = ""
    inside: str = ""

    @property
    def in_image(self) -> str:
        """What it is called in an image that nobody asked."""
        return self.inside or self.programs[0]


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine as found: its absolute path and version ("" when it would not say)."""

    name: str
    path: str
    version: str


@dataclass(frozen=True, slots=True)
class Call:
    """One task, as a toolchain sees it.

    script: path relative to the working copy, as typed; None for a `command`.
    arguments: what the user wrote after `--`; reaches argv as it is, after the parameters.
    support: absolute path of a private folder outside the working copy where `Command.files` will lie.
    head: the script's first kilobytes (what `detect` saw): a `#!` line names its interpreter.
    inside: it runs in an image, where nothing of the platform's own is but what the command brings along.
    """

    engine: Engine
    script: str | None
    command: tuple[str, ...]
    arguments: tuple[str, ...]
    parameters: Mapping[str, str]
    support: str
    head: bytes = b""
    inside: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """What the agent starts, in the working copy, with standard input empty.

    files: name -> text, written into the support folder before the start.
    drop: regexes (matched against whole lines without newline, UTF-8 with replacement) kept out of the log.
    sentinel: regex; a stdout line that matches is dropped from the log and proves that the script reached its end.
    report: name of a file in the support folder whose last 64 KiB come back as `Ending.report` (PSPP's `-e`).
    leftovers: globs in the working copy deleted after the end, before outputs are collected.
    collect: file in the support folder -> name in the working copy, moved there after the end when it exists
    (a notebook's executed copy).
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    drop: tuple[str, ...] = ()
    sentinel: str | None = None
    report: str | None = None
    leftovers: tuple[str, ...] = ()
    collect: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Ending:
    """How the process ended. exit_code is 128 + n after signal n.

    stdout, stderr: the last 64 KiB of each stream as text, dropped lines left out. report: see `Command.report`.
    missing: declared outputs (as declared) that matched no file.
    engine: absolute path of the engine that ran it, for hints that name it. inside: it ran in an image.
    """

    exit_code: int
    signal: int | None = None
    sentinel: bool = False
    stdout: str = ""
    stderr: str = ""
    report: str = ""
    missing: tuple[str, ...] = ()
    engine: str = ""
    inside: bool = False


class Toolchain(Protocol):
    """Pure: no I/O, no state. One conformance suite (tests/conformance) holds for each."""

    @property
    def name(self) -> str: ...

    @property
    def engines(self) -> tuple[EngineSpec, ...]:
        """In order of preference."""
        ...

    @property
    def suffixes(self) -> tuple[str, ...]:
        """File endings, lower case with dot, that are this toolchain's."""
        ...

    def engines_for(self, head: bytes, command: tuple[str, ...]) -> tuple[EngineSpec, ...]:
        """The engines that can run this script or command, in order of preference: `engines`, but the one that
        the file names itself (`#!`) or that the command is."""
        ...

    def detect(self, name: str, head: bytes) -> bool:
        """Whether the file of that name, whose first kilobytes are `head`, is written in this toolchain."""
        ...

    def check(self, name: str, content: bytes) -> None:
        """Raises Invalid when the file can be seen to be invalid before a start (a notebook that is none)."""
        ...

    def command(self, call: Call) -> Command: ...

    def diagnose(self, ending: Ending, script: str) -> Reason | None:
        """None for a success. A missing output is not the toolchain's matter, unless it explains it better."""
        ...
