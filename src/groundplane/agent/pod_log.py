"""What is told of a pod's attempt: lines on standard output; and its log, which is written before it is told."""

from __future__ import annotations

import base64
import os
import time

from groundplane.agent.loop import Loop, Timer
from groundplane.agent.segments import Segment
from groundplane.spi import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_GATHER = 0.02  # seconds
_AT_ONCE = 256 * 1024  # bytes that are not gathered any longer
_PIECE = 8 * 1024  # bytes a line: container runtimes cut lines at 16 KiB


def tell(*lines: bytes) -> None:
    """Lines of JSON, each with its newline, on standard output at once. Raises OSError when nobody listens."""
    view = memoryview(b"".join(lines))
    while view:
        view = view[os.write(1, view) :]


class Log:
    """One attempt's segment. Records that come within a moment are written and told together."""

    def __init__(self, loop: Loop, path: str, run: str, full: Callable[[], None]) -> None:
        """full: called when the disk is; nothing more is written then."""
        self._loop = loop
        self._segment = Segment(path, run)
        self._full = full
        self._gathered: list[bytes] = []
        self._waiting = 0
        self._timer: Timer | None = None
        self._last = 0.0
        self._muted = False

    @property
    def size(self) -> int:
        """Bytes that were written and told."""
        return self._segment.size

    @property
    def path(self) -> str:
        return self._segment.path

    def add(self, record: bytes) -> None:
        if self._muted:
            return
        self._gathered.append(record)
        self._waiting += len(record)
        if self._waiting > _AT_ONCE:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.later(max(0.0, self._last + _GATHER - time.monotonic()), self.flush)

    def flush(self) -> None:
        """Writes and tells what has been gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._last = time.monotonic()
        if not self._gathered:
            return
        data = b"".join(self._gathered)
        self._gathered.clear()
        self._waiting = 0
        start = self._segment.size
        self._segment.add(data)
        if not self._segment.write():
            self._muted = True
            self._full()
            return
        tell(
            *(
                wire.encode({"t": "log", "from": start + at, "data": base64.b64encode(data[at : at + _PIECE]).decode()})
                for at in range(0, len(data), _PIECE)
            )
        )
