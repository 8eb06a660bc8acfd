"""Puts events into the audit log within a second, and hands its checkpoints to the witness."""

from __future__ import annotations

import logging
import threading
import time

from sqlalchemy.exc import DBAPIError

from groundplane.model.errors import GroundError
from groundplane.services.audit import RECORDED, witness
from groundplane.services.audit.log import integrate, leave
from groundplane.services.platform import Platform

log = logging.getLogger(__name__)

_LINGER_SECONDS = 0.4
"""After the first event: its transaction commits meanwhile, and others come along."""
_NET_SECONDS = 5.0
_NET_AMONG_OTHERS = 0.5
"""The events of a control plane beside this one are noticed by looking."""
_RETRY_SECONDS = 5.0


class Recorder:
    """One thread."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._unsubscribe = platform.notifier.subscribe(RECORDED, self._wake.set)
        self._net = _NET_SECONDS if platform.database.sqlite else _NET_AMONG_OTHERS
        self._push_at = 0.0  # by the monotonic clock: when it is looked whether the witness lacks something
        self._pushed_at = -witness.EVERY
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def start(self) -> None:
        """In the background, until `close`. What a former control plane left goes first."""
        self._wake.set()
        self._thread.start()

    def close(self) -> None:
        """Puts what there is into the log, if that can be done, and ends."""
        self._unsubscribe()
        self._closing.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        try:
            # A bucket that does not answer would hold up the end; it gets the rest at the next start.
            self._push_at = self._pushed_at = -witness.EVERY if witness.is_near(self._platform) else float("inf")
            self.once()
            leave(self._platform)
        except (GroundError, DBAPIError) as error:  # nothing is lost: the next control plane does it
            log.warning("the audit log was not completed error=%s", error)

    def once(self) -> None:
        """One round. Raises GroundError when the log takes nothing."""
        entered = integrate(self._platform, in_turn=True)
        now = time.monotonic()
        if entered:
            log.debug("audit log grew events=%d", entered)
            self._push_at = min(self._push_at, self._pushed_at + witness.EVERY)
        if now >= self._push_at:
            if witness.push(self._platform):
                self._pushed_at = now
            self._push_at = now + witness.EVERY

    def _run(self) -> None:
        while not self._closing.is_set():
            if self._wake.wait(self._net) and self._closing.wait(_LINGER_SECONDS):
                return
            self._wake.clear()
            try:
                self.once()
            except (GroundError, DBAPIError) as error:
                log.warning("events wait for their place in the audit log error=%s", error)
                self._closing.wait(_RETRY_SECONDS)
            except Exception:
                log.exception("events wait for their place in the audit log")
                self._closing.wait(_RETRY_SECONDS)
