"""What the agent tells: the latest observation of each attempt, in the order in which they came to be so.

A cursor is this agent's incarnation and a number. A cursor of another incarnation means: from the start.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence

from groundplane.agent.journal import TOMBSTONE_SECONDS, History
from groundplane.spi import wire
from groundplane.spi.launch import Observation, Phase

_TOMBSTONES = 200_000


class Entry:
    """`told` is the latest observation that nobody has asked for as JSON yet: most are overtaken by the next."""

    __slots__ = ("_body", "channel", "epoch", "number", "phase", "run", "told")

    def __init__(self, epoch: int, run: str, channel: str) -> None:
        self.epoch = epoch
        self.run = run
        self.channel = channel
        self.number = 0
        self.phase = Phase.ACCEPTED
        self.told: Observation | None = None
        self._body = b""

    @property
    def body(self) -> bytes:
        """The latest observation as JSON, ready to be sent; b"" when there is none."""
        if self.told is not None:
            self._body, self.told = body_of(self.told), None
        return self._body

    @body.setter
    def body(self, body: bytes) -> None:
        self._body, self.told = body, None


class Book:
    """Attempts that are known, and for a day the epochs of those that were cleaned up."""

    def __init__(self) -> None:
        self.incarnation = os.urandom(8).hex()
        self.number = 0
        self.entries: dict[str, Entry] = {}
        self._published: dict[str, Entry] = {}
        self._tombstones: dict[str, tuple[int, float]] = {}

    def accept(self, attempt: str, epoch: int, run: str, channel: str = "") -> None:
        self.entries[attempt] = Entry(epoch, run, channel)

    def publish(self, observation: Observation, body: bytes | None = None) -> None:
        """Makes it the attempt's latest observation; `body` is the same as JSON where that was made already."""
        entry = self.entries.get(observation.attempt)
        if entry is None:
            return  # cleaned up meanwhile
        entry.phase = observation.phase
        if body is None:
            entry.told = observation
        else:
            entry.body = body
        self._move_up(observation.attempt, entry)

    def renew(self, attempt: str, epoch: int) -> None:
        """A submit repeated: the epoch counts from now on, and what is known is told again."""
        entry = self.entries[attempt]
        entry.epoch = epoch
        if entry.body:
            told = wire.parse(entry.body)
            told["epoch"] = epoch
            entry.body = line_of(told)
            self._move_up(attempt, entry)

    def body(self, attempt: str) -> bytes:
        """What `Observe` answers for it."""
        entry = self.entries.get(attempt)
        if entry is None:
            return line_of({"attempt": attempt, "phase": Phase.UNKNOWN})
        return entry.body or line_of({"attempt": attempt, "phase": Phase.ACCEPTED, "epoch": entry.epoch})

    def ended(self, attempt: str) -> bool:
        entry = self.entries.get(attempt)
        return entry is not None and entry.phase in (Phase.ENDED, Phase.LOST)

    def forget(self, attempt: str) -> int:
        """Cleans an entry up and leaves a tombstone with its epoch, which is returned."""
        entry = self.entries.pop(attempt)
        self._published.pop(attempt, None)
        self._bury(attempt, entry.epoch, time.time())
        return entry.epoch

    def tombstone(self, attempt: str) -> int | None:
        """The epoch of an attempt that was cleaned up within a day."""
        found = self._tombstones.get(attempt)
        return None if found is None else found[0]

    def since(self, cursor: str) -> int:
        """The number that a cursor means."""
        incarnation, _, number = cursor.partition(":")
        return int(number) if incarnation == self.incarnation and number.isdigit() else 0

    def cursor(self, number: int) -> str:
        return f"{self.incarnation}:{number}"

    def after(self, number: int, channel: str = "") -> list[bytes]:
        """The channel's observations since then, oldest first."""
        found: list[bytes] = []
        for entry in reversed(self._published.values()):
            if entry.number <= number:
                break
            if entry.channel == channel:
                found.append(entry.body)
        found.reverse()
        return found

    def restore(self, history: History) -> None:
        """What a former agent's journal says."""
        for attempt, past in history.attempts.items():
            if past.cleaned:
                self._bury(attempt, past.epoch, past.cleaned)
            elif past.observation is not None:
                entry = self.entries[attempt] = Entry(past.epoch, past.run, past.channel)
                entry.phase = Phase(past.observation["phase"])
                entry.body = line_of({**past.observation, "epoch": past.epoch})
                self._move_up(attempt, entry)

    def tombstones(self) -> dict[str, tuple[int, float]]:
        return self._tombstones

    def _bury(self, attempt: str, epoch: int, at: float) -> None:
        tombs = self._tombstones
        tombs[attempt] = (epoch, at)
        while tombs:
            oldest = next(iter(tombs))
            if len(tombs) <= _TOMBSTONES and time.time() - tombs[oldest][1] < TOMBSTONE_SECONDS:
                break
            del tombs[oldest]

    def _move_up(self, attempt: str, entry: Entry) -> None:
        self.number += 1
        entry.number = self.number
        self._published.pop(attempt, None)
        self._published[attempt] = entry


def line_of(message: object) -> bytes:
    """JSON without its newline."""
    return wire.encode(message)[:-1]


def joined(bodies: Sequence[bytes]) -> bytes:
    """A JSON array of them."""
    return b"[" + b",".join(bodies) + b"]"


def body_of(observation: Observation) -> bytes:
    """An observation as JSON, without what has its default value."""
    told: dict[str, object] = {"attempt": observation.attempt, "phase": observation.phase}
    for name, default in _DEFAULTS:
        value = getattr(observation, name)
        if value != default:
            told[name] = value
    return line_of(told)


_DEFAULTS = tuple(
    (name, getattr(Observation("", Phase.UNKNOWN), name))
    for name in Observation.__dataclass_fields__
    if name not in ("attempt", "phase")
)


def texts(value: str | Sequence[str]) -> bytes:
    """A text, or an array of texts, as JSON."""
    return json.dumps(value, ensure_ascii=False).encode(errors="surrogateescape")
