"""Writes the log segments: one file a run, appended to once a turn of the loop with all that has come."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from groundplane.agent.journal import FULL
from groundplane.spi import layout
from groundplane.spi import segments as records

_MARK_EVERY = 16 * 1024 * 1024


class Segment:
    """One run's file. `size` is where its last whole record ends."""

    __slots__ = ("_gathered", "fd", "marked", "path", "run", "size", "users")

    def __init__(self, path: str, run: str) -> None:
        self.path = path
        self.run = run
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.size = self.marked = os.fstat(self.fd).st_size
        self.users = 0
        self._gathered: list[bytes] = []

    def add(self, record: bytes) -> None:
        self._gathered.append(record)

    def write(self) -> bool:
        """False when the disk is full: what was gathered is gone, the file ends with a whole record."""
        data = b"".join(self._gathered)
        self._gathered.clear()
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self.fd, view) :]
        except OSError as error:
            if error.errno not in FULL:
                raise
            os.ftruncate(self.fd, self.size)
            return False
        self.size += len(data)
        return True


class Segments:
    """The open segments of this agent. A run's stays open while one of its attempts is alive."""

    def __init__(self, home: Path, writer: str) -> None:
        self._home = home
        self._writer = writer
        self._open: dict[str, Segment] = {}
        self.touched: set[Segment] = set()
        self.unsynced: set[Segment] = set()

    def path(self, run: str) -> str:
        return str(layout.segments(self._home, run) / f"{self._writer}.seg")

    def acquire(self, run: str) -> Segment:
        """The run's segment, opened if need be; `release` it when the attempt has ended. Raises OSError."""
        segment = self._open.get(run)
        if segment is None:
            path = self.path(run)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            segment = self._open[run] = Segment(path, run)
        segment.users += 1
        return segment

    def release(self, segment: Segment) -> None:
        segment.users -= 1

    def close_unused(self) -> list[int]:
        """Descriptors of the segments that nobody uses and nothing has to be synced for; the caller closes them."""
        unused = [s for s in self._open.values() if s.users == 0 and s not in self.touched and s not in self.unsynced]
        for segment in unused:
            del self._open[segment.run]
        return [segment.fd for segment in unused]

    def gather(self, segment: Segment, record: bytes) -> None:
        segment.add(record)
        self.touched.add(segment)

    def write(self) -> tuple[list[Segment], list[Segment]]:
        """Writes all that was gathered: the segments that grew, and those whose disk was full."""
        grown: list[Segment] = []
        failed: list[Segment] = []
        for segment in self.touched:
            (grown if segment.write() else failed).append(segment)
        self.touched.clear()
        self.unsynced.update(grown)
        return grown, failed

    def ends(self) -> dict[str, int]:
        """Run -> where its open segment's last whole record ends."""
        return {segment.run: segment.size for segment in self._open.values()}

    def due_marks(self) -> list[Segment]:
        """Segments that have grown so much that a repair after `kill -9` should not begin at their start."""
        due = [s for s in self._open.values() if s.size - s.marked > _MARK_EVERY]
        for segment in due:
            segment.marked = segment.size
        return due


def repair(path: str, start: int) -> None:
    """Cuts what a killed writer left behind the last whole record; `start` is known to be the end of one."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        size = os.fstat(fd).st_size
        if size <= start:
            return
        whole = start
        with mmap.mmap(fd, size, prot=mmap.PROT_READ) as content:
            while whole < size:
                window = content[whole : whole + (1 << 20)]
                before = whole
                try:
                    for _, end in records.decode(window):
                        whole = before + end
                except records.Damaged:
                    break
                if whole == before:
                    break
        if whole < size:
            os.ftruncate(fd, whole)
    finally:
        os.close(fd)
