"""What every toolchain says about a process that ended badly, before it looks at its own language's messages."""

from __future__ import annotations

import re
import signal

from groundplane.model.reasons import Reason
from groundplane.spi.toolchain import Ending

MESSAGE_LIMIT = 500
"""Characters of a reason's message: a line that somebody reads, not a log."""

_HINTS = {
    signal.SIGKILL: "the system kills a process that uses too much memory, or somebody did; ask for more with "
    "`--memory`, or read less at once",
    signal.SIGTERM: "somebody or the system asked it to stop",
    signal.SIGINT: "somebody interrupted it",
    signal.SIGSEGV: "native code crashed: an extension module or the interpreter itself; check that packages were "
    "built for this version",
    signal.SIGABRT: "native code gave up; its message is in the log",
    signal.SIGBUS: "a mapped file shrank or memory ran out",
    signal.SIGILL: "a package was built for another processor",
    signal.SIGXFSZ: "a file grew beyond the limit on file sizes",
    signal.SIGPIPE: "it wrote to a pipe whose reader had left",
}


def signal_reason(ending: Ending) -> Reason | None:
    """The reason for an end by a signal, also one that a shell in between reported as 128 + n; else None."""
    number = ending.signal
    if number is None and ending.exit_code - 128 in _HINTS:
        # Only the signals that end processes in practice: a program may well exit with 200 on its own.
        number = ending.exit_code - 128
    return None if number is None else Reason("error", *by_signal(number))


def by_signal(number: int) -> tuple[str, str]:
    """`ended by SIGKILL` and what to do about it."""
    try:
        known = signal.Signals(number)
    except ValueError:
        return f"ended by signal {number}", ""
    return f"ended by {known.name}", _HINTS.get(known, "")


def exit_reason(ending: Ending, detail: str = "", hint: str = "") -> Reason:
    """`exited with status 3`, with what it said last."""
    said = detail or last_line(ending.stderr)
    message = f"exited with status {ending.exit_code}"
    return error(f"{message}: {said}" if said else message, hint)


def error(message: str, hint: str = "") -> Reason:
    """A script's own error, as one line of bounded length."""
    line = re.sub(r"\s+", " ", message).strip()
    return Reason("error", line if len(line) <= MESSAGE_LIMIT else line[: MESSAGE_LIMIT - 1] + "…", hint)


def add_package(name: str) -> str:
    """What to do about a package that an image lacks."""
    return f"an image has what its environment lists: add {name!r} to `packages` of [environments.…] in ground.toml"


def last_line(text: str) -> str:
    """The last line that is not blank; "" when there is none."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
