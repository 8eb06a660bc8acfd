"""Shell scripts, and any other script whose `#!` line names its interpreter."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import ClassVar

from groundplane.model.reasons import Reason
from groundplane.spi.toolchain import Call, Command, Ending, EngineSpec
from groundplane.toolchains.endings import error, exit_reason, last_line, signal_reason
from groundplane.toolchains.script import ScriptToolchain, option_words, script_path
from groundplane.toolchains.shebang import read_shebang

_PROBES = {
    "bash": (("--version",), r"version (\d[\w.]*)"),
    "zsh": (("--version",), r"zsh (\S+)"),
    "ksh": (("--version",), r"(\d{4}-\d\d-\d\d|93\S*)"),
    "perl": (("--version",), r"\(v([\d.]+)\)"),
}


class ShellToolchain(ScriptToolchain):
    """`sh script.sh --alpha 0.3`, or the interpreter of the `#!` line as the kernel would start it."""

    name: ClassVar[str] = "shell"
    suffixes: ClassVar[tuple[str, ...]] = (".sh", ".bash", ".zsh", ".ksh")
    # dash and its kin print no version, and an unknown option is an error: nothing is asked.
    engines: ClassVar[tuple[EngineSpec, ...]] = (EngineSpec(name="sh", programs=("sh",), probe=(), version=""),)

    def engines_for(self, head: bytes, command: tuple[str, ...]) -> tuple[EngineSpec, ...]:
        """The interpreter that the `#!` line names, else `sh`."""
        shebang = read_shebang(head)
        if shebang is None:
            return self.engines
        probe, version = _PROBES.get(shebang.name, ((), ""))
        return (EngineSpec(name=shebang.name, programs=(shebang.program,), probe=probe, version=version),)

    def detect(self, name: str, head: bytes) -> bool:
        """By the ending, or any `#!` line that no other toolchain has claimed."""
        return PurePosixPath(name).suffix.lower() in self.suffixes or read_shebang(head) is not None

    def command(self, call: Call) -> Command:
        """As the kernel reads `#!`, but without need of the executable bit; `env` looks on the run's PATH."""
        shebang = read_shebang(call.head)
        before = shebang.words if shebang else (call.engine.path,)
        return Command(argv=(*before, script_path(call), *option_words(call.parameters), *call.arguments))

    def diagnose(self, ending: Ending, script: str) -> Reason | None:
        """The shell's own message, which names script and line, when it is what ended the script."""
        if ending.exit_code == 0:
            return None
        by_signal = signal_reason(ending)
        if by_signal is not None:
            return by_signal
        said = last_line(ending.stderr)
        located = re.match(rf"{re.escape(script)}: (?:line )?(\d+): (.+)", said)
        if located is None:
            return exit_reason(ending, said, _hint(ending.exit_code))
        return error(
            f"exited with status {ending.exit_code}: {script}, line {located[1]}: {located[2]}",
            _hint(ending.exit_code),
        )


def _hint(exit_code: int) -> str:
    if exit_code == 127:
        return "a command was not found: install it, or put its folder on PATH before `ground run`"
    if exit_code == 126:
        return "a command could not be started: it is not executable, or a folder"
    return ""


TOOLCHAIN = ShellToolchain()
