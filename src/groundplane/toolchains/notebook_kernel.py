"""One notebook in one kernel, with everything that its cells print passed on as it comes. Needs the extra
`groundplane[notebooks]`."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from queue import Empty
from typing import Any, BinaryIO

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbclient.util import ensure_async

_SETTLES_WITHIN = 10.0
_SETTLE = """exec('''
import array, fcntl, termios, time
until = time.monotonic() + 1
left = array.array("i", [0])
for number in (1, 2):
    try:
        while not fcntl.ioctl(number, termios.FIONREAD, left) and left[0] and time.monotonic() < until:
            time.sleep(0.001)
    except OSError:
        pass  # the notebook has put something else there
time.sleep(0.001)  # who has read it passes it on
''', {})"""
"""Until ipykernel has read the pipes that it has made of the kernel's own streams; one who never stops to print is not
waited for."""
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_FAILING_LINE = re.compile(r"^-+> (?P<line>\d+) (?P<source>.*)$", re.MULTILINE)


class NoKernel(Exception):
    """The notebook's kernel cannot be started. The message names it; `hint` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class CellFailed(Exception):
    """A cell raised what it was not expected to raise."""

    def __init__(self, number: int, exception: str, text: str, traceback: str) -> None:
        super().__init__(f"{exception}: {text}" if text else exception)
        self.number = number
        self.exception = exception
        self.text = text
        self.traceback = traceback

    @property
    def place(self) -> str:
        """`cell 3, line 2: int('a')`, the cell's number as in `In [3]`."""
        found = _FAILING_LINE.search(self.traceback)
        return (
            f"cell {self.number}, line {found['line']}: {found['source'].strip()}" if found else f"cell {self.number}"
        )


def _failed(cell: Any) -> CellFailed | None:
    """The first exception among the cell's outputs."""
    for output in cell.get("outputs", []):
        if output["output_type"] == "error":
            traceback = plain("\n".join(output.get("traceback", [])))
            return CellFailed(cell.execution_count or 0, output["ename"], plain(output["evalue"]), traceback)
    return None


def _octave_failed(cell: Any, last_error: str) -> CellFailed | None:
    """Whether Octave's last error is one that it printed in this cell; one that the cell caught is not."""
    message = last_error.strip().removeprefix("error: ")
    printed = "".join(output["text"] for output in cell.outputs if output["output_type"] == "stream")
    first = message.partition("\n")[0]
    if not first or not re.search(rf"^(?:error: )?{re.escape(first)}", printed, re.MULTILINE):
        return None
    return CellFailed(cell.execution_count or 0, "error", " ".join(message.split()), "")


