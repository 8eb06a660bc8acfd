"""What the toolchains of scripts share: how a file is told to be theirs, and how its command line is made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import ClassVar

from groundplane.spi.toolchain import Call, EngineSpec
from groundplane.toolchains.shebang import read_shebang


class ScriptToolchain:
    """A language whose files are told by their ending, or by a `#!` line when they have none.

    interpreters: regex of the base names that a `#!` line may hold.
    """

    name: ClassVar[str]
    engines: ClassVar[tuple[EngineSpec, ...]]
    suffixes: ClassVar[tuple[str, ...]]
    interpreters: ClassVar[str] = r"(?!)"

    def engines_for(self, head: bytes, command: tuple[str, ...]) -> tuple[EngineSpec, ...]:
        """All of them: a file of these languages names no engine."""
        return self.engines

    def detect(self, name: str, head: bytes) -> bool:
        """By the name's ending; by the `#!` line only for a name without one."""
        suffix = PurePosixPath(name).suffix.lower()
        if suffix:
            return suffix in self.suffixes
        shebang = read_shebang(head)
        return shebang is not None and re.fullmatch(self.interpreters, shebang.name) is not None

    def check(self, name: str, content: bytes) -> None:
        """Nothing can be said before the start: these languages find their own errors."""


def script_path(call: Call) -> str:
    """The script as typed; `./` before a name that an engine would take for an option."""
    script = call.script or ""
    return f"./{script}" if script.startswith("-") else script


def option_words(parameters: Mapping[str, str]) -> tuple[str, ...]:
    """Parameters as argv words: `--alpha`, `0.3`."""
    return tuple(word for name, value in parameters.items() for word in (f"--{name}", value))
