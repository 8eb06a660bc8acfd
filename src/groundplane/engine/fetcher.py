"""Fetches the URLs that tasks read into the blob store, beside the loop."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence

from sqlalchemy.exc import DBAPIError

from groundplane.model.errors import GroundError
from groundplane.services import fetching
from groundplane.services.platform import Platform

log = logging.getLogger(__name__)

_AT_ONCE = 4
_RETRY_SECONDS = 1.0
_Wanted = tuple[int, int, str]  # task, run, URL


class Fetcher:
    """Two tasks of a run that read the same URL get the same bytes."""

    def __init__(self, platform: Platform, done: Callable[[], None]) -> None:
        self._platform = platform
        self._done = done
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._wanted: set[_Wanted] = set()  # in line or under way
        self._line: queue.SimpleQueue[_Wanted] = queue.SimpleQueue()
        self._threads = 0

    def resume(self) -> None:
        """Goes on with what a former control plane had begun."""
        self.fetch(fetching.unfinished(self._platform))

    def fetch(self, wanted: Sequence[_Wanted]) -> None:
        """A task is ready when its last URL is here. What is being fetched for it already is not fetched again."""
        with self._lock:
            fresh = [each for each in dict.fromkeys(wanted) if each not in self._wanted]
            self._wanted.update(fresh)
            more = min(len(self._wanted), _AT_ONCE) - self._threads
            self._threads += max(0, more)
        for each in fresh:
            self._line.put(each)
        for _ in range(more):  # they end with the process: a server that trickles must not hold it up
            threading.Thread(target=self._work, name="fetch", daemon=True).start()

    def close(self) -> None:
        """What is under way is dropped; the next control plane begins it anew."""
        self._closing.set()

    def _work(self) -> None:
        while not self._closing.is_set():
            wanted = self._line.get()
            try:
                fetching.fetch(self._platform, *wanted)
            except (GroundError, DBAPIError) as error:
                log.warning("fetch failed, trying again url=%s error=%s", wanted[2], error)
                self._closing.wait(_RETRY_SECONDS)
                self._line.put(wanted)
                continue
            with self._lock:
                self._wanted.discard(wanted)
            self._done()
