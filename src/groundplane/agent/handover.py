"""A newer version takes over in place: the same process, its children and open files, another program.

What runs keeps running: its pipes, and the lock and socket of the agent, are inherited; the rest of what has to be
known is in a file. Working copies that were made ahead are made again.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundplane.agent.attempts import Attempt, Stage
from groundplane.agent.staging import Staged
from groundplane.model.reasons import Reason
from groundplane.spi import files, wire
from groundplane.spi.launch import Launch


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What the predecessor left. waiting: launches in line. running: as `restored` takes them."""

    lock: int
    listening: int
    version: str
    waiting: tuple[Launch, ...]
    running: tuple[dict[str, Any], ...]

    @property
    def names(self) -> frozenset[str]:
        """The attempts that run on."""
        return frozenset(entry["launch"]["attempt"] for entry in self.running)


def _path(home: Path) -> Path:
    return home / "agent" / "handover.json"


def leave(
    home: Path,
    python: str,
    version: str,
    lock: int,
    listening: socket.socket,
    waiting: list[Attempt],
    running: list[Attempt],
) -> None:
    """Becomes the successor; raises OSError when it cannot be started, with nothing lost."""
    entries = [_described(attempt) for attempt in running]
    document = {
        "lock": lock,
        "listening": listening.fileno(),
        "version": version,
        "waiting": [wire.plain(attempt.launch) for attempt in waiting],
        "running": entries,
    }
    fds = [lock, listening.fileno(), *(s.fd for a in running for s in a.streams if s.fd >= 0)]
    files.write(_path(home), wire.encode(document), mode=0o600)  # it has the variables of the work
    for fd in fds:
        os.set_inheritable(fd, True)
    try:
        os.execv(python, [python, "-I", "-m", "groundplane.agent", "--home", str(home), "--take-over"])  # noqa: S606
    except OSError:
        for fd in fds:
            os.set_inheritable(fd, False)
        _path(home).unlink(missing_ok=True)
        raise


def take(home: Path) -> Inheritance:
    """What the predecessor left; its descriptors are private again."""
    body = wire.parse(_path(home).read_bytes())
    _path(home).unlink()
    found = Inheritance(
        lock=body["lock"],
        listening=body["listening"],
        version=body["version"],
        waiting=tuple(wire.decode(Launch, entry) for entry in body["waiting"]),
        running=tuple(body["running"]),
    )
    streams = [s["fd"] for entry in found.running for s in entry["streams"] if s["fd"] >= 0]
    for fd in (found.lock, found.listening, *streams):
        os.set_inheritable(fd, False)
    return found


def _described(attempt: Attempt) -> dict[str, Any]:
    staged = attempt.staged or Staged("copy")
    return {
        "launch": wire.plain(attempt.launch),
        "epoch": attempt.epoch,
        "staged": _plain_staged(staged),
        "reason": wire.plain(attempt.reason) if attempt.reason else None,
        "gpus": attempt.gpus,
        "cores": attempt.cores,
        "muted": attempt.muted,
        "pid": attempt.pid,
        "ticks": attempt.ticks,
        "started_at": attempt.started_at,
        "begun": attempt.begun,
        "kill_at": attempt.kill_at,
        "stopping": attempt.stopping,
        "cpu": attempt.cpu,
        "peak": attempt.peak,
        "lost": {name: list(lost) for name, lost in attempt.lost.items()},
        "grouped": attempt.group is not None,
        "streams": [{"fd": stream.fd, "seen": stream.filter.seen, **stream.state()} for stream in attempt.streams],
    }


def _plain_staged(staged: Staged) -> dict[str, Any]:
    return {
        "mode": staged.mode,
        "placed": staged.placed,
        "in_place": staged.in_place,
        "links": sorted(staged.links),
    }


def restored(entry: dict[str, Any]) -> tuple[Attempt, list[dict[str, Any]]]:
    """A running attempt, and its streams' fds and states; the Runner does the rest."""
    attempt = Attempt(wire.decode(Launch, entry["launch"]))
    staged = entry["staged"]
    attempt.staged = Staged(
        staged["mode"],
        {name: _four(values) for name, values in staged["placed"].items()},
        {name: (source, _four(values)) for name, (source, values) in staged["in_place"].items()},
        frozenset(staged["links"]),
    )
    attempt.stage = Stage.RUNNING
    attempt.reason = wire.decode(Reason, entry["reason"]) if entry["reason"] else None
    for name in ("epoch", "gpus", "cores", "muted", "pid", "ticks", "started_at", "begun", "kill_at", "stopping"):
        setattr(attempt, name, entry[name])
    attempt.cpu, attempt.peak = entry["cpu"], entry["peak"]
    attempt.lost = {name: tuple(lost) for name, lost in entry["lost"].items()}
    return attempt, entry["streams"]


def _four(values: list[int]) -> tuple[int, int, int, int]:
    size, mtime, inode, ctime = values
    return size, mtime, inode, ctime
