"""What has to be brought before tasks can start (URLs that they read, images that they run in), beside the loop."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from sqlalchemy.exc import DBAPIError

from groundplane.model.errors import GroundError

log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
Errand = TypeVar("Errand", bound=Hashable)


class Errands(Generic[Errand]):
    """Runs each errand, `at_once` at a time, until it goes through; then calls `done`. One that is asked for again
    while it is under way is run once more after that: it may be about something that is new since."""

    def __init__(self, name: str, run: Callable[[Errand], None], done: Callable[[], None], at_once: int) -> None:
        self._name = name
        self._run = run
        self._done = done
        self._at_once = at_once
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._wanted: set[Errand] = set()  # in line
        self._under_way: dict[Errand, bool] = {}  # whether it was asked for again
        self._line: queue.SimpleQueue[Errand] = queue.SimpleQueue()
        self._threads = 0

    def add(self, errands: Sequence[Errand]) -> None:
        """What is in line already is there once."""
        with self._lock:
            for each in errands:
                if each in self._under_way:
                    self._under_way[each] = True
            fresh = [e for e in dict.fromkeys(errands) if e not in self._wanted and e not in self._under_way]
            self._wanted.update(fresh)
            more = max(0, min(len(self._wanted), self._at_once - self._threads))
            self._threads += more
        for each in fresh:
            self._line.put(each)
        for _ in range(more):  # they end with the process: a server that trickles must not hold it up
            threading.Thread(target=self._work, name=self._name, daemon=True).start()

    def close(self) -> None:
        """What is under way is dropped; the next control plane begins it anew."""
        self._closing.set()

    def _work(self) -> None:
        while not self._closing.is_set():
            errand = self._line.get()
            with self._lock:
                self._wanted.discard(errand)
                self._under_way[errand] = False
            again = False
            try:
                self._run(errand)
            except (GroundError, DBAPIError) as error:
                log.warning("%s failed, trying again errand=%s error=%s", self._name, errand, error)
                self._closing.wait(_RETRY_SECONDS)
                again = True
            except Exception:
                log.exception("%s failed errand=%s", self._name, errand)
            with self._lock:
                again |= self._under_way.pop(errand)
            if again:
                self.add([errand])
            else:
                self._done()