class OwnKernelManager(AsyncKernelManager):
    """A kernel by its specification, wherever that was found. status: what it ended with, -n after signal n."""

    status: int | None = None

    @property
    def kernel_spec(self) -> KernelSpec:
        """As given to `use`."""
        return self._spec

    def use(self, spec: KernelSpec, sockets: Path) -> None:
        """To be called before the start. sockets: a private folder; by TCP, others of this host could connect."""
        self._spec = spec
        self.transport = "ipc"
        self.ip = str(sockets / "k")

    async def is_alive(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Also keeps the status of one that is not."""
        if self.provisioner is None:
            return False
        status = await self.provisioner.poll()
        if status is not None and self.status is None:
            self.status = status
        return status is None


class Execution(NotebookClient):
    """Prints cell output, fails at the first exception, and ends the kernel when it is told to stop."""

    stopped = False
    language = "python"
    own_manager: OwnKernelManager

    async def run(self, greeting: str, own_output: BinaryIO | None) -> None:
        """Executes `greeting` (code that leaves no trace in the notebook) and every cell. Raises CellFailed, nbclient's
        DeadKernelError, or CancelledError after SIGTERM.

        own_output: where the kernel process itself writes; None for the runner's own streams. ipykernel copies there
        what child processes print in a cell, which it also sends as the cell's output.
        """
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()

        def stop() -> None:
            self.stopped = True
            self.shutdown_kernel = "immediate"
            if task:
                task.cancel()

        def started(**_: Any) -> None:
            # nbclient's own handlers end the kernel, but tell nobody.
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stop)
            if greeting and self.kc is not None:
                self.kc.execute(greeting, silent=True, store_history=False)

        self.on_notebook_start = started
        streams: dict[str, Any] = {} if own_output is None else {"stdout": own_output, "stderr": own_output}
        await self.async_execute(reset_kc=False, **streams)

    async def async_execute_cell(self, cell: Any, cell_index: int, *args: Any, **kwargs: Any) -> Any:
        """Also finds the errors of kernels that reply `ok` to a cell that failed (metakernel #175), as an error among
        the outputs or, octave_kernel's way, as mere text."""
        tags = cell.metadata.get("tags", [])
        if cell.cell_type != "code" or self.skip_cells_with_tag in tags:
            return cell
        cell.outputs = []  # also in empty cells, which the kernel never sees
        try:
            await super().async_execute_cell(cell, cell_index, *args, **kwargs)
            await self._settle(cell, cell_index)
        except CellExecutionError as problem:
            await self._settle(cell, cell_index)
            raise _failed(cell) or CellFailed(0, problem.ename, plain(problem.evalue), "") from None
        failed = _failed(cell)
        if failed is None and self.language == "octave" and cell.source.strip():
            failed = _octave_failed(cell, await self._ask('printf("%s", lasterr()); lasterr("");'))
        if failed and "raises-exception" not in tags:
            raise failed
        return cell

    async def _settle(self, cell: Any, cell_index: int) -> None:
        """Takes what child processes printed in the cell and a busy ipykernel reads after it has said that it ended."""
        if self.language != "python" or self.kc is None or not cell.source.strip():
            return
        asked = await ensure_async(self.kc.execute(_SETTLE, silent=True, store_history=False))
        while True:
            try:
                msg = await ensure_async(self.kc.iopub_channel.get_msg(timeout=_SETTLES_WITHIN))
            except Empty:
                return  # whether it lives, the next cell finds out
            if msg["msg_type"] == "stream":
                self.process_message(msg, cell, cell_index)
            elif msg["parent_header"].get("msg_id") == asked and msg["content"].get("execution_state") == "idle":
                return

    async def _ask(self, code: str) -> str:
        """What the code prints; it stands nowhere in the notebook."""
        if self.kc is None:
            return ""
        asked = await ensure_async(self.kc.execute(code, store_history=False))
        said = ""
        while True:
            msg = await ensure_async(self.kc.iopub_channel.get_msg(timeout=60))
            if msg["parent_header"].get("msg_id") != asked:
                continue
            if msg["msg_type"] == "stream":
                said += msg["content"]["text"]
            elif msg["msg_type"] == "status" and msg["content"]["execution_state"] == "idle":
                return said

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        """Passes on what the log shall hold: streams, results as text, tracebacks without colours."""
        content = msg["content"]
        kind = msg["msg_type"]
        if kind == "stream":
            _say(content["text"], content["name"] == "stderr")
        elif kind in ("execute_result", "display_data"):
            text = content["data"].get("text/plain", "")
            if text:
                _say(f"{text}\n", False)
        elif kind == "error":
            _say(
                plain("\n".join(content.get("traceback") or [f"{content['ename']}: {content['evalue']}"])) + "\n", True
            )
        return super().process_message(msg, cell, cell_index)


def choose_kernel(metadata: Any, python: str) -> tuple[str, KernelSpec, str]:
    """(name, specification, language) of the kernel that the notebook asks for. Python's is the caller's own
    interpreter. Raises NoKernel."""
    asked = metadata.get("kernelspec", {})
    name = asked.get("name") or "python3"
    language = (asked.get("language") or metadata.get("language_info", {}).get("name") or "").lower()
    known = KernelSpecManager()
    known.kernel_dirs = [*_folders(python), *known.kernel_dirs]
    spec = None
    if name != "python3" and language != "python":
        try:
            spec = known.get_kernel_spec(name)
        except NoSuchKernel:
            if not re.match(r"python|conda|base|\.?venv", name):
                raise NoKernel(
                    f"there is no kernel {name!r}" + (f" for {language}" if language else ""),
                    f"install it where `jupyter kernelspec list` shows it; there are: "
                    f"{', '.join(sorted(known.find_kernel_specs()))}",
                ) from None
    if spec is not None and spec.language.lower() != "python":
        spec.argv[0] = _program(spec, python)
        return name, spec, spec.language
    if not _has_ipykernel(python):
        raise NoKernel(
            f"{python} has no ipykernel, which runs Python notebooks",
            f"install it for this interpreter: {python} -m pip install ipykernel",
        )
    argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    return "python3", KernelSpec(argv=argv, display_name="Python 3", language="python"), "python"


def _program(spec: KernelSpec, python: str) -> str:
    """What starts the kernel. `python` means the one of the environment that has the kernel, else the caller's;
    jupyter_client would take its own."""
    program = spec.argv[0]
    if re.fullmatch(r"python[\d.]*", program) is None:
        return program
    beside = Path(spec.resource_dir).parents[3] / "bin" / "python3"  # of <prefix>/share/jupyter/kernels/<name>
    return str(beside) if beside.exists() else python


def _folders(python: str) -> list[str]:
    """Where the caller's own environment keeps its kernels."""
    prefixes = [os.environ.get("VIRTUAL_ENV"), os.environ.get("CONDA_PREFIX"), str(Path(python).parent.parent)]
    return [str(Path(prefix) / "share" / "jupyter" / "kernels") for prefix in prefixes if prefix]


def _has_ipykernel(python: str) -> bool:
    question = "import importlib.util as u, sys; sys.exit(u.find_spec('ipykernel') is None)"
    return subprocess.run([python, "-c", question], stdin=subprocess.DEVNULL, check=False).returncode == 0


def plain(text: str) -> str:
    """The text without colours."""
    return _ANSI.sub("", text)


def _say(text: str, to_stderr: bool) -> None:
    stream = sys.stderr if to_stderr else sys.stdout
    stream.write(text)
    stream.flush()
