"""What a page shows, typed by somebody who reads it.

A fenced block ```console is run in a folder of the page's own: lines that begin with `$ ` are commands, the others
are lines that they print (`…` stands for anything). A command that fails says so: `# exit code 2`. A block whose
info string has a file name (```python fit.py) is written into that folder first. The folder has a copy of examples/.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.e2e.cli_ground import Ground
from tests.parts import require

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(?P<language>\w+)(?: (?P<file>\S+))?\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_EXIT = re.compile(r"#\s*exit code (\d+)\s*$")
_MARK = "::command "
_PARTS = {"r": r"\.R\b|examples/trial", "matlab": r"\.m\b|examples/trial", "spss": r"\.sps\b|examples/trial"}


class Shown(NamedTuple):
    command: str
    code: int
    lines: tuple[str, ...]


@contextmanager
def reader(folder: Path, examples_python: Path) -> Iterator[Ground]:
    """Somebody with a copy of the examples, and the Python that they take."""
    ground = Ground(folder)
    ground.env["PATH"] = f"{examples_python}:{ground.env['PATH']}"
    ground.env["VIRTUAL_ENV"] = str(examples_python.parent)
    shutil.copytree(ROOT / "examples", ground.work / "examples")
    try:
        yield ground
    finally:
        ground.close()


def require_parts(text: str) -> None:
    """Those that the commands take."""
    for part, pattern in _PARTS.items():
        if re.search(pattern, text):
            require(part)


def type_what_it_says(page: Path, reader: Ground) -> None:
    """Every command ends as the page says, and prints what it shows."""
    text = page.read_text(encoding="utf-8")
    require_parts(text)
    for block in BLOCK.finditer(text):
        if block["file"]:
            reader.write(block["file"], block["body"])
        if block["language"] != "console":
            continue
        commands = _shown(block["body"])
        results = _type_all(reader, commands)
        assert len(results) == len(commands), (commands, results)
        for (command, code, lines), (ended, output) in zip(commands, results, strict=True):
            assert ended == code, f"{page.name}: $ {command}\nexit code {ended}\n{output}"
            for line in lines:
                assert _printed(line, output), (
                    f"{page.name}: $ {command}\nis said to print {line!r}, but printed\n{output}"
                )


def _shown(body: str) -> list[Shown]:
    """The commands of a block with what they are said to print."""
    found: list[Shown] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            code = _EXIT.search(line)
            found.append(Shown(_EXIT.sub("", line[2:]).rstrip(), int(code[1]) if code else 0, ()))
        else:
            assert found, f"a block of commands begins with a `$ `: {line!r}"
            last = found[-1]
            found[-1] = last._replace(lines=(*last.lines, line)) if line.strip() else last
    return found


def _type_all(ground: Ground, commands: list[Shown]) -> list[tuple[int, str]]:
    """Types them into one shell; exit code and output of each."""
    script = "".join(f"{each.command}\nprintf '\\n{_MARK}%s\\n' $?\n" for each in commands)
    done = subprocess.run(
        ["bash", "-c", script], cwd=ground.work, env=ground.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=500, encoding="utf-8", check=False,
    )  # fmt: skip
    parts = re.split(rf"^{_MARK}(\d+)\n", done.stdout, flags=re.MULTILINE)
    return [(int(code), text) for text, code in zip(parts[0::2], parts[1::2], strict=False)]


def _printed(line: str, output: str) -> bool:
    """Whether the output has the line; `…` stands for anything, and so does what follows it."""
    pattern = ".*".join(re.escape(part).replace(r"\ ", " +") for part in re.split(r" *… *", line.rstrip()))
    return any(re.fullmatch(pattern, found.rstrip()) for found in output.splitlines())
