"""What is to be told of attempts that a driver follows by itself."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Protocol

from groundplane.spi.driver import Changes
from groundplane.spi.launch import Observation


class Told(Protocol):
    """An attempt that is followed. told: the newest observation. number: when it came to be so."""

    attempt: str
    epoch: int
    told: Observation
    number: int


class News:
    """What is to be told of attempts. From any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._number = 0
        self._told: dict[str, Told] = {}  # attempt -> itself, in the order in which it last changed
        self._grown: set[str] = set()
        self._closed = False

    def tell(self, each: Told) -> None:
        """Its observation is new."""
        with self._changed:
            self._number += 1
            each.number = self._number
            self._told.pop(each.attempt, None)
            self._told[each.attempt] = each
            self._changed.notify_all()

    def grew(self, run: str) -> None:
        """The run's log did."""
        with self._changed:
            self._grown.add(run)
            self._changed.notify_all()

    def drop(self, attempt: str) -> None:
        """Nobody asks for it any more."""
        with self._changed:
            self._told.pop(attempt, None)

    def close(self) -> None:
        """Whoever waits goes on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def since(self, cursor: str, timeout: float) -> Changes:
        """See `Driver.changes`."""
        mine, _, number = cursor.partition(":")
        since = int(number) if mine == str(id(self)) and number else 0
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                new = [each for each in self._told.values() if each.number > since]
                left = deadline - time.monotonic()
                if new or self._grown or self._closed or left <= 0:
                    break
                self._changed.wait(left)
            grown, self._grown = tuple(sorted(self._grown)), set()
            told = tuple(replace(each.told, epoch=each.epoch) for each in new)
            return Changes(f"{id(self)}:{self._number}", told, grown)
