"""Runs a toolchain's Command as the agent does, with a plain subprocess: support folder, files, dropped lines,
sentinel, report, collected files and leftovers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from groundplane.model.parameters import variable_name
from groundplane.model.reasons import Reason
from groundplane.spi.toolchain import Call, Command, Ending, Engine, EngineSpec, Toolchain

TAIL = 64 * 1024


@dataclass
class Finished:
    """What came of a run. lines: (seconds since the start, stream, text) as they arrived, nothing dropped."""

    command: Command
    ending: Ending
    reason: Reason | None
    stdout: str
    stderr: str
    lines: list[tuple[float, str, str]] = field(default_factory=list)


def find_engine(spec: EngineSpec, folders: Sequence[str] = ()) -> Engine | None:
    """The spec's first program on PATH or in `folders`, with the version that its probe tells."""
    path = os.pathsep.join([*folders, os.environ.get("PATH", os.defpath)])
    located = next((found for program in spec.programs if (found := shutil.which(program, path=path))), None)
    if located is None:
        return None
    version = ""
    if spec.probe:
        done = subprocess.run([located, *spec.probe], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        match = re.search(spec.version, done.stdout + done.stderr)
        assert match, f"{spec.name} did not say its version: {done.stdout}{done.stderr}"
        version = match[1]
    return Engine(spec.name, located, version)


def run_script(
    toolchain: Toolchain,
    engine: Engine,
    tree: Path,
    script: str | None,
    *,
    command: Sequence[str] = (),
    parameters: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    before: Sequence[str] = (),
    on_line: Callable[[subprocess.Popen[bytes], str], None] | None = None,
) -> Finished:
    """One run in the working copy `tree`. before: words in front of argv (`unshare …`). on_line: called with the
    process and each line of stdout as it arrives."""
    support = tree.parent / f"support {tree.name}"
    support.mkdir(mode=0o700, exist_ok=True)
    head = (tree / script).read_bytes()[:4096] if script else b""
    call = Call(engine, script, tuple(command), tuple(arguments), dict(parameters or {}), str(support), head)
    made = toolchain.command(call)
    for name, text in made.files.items():
        (support / name).write_text(text, encoding="utf-8", newline="")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "TMPDIR": str(support),
        **{variable_name(name): value for name, value in (parameters or {}).items()},
        **made.env,
        **(env or {}),
    }
    started = time.monotonic()
    process = subprocess.Popen(
        [*before, *made.argv],
        cwd=tree,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    lines: list[tuple[float, str, str]] = []

    def read(stream: str) -> None:
        pipe = process.stdout if stream == "stdout" else process.stderr
        assert pipe
        with pipe:
            keep(stream, pipe)

    def keep(stream: str, pipe: IO[bytes]) -> None:
        for raw in pipe:
            text = raw.decode(errors="replace")
            lines.append((time.monotonic() - started, stream, text))
            if on_line and stream == "stdout":
                on_line(process, text)

    readers = [threading.Thread(target=read, args=(stream,)) for stream in ("stdout", "stderr")]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    code = process.wait()
    sentinel = False
    kept: dict[str, list[str]] = {"stdout": [], "stderr": []}
    for _, stream, text in lines:
        line = text.removesuffix("\n")
        if made.sentinel and stream == "stdout" and re.fullmatch(made.sentinel, line):
            sentinel = True
        elif not any(re.fullmatch(pattern, line) for pattern in made.drop):
            kept[stream].append(text)
    report = support / made.report if made.report else None
    for pattern in made.leftovers:
        for path in tree.glob(pattern):
            path.unlink()
    for name, target in made.collect.items():
        if (support / name).exists():
            shutil.move(support / name, tree / target)
    ending = Ending(
        exit_code=128 - code if code < 0 else code,
        signal=-code if code < 0 else None,
        sentinel=sentinel,
        stdout="".join(kept["stdout"])[-TAIL:],
        stderr="".join(kept["stderr"])[-TAIL:],
        report=report.read_text(errors="replace")[-TAIL:] if report and report.exists() else "",
        engine=engine.path,
    )
    return Finished(
        made,
        ending,
        toolchain.diagnose(ending, script or ""),
        "".join(kept["stdout"]),
        "".join(kept["stderr"]),
        lines,
    )


def cells(*sources: str) -> Iterator[dict[str, object]]:
    """Notebook cells of code."""
    for source in sources:
        yield {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": source}
