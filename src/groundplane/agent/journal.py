"""What must survive `kill -9`: an append-only file of JSON lines.

The first line is a header (version, boot id). Then one line an event: `accepted`, `starting` (written before the
start), `started` (process id, and the latest time at which it began, in clock ticks), `mark` (a log segment is whole
up to there), `ended` (the whole observation) and `cleaned`. write() is enough against kill -9; `ended` lines are also
synced.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from dataclasses import dataclass, field
from typing import Any

_VERSION = 1
_COMPACT_AT = 16 * 1024 * 1024
TOMBSTONE_SECONDS = 24 * 3600
FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(slots=True)
class Past:
    """What the journal knows of one attempt."""

    epoch: int = 0
    run: str = ""
    channel: str = ""
    starting: bool = False
    pid: int = 0
    ticks: int = 0
    observation: Any = None
    cleaned: float = 0.0  # wall clock, seconds; 0: not cleaned up


@dataclass(slots=True)
class History:
    """The journal as read at start. marks: run -> offset up to which this agent's segment is known to be whole."""

    boot: str = ""
    attempts: dict[str, Past] = field(default_factory=dict[str, Past])
    marks: dict[str, int] = field(default_factory=dict[str, int])


def read(path: str) -> History:
    """The history of a journal; an empty one when there is none. A torn or damaged line counts as not written."""
    history = History()
    try:
        with open(path, "rb") as lines:
            for line in lines:
                try:
                    entry = json.loads(line.decode(errors="surrogateescape"))
                except ValueError:
                    print(f"the journal has a damaged line: {line[:80]!r}", file=sys.stderr, flush=True)
                    continue
                _replay(history, entry)
    except FileNotFoundError:
        pass
    return history


def _replay(history: History, entry: dict[str, Any]) -> None:
    kind = entry["t"]
    if kind == "journal":
        history.boot = entry["boot"]
        return
    if kind == "mark":
        history.marks[entry["run"]] = entry["offset"]
        return
    past = history.attempts.setdefault(entry["attempt"], Past())
    past.epoch = max(past.epoch, entry.get("epoch", 0))
    past.run = entry.get("run", past.run)
    past.channel = entry.get("channel", past.channel)
    if kind == "starting":
        past.starting = True
    elif kind == "started":
        past.pid, past.ticks = entry["pid"], entry["ticks"]
    elif kind == "ended":
        past.observation = entry["observation"]
    elif kind == "cleaned":
        past.cleaned = entry["at"]
        past.observation = None


class Journal:
    """Lines are gathered by `add` and reach the file with `flush`. On a full disk they stay gathered: `stuck`."""

    def __init__(self, path: str, boot: str, history: History) -> None:
        self._path = path
        self._boot = boot
        self._gathered: list[bytes] = []
        self._fd = -1
        self._size = 0
        self._large_from = _COMPACT_AT
        self.stuck = False
        self.write_fresh(history)

    @property
    def fd(self) -> int:
        return self._fd

    def add(self, kind: str, attempt: str, rest: bytes = b"") -> None:
        """`rest`: further members as JSON text that begins with a comma."""
        self._gathered.append(b'{"t":"%s","attempt":"%s"%s}\n' % (kind.encode(), attempt.encode(), rest))

    def mark(self, run: str, offset: int) -> None:
        self._gathered.append(b'{"t":"mark","run":%s,"offset":%d}\n' % (json.dumps(run).encode(), offset))

    def flush(self) -> bool:
        """Whether all that was gathered is in the file."""
        if not self._gathered:
            return True
        data = b"".join(self._gathered)
        self._gathered.clear()
        try:
            while data:
                written = os.write(self._fd, data)
                self._size += written
                data = data[written:]
        except OSError as error:
            if error.errno not in FULL:
                raise
            self._gathered.append(data)
        self.stuck = bool(self._gathered)
        return not self.stuck

    @property
    def large(self) -> bool:
        return self._size > self._large_from and not self.stuck

    def write_fresh(self, history: History) -> None:
        """Replaces the file by one that holds just this; tombstones older than a day are left out."""
        now = time.time()
        lines = [b'{"t":"journal","v":%d,"boot":"%s"}\n' % (_VERSION, self._boot.encode())]
        for run, offset in history.marks.items():
            lines.append(_line({"t": "mark", "run": run, "offset": offset}))
        for name, past in history.attempts.items():
            if past.cleaned:
                if now - past.cleaned < TOMBSTONE_SECONDS:
                    lines.append(_line({"t": "cleaned", "attempt": name, "epoch": past.epoch, "at": past.cleaned}))
                continue
            accepted = {"t": "accepted", "attempt": name, "epoch": past.epoch, "run": past.run}
            lines.append(_line({**accepted, "channel": past.channel} if past.channel else accepted))
            if past.starting:
                lines.append(_line({"t": "starting", "attempt": name}))
            if past.pid:
                lines.append(_line({"t": "started", "attempt": name, "pid": past.pid, "ticks": past.ticks}))
            if past.observation is not None:
                lines.append(_line({"t": "ended", "attempt": name, "observation": past.observation}))
        data = b"".join(lines)
        fresh = self._path + ".new"
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fdatasync(fd)
            os.rename(fresh, self._path)
        except OSError as error:
            os.close(fd)
            if error.errno not in FULL or (self._fd < 0 and not os.path.exists(self._path)):
                raise
            if self._fd < 0:  # the old file has it all, only longer
                self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
                self._size = os.fstat(self._fd).st_size
            return
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._size = fd, len(data)
        self._large_from = max(_COMPACT_AT, 2 * len(data))


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, separators=(",", ":"), ensure_ascii=False).encode(errors="surrogateescape") + b"\n"
