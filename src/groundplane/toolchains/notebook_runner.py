"""Runs one notebook and saves it, executed, in its own place.

    python -I -m groundplane.toolchains.notebook_runner TASK.json

Exit status: 0; 1 when a cell failed or the kernel died, with what happened in the report; N after `sys.exit(N)` in a
cell. After SIGTERM the kernel is ended, the notebook saved as far as it got, and the runner ends by that signal.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import signal
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from groundplane.toolchains import notebook_parameters, tracebacks
from groundplane.toolchains.endings import by_signal


def main() -> int:
    """The argument is the task's file: notebook, python, parameters, arguments, report."""
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    report = Path(task["report"])
    try:
        nbformat: Any = importlib.import_module("nbformat")
        from groundplane.toolchains import notebook_kernel as kernels
    except ImportError as problem:
        return _fail(
            report,
            f"this installation of groundplane cannot run notebooks: {problem}",
            f"install its extra: {sys.executable} -m pip install 'groundplane[notebooks]'",
        )
    warnings.simplefilter("ignore")  # about the notebook's age, which reading it cures
    logging.disable(logging.WARNING)
    path = Path(task["notebook"])
    try:
        notebook: Any = nbformat.read(path, as_version=4)
    except (OSError, ValueError, KeyError, AttributeError) as problem:
        return _fail(report, f"{path} cannot be read as a notebook: {problem}", "open it in Jupyter and save it again")
    with _socket_folder(report.parent) as sockets:
        try:
            execution = _prepare(notebook, task, Path(sockets))
        except kernels.NoKernel as problem:
            return _fail(report, str(problem), problem.hint)
        status = _execute(execution, task, report)
    saved = path.with_name(f".{path.name}.executed")
    nbformat.write(notebook, saved)
    saved.replace(path)
    if execution.stopped:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    return status


def _socket_folder(support: Path) -> tempfile.TemporaryDirectory[str]:
    """A private folder for the kernel's sockets, whose paths have at most 107 bytes."""
    short = len(os.fsencode(support)) <= 80
    return tempfile.TemporaryDirectory(prefix="ground-", dir=support if short else "/tmp", ignore_cleanup_errors=True)  # noqa: S108


def _prepare(notebook: Any, task: dict[str, Any], sockets: Path) -> Any:
    """The execution, its kernel chosen and its parameters injected."""
    from groundplane.toolchains import notebook_kernel as kernels

    nbformat: Any = importlib.import_module("nbformat.v4")
    name, spec, language = kernels.choose_kernel(notebook.metadata, task["python"])
    if "kernelspec" not in notebook.metadata:
        notebook.metadata["kernelspec"] = {"name": name, "display_name": spec.display_name, "language": language}
    if task["parameters"]:
        code = notebook_parameters.source(task["parameters"], language)
        if code is None:
            sys.stderr.write(f"the parameters reach this {language} notebook as GROUND_PARAM_* only\n")
        else:
            cell = nbformat.new_code_cell(code, metadata={"tags": ["injected-parameters"]})
            if (notebook.nbformat, notebook.nbformat_minor) < (4, 5):
                cell.pop("id", None)
            notebook_parameters.inject(notebook, cell)
    manager = kernels.OwnKernelManager(kernel_name=name)
    manager.use(spec, sockets)
    execution = kernels.Execution(notebook, km=manager, timeout=None, startup_timeout=300, kernel_name=name)
    execution.owns_km = True  # it is shut down at the end
    execution.own_manager = manager
    execution.language = language.lower()
    return execution


def _execute(execution: Any, task: dict[str, Any], report: Path) -> int:
    from nbclient.exceptions import DeadKernelError

    from groundplane.toolchains import notebook_kernel as kernels

    words = [task["notebook"], *task["arguments"]]
    # In Jupyter argv is the kernel's own; it is the notebook's only when somebody wrote arguments.
    greeting = f"__import__('sys').argv[:] = {words!r}" if task["arguments"] and execution.language == "python" else ""
    with report.with_name("kernel.txt").open("w+b") as own_output:
        try:
            asyncio.run(execution.run(greeting, own_output if execution.language == "python" else None))
        except kernels.CellFailed as problem:
            return _cell_failed(problem, report, task)
        except (DeadKernelError, asyncio.CancelledError, RuntimeError) as problem:
            if not execution.stopped:
                own_output.seek(0)
                sys.stderr.write(own_output.read().decode(errors="replace"))
                return _died(execution.own_manager.status, str(problem), task["notebook"], report)
    return 0


def _died(status: int | None, problem: str, notebook: str, report: Path) -> int:
    """The kernel is gone; what it ended with is known when it had started."""
    if status is None:
        return _fail(report, f"the kernel of {notebook} does not answer: {problem}", "see the log")
    if status >= 0:
        return _fail(report, f"the kernel of {notebook} exited with status {status} in the middle of a cell", "")
    message, hint = by_signal(-status)
    return _fail(report, f"the kernel of {notebook} was {message}", hint)


def _cell_failed(problem: Any, report: Path, task: dict[str, Any]) -> int:
    """The exit status. `sys.exit()` in a cell is a script's own way to end."""
    if problem.exception == "SystemExit":
        if problem.text in ("", "0", "None"):
            return 0
        number = int(problem.text) & 0xFF if problem.text.lstrip("-").isdigit() else 1
        said = f"exited with status {number}" + ("" if problem.text == str(number) else f": {problem.text}")
        _tell(report, f"{said} ({task['notebook']}, {problem.place})", "")
        return number
    found = tracebacks.Traceback(problem.exception, problem.text.partition("\n")[0])
    message = f"{found.summary} ({task['notebook']}, {problem.place})"
    _tell(report, message, tracebacks.hint(found, task["python"]))
    return 1


def _fail(report: Path, message: str, hint: str) -> int:
    """For what the log does not tell yet."""
    _tell(report, message, hint)
    sys.stderr.write(f"error: {message}\n" + (f"hint: {hint}\n" if hint else ""))
    return 1


def _tell(report: Path, message: str, hint: str) -> None:
    """The reason, for `diagnose`."""
    report.write_text(json.dumps({"message": message, "hint": hint}), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
