"""Python's tracebacks, as they stand at the end of a stream."""

from __future__ import annotations

import re
from dataclasses import dataclass

from groundplane.toolchains.endings import add_package

_START = re.compile(r"^(?:Traceback \(most recent call last\):|  File \".*\", line \d+)$", re.MULTILINE)
_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+)(?:, in .*)?$')
_EXCEPTION = re.compile(r"^(?P<name>[A-Za-z_][\w.]*)(?::\s(?P<text>.*))?$")


@dataclass(frozen=True, slots=True)
class Traceback:
    """exception: `ValueError`. text: the first line of its message. file, line, source: the deepest frame in the
    user's own files, "" and 0 when there is none."""

    exception: str
    text: str
    file: str = ""
    line: int = 0
    source: str = ""

    @property
    def summary(self) -> str:
        """`ValueError: text (fit.py, line 3: x = int(y))`."""
        head = f"{self.exception}: {self.text}" if self.text else self.exception
        if not self.file:
            return head
        return f"{head} ({self.file}, line {self.line}{f': {self.source}' if self.source else ''})"


def last(stderr: str, script: str) -> Traceback | None:
    """The last traceback of the text, or a syntax error's, which has frames but no heading; None without one."""
    starts = list(_START.finditer(stderr))
    if not starts:
        return None
    headed = [m for m in starts if m[0].startswith("Traceback")]
    block = stderr[(headed or starts)[-1].start() :].splitlines()
    frames: list[tuple[str, int, str]] = []
    for index, line in enumerate(block):
        frame = _FRAME.match(line)
        if frame:
            below = block[index + 1] if index + 1 < len(block) else ""
            source = below.strip() if below.startswith("    ") and not _FRAME.match(below) else ""
            frames.append((frame["file"], int(frame["line"]), source))
            continue
        exception = _EXCEPTION.match(line)
        if frames and exception:
            file, number, source = _users_own(frames, script)
            return Traceback(exception["name"], exception["text"] or "", file, number, source)
    return None


def _users_own(frames: list[tuple[str, int, str]], script: str) -> tuple[str, int, str]:
    """The deepest frame below the folder in which the script was started, its path relative to that folder."""
    name = re.sub(r"^(\./)+", "", script)
    root = next((file[: -len(name)] for file, _, _ in frames if name and file.endswith("/" + name)), None)
    for file, number, source in reversed(frames):
        if file.startswith("<") or "/site-packages/" in file or "/dist-packages/" in file:
            continue
        if root and file.startswith(root):
            return file[len(root) :], number, source
        if not file.startswith("/"):
            return file, number, source
    return "", 0, ""


def hint(found: Traceback, interpreter: str, *, inside: bool = False) -> str:
    """What to do about the exceptions that have one usual cure; "" for the others."""
    if found.exception == "ModuleNotFoundError":
        missing = re.search(r"No module named '([^'.]+)", found.text)
        if missing and inside:
            return add_package(missing[1])
        if missing:
            return f"install it for this interpreter: {interpreter} -m pip install {missing[1]}"
    if found.exception == "MemoryError":
        return "it asked for more memory than there is: read less at once, or ask for more with `--memory`"
    if found.exception == "FileNotFoundError":
        return (
            "the script ran in a copy of the project folder: paths relative to it work, and files outside it need "
            "their absolute path"
        )
    return ""
