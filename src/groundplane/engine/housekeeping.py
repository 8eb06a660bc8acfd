"""What can wait: once an hour the logs of runs that ended are compressed, and what nothing names is deleted."""

from __future__ import annotations

import logging
import threading
import time

from sqlalchemy.exc import DBAPIError

from groundplane.model.errors import GroundError
from groundplane.services import archive, garbage, sessions, tokens
from groundplane.services.audit import retention
from groundplane.services.platform import Platform

log = logging.getLogger(__name__)

_FIRST_SECONDS = 600.0
_EVERY_SECONDS = 3600.0


class Housekeeping:
    """One thread. Not at once: what ended while there was no control plane is settled first."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._closing = threading.Event()
        self._archived = 0

    def start(self) -> None:
        """In the background, until `close`."""
        threading.Thread(target=self._run, name="housekeeping", daemon=True).start()

    def close(self) -> None:
        """Nothing more after what it is doing, which may be cut short at any instant."""
        self._closing.set()

    def once(self) -> None:
        """One round. What fails is tried again in the next."""
        try:
            self._archived = archive.archive_ended(self._platform, self._archived)
            found = garbage.collect(self._platform, time.time())
            sessions.forget(self._platform)
            tokens.forget(self._platform)
            expired = retention.expire(self._platform)
        except (GroundError, DBAPIError, OSError) as error:
            log.warning("housekeeping failed, trying again later error=%s", error)
            return
        log.info("housekeeping deleted %s, and the content of %d old events", found, expired)

    def _run(self) -> None:
        wait = _FIRST_SECONDS
        while not self._closing.wait(wait):
            self.once()
            wait = _EVERY_SECONDS
