"""What a container prints, copied to this process's own output: each byte once, whatever becomes of the engine.

An attached stream has every byte at once. Where it broke, the engine's log has what was missed, but not all that came:
bytes that an engine had passed on and not yet logged when it was killed (an unfinished line) are in no log. So what
was logged before the break is matched with what was copied by counting, and what was logged after it is all new.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from groundplane.model.errors import Unavailable
from groundplane.oci.engine import Engine, frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import BufferedReader

_SLACK = 0.05  # seconds: an engine takes longer than that to be started again
_TAIL = 1024


class Output:
    """Raises BrokenPipeError when nobody reads it any more. errors: the last of what the container's stderr had."""

    def __init__(self, engine: Engine, container: str) -> None:
        self._engine = engine
        self._container = container
        self._attached = {1: 0, 2: 0}  # bytes copied from the stream
        self._replayed = {1: 0, 2: 0}  # bytes that only the log had
        self._broke_at = 0.0
        self._whole = True
        self.errors = b""

    def copy(self, reader: BufferedReader, broke_at: float = 0.0) -> bool:
        """From the container's stream, which begins with its first byte; whether it ended in good order.

        broke_at: when it was found to be broken; 0.0: it was not.
        """
        self._whole = True
        for number, data in self._until_it_breaks(frames(reader)):
            self._attached[number] += len(data)
            self._write(number, data)
        self._broke_at = broke_at or time.time()
        return self._whole

    def go_on(self, ahead: float, *, follow: bool = True) -> bool:
        """From the engine's log what has not been copied yet, and what comes, until the container's end; whether it
        was read to its end. ahead: seconds that the engine's clock is ahead of this one's. follow: not only what it
        has now."""
        query = {"stdout": 1, "stderr": 1, "follow": int(follow), "timestamps": 1}
        known, before = dict(self._attached), dict(self._replayed)
        broke_at = self._broke_at + ahead + _SLACK
        self._whole = True
        logged = self._engine.framed("GET", f"/containers/{self._container}/logs", query)
        for number, line in self._until_it_breaks(logged):
            stamp, _, data = line.partition(b" ")
            if known[number]:
                old = seconds(stamp.decode()) <= broke_at
                data, known[number] = (data[known[number] :], max(0, known[number] - len(data))) if old else (data, 0)
            data, before[number] = data[before[number] :], max(0, before[number] - len(data))
            self._replayed[number] += len(data)
            self._write(number, data)
        return self._whole

    def _until_it_breaks(self, found: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        try:
            yield from found
        except (OSError, Unavailable):
            self._whole = False

    def _write(self, number: int, data: bytes) -> None:
        if number == 2:
            self.errors = (self.errors + data)[-_TAIL:]
        while data:
            data = data[os.write(number, data) :]


def seconds(stamp: str) -> float:
    """An instant as the engine writes it, in whichever zone and with nanoseconds, as `time.time` has it."""
    from datetime import datetime  # only where something broke, or somebody interfered

    return datetime.fromisoformat(stamp).timestamp()
