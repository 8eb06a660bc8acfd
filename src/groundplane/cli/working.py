"""What takes long: its progress on standard error, its result as a value."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

from groundplane.cli import output


def told(lines: Iterator[Any]) -> Any:
    """The result at the end of lines of progress: one line that changes at a terminal, else a line each."""
    stream = sys.stderr
    live = stream.isatty() and os.environ.get("TERM") != "dumb"
    result: Any = None
    try:
        for body in lines:
            if "line" not in body:
                result = body["result"]
                continue
            text = output.printable(body["line"])
            if live:
                width = max(20, os.get_terminal_size(stream.fileno()).columns - 1)
                stream.write(f"\r\x1b[K{text[:width]}")
            else:
                stream.write(f"{text}\n")
            stream.flush()
    finally:
        if live:
            stream.write("\r\x1b[K")
            stream.flush()
    return result
