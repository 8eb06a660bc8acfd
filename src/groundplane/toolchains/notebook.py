"""Jupyter notebooks: executed from top to bottom, and kept with their outputs."""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, cast

from groundplane.model.errors import Invalid
from groundplane.model.reasons import Reason
from groundplane.spi.toolchain import Call, Command, Ending, EngineSpec
from groundplane.toolchains.endings import error, exit_reason, signal_reason
from groundplane.toolchains.python import LIBRARIES
from groundplane.toolchains.script import ScriptToolchain

# What the runner is made of, for an image: its Python has nbclient and ipykernel, and nothing of ours.
_RUNNER = (
    *("toolchains/notebook_runner", "toolchains/notebook_kernel", "toolchains/notebook_parameters"),
    *("toolchains/tracebacks", "toolchains/endings", "spi/toolchain", "model/reasons", "model/faults"),
)
_START = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from groundplane.toolchains.notebook_runner import main; sys.exit(main())"
)
_TASK = "notebook.json"
_REPORT = "report.json"
_NEWEST = 4  # nbformat's major version
_HINT = "open it in Jupyter and save it again, or name a notebook"


class NotebookToolchain(ScriptToolchain):
    """Run by notebook_runner.py in the platform's own Python; a Python notebook's kernel is the caller's Python."""

    name: ClassVar[str] = "notebook"
    suffixes: ClassVar[tuple[str, ...]] = (".ipynb",)
    engines: ClassVar[tuple[EngineSpec, ...]] = (
        EngineSpec(
            name="python",
            programs=("python", "python3"),
            probe=("--version",),
            version=r"Python (\S+)",
            libraries=LIBRARIES,
            inside="python3",
            note="needs ipykernel; a notebook of another language needs its kernel",
        ),
    )

    def check(self, name: str, content: bytes) -> None:
        """Raises Invalid for a file that no Jupyter would open."""
        try:
            body = json.loads(content.decode("utf-8"))
        except ValueError as problem:
            raise Invalid(f"{name} is no notebook: it is not JSON ({problem})", hint=_HINT) from None
        complaint = _complaint(body)
        if complaint:
            raise Invalid(f"{name} is no notebook: {complaint}", hint=_HINT)

    def command(self, call: Call) -> Command:
        """The executed copy takes the notebook's own place in the working copy."""
        support = PurePosixPath(call.support)
        task = {
            "notebook": call.script,
            "python": call.engine.path,
            "parameters": dict(call.parameters),
            "arguments": list(call.arguments),
            "report": str(support / _REPORT),
        }
        runner = (sys.executable, "-I", "-m", "groundplane.toolchains.notebook_runner")
        return Command(
            argv=(
                *((call.engine.path, "-I", "-c", _START, call.support) if call.inside else runner),
                str(support / _TASK),
            ),
            env={
                # Connection files, history and profile are this run's alone; a home that cannot be written is no harm.
                "JUPYTER_RUNTIME_DIR": str(support / "jupyter"),
                "IPYTHONDIR": str(support / "ipython"),
                "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # a debugger's advice, printed at every start
            },
            files={_TASK: json.dumps(task), **(_sources() if call.inside else {})},
            report=_REPORT,
        )

    def diagnose(self, ending: Ending, script: str) -> Reason | None:
        """What the runner reported: the exception and its cell, a dead kernel, a kernel that is not there."""
        if ending.exit_code == 0:
            return None
        try:
            told = json.loads(ending.report)
        except ValueError:
            return signal_reason(ending) or exit_reason(ending)
        return signal_reason(ending) or error(told["message"], told["hint"])


@cache
def _sources() -> dict[str, str]:
    root = Path(__file__).parents[1]
    return {f"groundplane/{name}.py": (root / f"{name}.py").read_text(encoding="utf-8") for name in _RUNNER}


def _complaint(body: Any) -> str:
    """What keeps the JSON document from being a notebook; "" for nothing."""
    if not isinstance(body, dict):
        return "it holds no JSON object"
    document = cast("dict[str, Any]", body)
    version = document.get("nbformat")
    if not isinstance(version, int) or version < 2:
        return "it has no `nbformat` of 2 or later"
    if version > _NEWEST:
        return f"its `nbformat` is {version}, and {_NEWEST} is the newest known"
    sheets: Any = [document] if version >= 4 else document.get("worksheets")
    if not isinstance(sheets, list):
        return "it has no list of `worksheets`"
    for sheet in cast("list[Any]", sheets):
        cells: Any = _entry(sheet, "cells")
        if not isinstance(cells, list):
            return "it has no list of `cells`"
        for number, cell in enumerate(cast("list[Any]", cells), 1):
            if not isinstance(_entry(cell, "cell_type"), str):
                return f"cell {number} has no `cell_type`"
            if version >= 4 and not isinstance(_entry(cell, "source"), (str, list)):
                return f"cell {number} has no `source`"
    return ""


def _entry(body: Any, key: str) -> Any:
    return cast("dict[str, Any]", body).get(key) if isinstance(body, dict) else None


TOOLCHAIN = NotebookToolchain()
