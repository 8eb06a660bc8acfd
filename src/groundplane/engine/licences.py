"""Has licence servers asked for their counts beside the loop: they may take seconds to answer, or never do."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from sqlalchemy.exc import DBAPIError

from groundplane.model.errors import GroundError
from groundplane.services import licences
from groundplane.services.platform import Platform

log = logging.getLogger(__name__)


class LicenceServers:
    """Each is asked as soon as its former count is too old to be believed."""

    def __init__(self, platform: Platform, done: Callable[[], None]) -> None:
        self._platform = platform
        self._done = done
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._wanted: set[str] = set()

    def ask(self, pools: Iterable[str]) -> None:
        """Has these pools counted anew; `done` is called then. One that is awaited is not asked for twice."""
        with self._lock:
            fresh = set(pools) - self._wanted
            self._wanted |= fresh
        for name in fresh:  # a thread each: one server that does not answer must not hold up another
            threading.Thread(target=self._ask, args=(name,), name=f"licence-{name}", daemon=True).start()

    def close(self) -> None:
        """Nothing more is asked; an answer that is on its way changes nothing here."""
        self._closing.set()

    def _ask(self, name: str) -> None:
        try:
            while not self._closing.is_set() and (left := licences.refresh(self._platform, name)):
                self._closing.wait(left)
        except (GroundError, DBAPIError) as error:
            log.warning("licence server not asked pool=%s error=%s", name, error)
            self._closing.wait(licences.FRESH)
        finally:
            with self._lock:
                self._wanted.discard(name)
        if not self._closing.is_set():
            self._done()
