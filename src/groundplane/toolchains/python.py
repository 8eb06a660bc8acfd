"""Python scripts, by the caller's interpreter."""

from __future__ import annotations

import re
from typing import ClassVar

from groundplane.model.reasons import Reason
from groundplane.spi.toolchain import Call, Command, Ending, EngineSpec
from groundplane.toolchains import tracebacks
from groundplane.toolchains.endings import error, exit_reason, signal_reason
from groundplane.toolchains.script import ScriptToolchain, option_words, script_path

# Every folder that imports come from, but for the standard library, which the version stands for.
_LIST = """import os, sys
standard = os.path.dirname(os.__file__)
print(*(p for p in sys.path if p and p != standard and not p.endswith(('.zip', 'lib-dynload'))), sep='\\n')
"""
LIBRARIES = ("-c", _LIST)


class PythonToolchain(ScriptToolchain):
    """`python script.py --alpha 0.3`."""

    name: ClassVar[str] = "python"
    suffixes: ClassVar[tuple[str, ...]] = (".py",)
    interpreters: ClassVar[str] = r"python[0-9.]*"
    engines: ClassVar[tuple[EngineSpec, ...]] = (
        EngineSpec(
            name="python",
            programs=("python", "python3"),
            probe=("--version",),
            version=r"Python (\S+)",
            libraries=LIBRARIES,
            inside="python3",
        ),
    )

    def command(self, call: Call) -> Command:
        """Unbuffered, so that progress shows as it is made. Bytecode is written as ever: the working copy is thrown
        away, and a package's first import should not be slow each time."""
        return Command(
            argv=(call.engine.path, script_path(call), *option_words(call.parameters), *call.arguments),
            env={"PYTHONUNBUFFERED": "1"},
        )

    def diagnose(self, ending: Ending, script: str) -> Reason | None:
        """The exception that ended it, with file, line and source."""
        if ending.exit_code == 0:
            return None
        found = tracebacks.last(ending.stderr, script) if ending.exit_code == 1 else None
        if found is None:
            return signal_reason(ending) or exit_reason(ending, hint=_start_hint(ending))
        return error(found.summary, tracebacks.hint(found, ending.engine or "python", inside=ending.inside))


def _start_hint(ending: Ending) -> str:
    if ending.exit_code == 2 and re.search(r"can't open file|can't find '__main__'", ending.stderr):
        return "the script is not in the project folder's snapshot: see `.groundignore`"
    if ending.exit_code == 2 and re.search(r"^usage: ", ending.stderr, re.MULTILINE):
        return "the script refused its arguments: `-p NAME=VALUE` reaches it as `--NAME VALUE`"
    return ""


TOOLCHAIN = PythonToolchain()
