"""A step's `command = [...]`: started as it is written."""

from __future__ import annotations

from pathlib import PurePosixPath

from groundplane.model.reasons import Reason
from groundplane.spi.toolchain import Call, Command, Ending, EngineSpec
from groundplane.toolchains.endings import exit_reason, signal_reason


class CommandToolchain:
    """No engine of its own and no file: the program is the engine. Parameters reach it as `GROUND_PARAM_*` only,
    because its argv is given whole."""

    name = "command"
    engines: tuple[EngineSpec, ...] = ()
    suffixes: tuple[str, ...] = ()

    def engines_for(self, head: bytes, command: tuple[str, ...]) -> tuple[EngineSpec, ...]:
        """The program by its base name. Nothing is asked of it: an unknown program may do anything with
        `--version`."""
        if not command:
            return ()
        return (EngineSpec(name=PurePosixPath(command[0]).name, programs=(command[0],), probe=(), version=""),)

    def detect(self, name: str, head: bytes) -> bool:
        """Never: a command is declared."""
        return False

    def check(self, name: str, content: bytes) -> None:
        """There is no file."""

    def command(self, call: Call) -> Command:
        """A program with a slash is one of the working copy or absolute, and stays as written; any other is the one
        that was found on the caller's PATH."""
        program, *rest = call.command
        found = program if "/" in program else call.engine.path
        return Command(argv=(found, *rest, *call.arguments))

    def diagnose(self, ending: Ending, script: str) -> Reason | None:
        """Signal or exit status, with the last line of stderr."""
        if ending.exit_code == 0:
            return None
        return signal_reason(ending) or exit_reason(ending)


TOOLCHAIN = CommandToolchain()
