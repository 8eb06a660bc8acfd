"""Carries notifications between control planes on one PostgreSQL: LISTEN and NOTIFY."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterable

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from groundplane.services.platform import Platform

log = logging.getLogger(__name__)

_CHANNEL = "groundplane"
_RETRY_SECONDS = 1.0
_LOOK_SECONDS = 5.0
_END = "end"  # wakes this one's own listener, and means nothing to others


class Relay:
    """Two threads: one says what happened here, one hears what happened there."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._said: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=target, name=f"relay{target.__name__}", daemon=True)
            for target in (self._speak, self._hear)
        ]

    def start(self) -> None:
        """Begins; a topic that is notified here reaches the others' listeners."""
        self._platform.notifier.relay_to(self._say)
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Ends both threads."""
        self._closing.set()
        self._said.put(_END)
        self._said.put(None)
        for thread in self._threads:
            thread.join(timeout=2 * _LOOK_SECONDS)

    def _say(self, topics: Iterable[str]) -> None:
        for topic in topics:
            self._said.put(topic)

    def _speak(self) -> None:
        while (topic := self._said.get()) is not None:
            topics = {topic}
            while not self._said.empty():
                more = self._said.get()
                if more is None:
                    self._said.put(None)
                    break
                topics.add(more)
            try:
                with self._platform.database.write() as connection:
                    for each in sorted(topics):
                        connection.execute(
                            text("SELECT pg_notify(:channel, :said)"),
                            {"channel": _CHANNEL, "said": f"{self._platform.holder} {each}"},
                        )
            except DBAPIError as error:  # the others have their own clocks as a net
                log.warning("notification not sent error=%s", error)

    def _hear(self) -> None:
        import psycopg

        while not self._closing.is_set():
            try:
                with self._platform.database.listen(_CHANNEL) as connection:
                    while not self._closing.is_set():
                        for notice in connection.notifies(timeout=_LOOK_SECONDS, stop_after=1):
                            self._heard(notice.payload)
            except psycopg.Error as error:
                log.warning("not listening, trying again error=%s", error)
                self._closing.wait(_RETRY_SECONDS)

    def _heard(self, said: str) -> None:
        holder, _, topic = said.partition(" ")
        if holder != self._platform.holder:
            self._platform.notifier.notify(topic, local=True)
