"""Once a turn: what has happened is written, made durable, and only then told.

A start is told as soon as it is in the journal; an ending when its log is on the disk, and the journal with it or a
moment later: whoever is told of it makes it durable himself. On a full disk nothing is told before there is room
again: what was recorded is never lost.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

from groundplane.agent.book import Book, body_of
from groundplane.agent.journal import History, Journal
from groundplane.agent.loop import Loop
from groundplane.agent.segments import Segments
from groundplane.agent.threads import Syncer
from groundplane.spi.launch import Observation

_RETRY_FULL = 0.5  # seconds
_SYNC_EVERY = 0.05


class Ledger:
    """changed: told to followers, with the runs whose logs have grown. log_is_full: called with a segment's path."""

    def __init__(
        self,
        loop: Loop,
        journal: Journal,
        segments: Segments,
        book: Book,
        changed: Callable[[set[str]], None],
        log_is_full: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._journal = journal
        self._segments = segments
        self._book = book
        self._changed = changed
        self._log_is_full = log_is_full
        self._syncer = Syncer(loop)
        self._started: list[Observation] = []
        self._ended: list[tuple[Observation, bytes]] = []
        self._synced_at = 0.0
        self._armed: set[str] = set()

    @property
    def untold(self) -> int:
        """Endings, or batches of them, that nobody has been told of yet."""
        return len(self._ended) + self._syncer.busy

    def started(self, told: Observation) -> None:
        self._started.append(told)

    def ended(self, told: Observation) -> None:
        body = body_of(told)
        self._journal.add("ended", told.attempt, b',"observation":' + body)
        self._ended.append((told, body))

    def commit(self, in_a_hurry: bool, history: Callable[[], History]) -> None:
        """in_a_hurry: False where endings may wait for others. history: what a fresh journal would have to hold."""
        grown: set[str] = set()
        if self._segments.touched:
            written, failed = self._segments.write()
            grown = {segment.run for segment in written}
            for segment in failed:
                self._log_is_full(segment.path)
            for segment in self._segments.due_marks():
                self._journal.mark(segment.run, segment.size)
        if not self._journal.flush():
            self._wake_in(_RETRY_FULL, "retry")
            return
        for told in self._started:
            self._book.publish(told)
        if self._started or grown:
            self._started.clear()
            self._changed(grown)
        if self._ended:
            self._sync(in_a_hurry)
        elif self._journal.large and not self._syncer.busy:
            self._journal.write_fresh(history())

    def _sync(self, in_a_hurry: bool) -> None:
        """While more launches wait in line, endings are made durable together: nobody waits for a single one."""
        now = time.monotonic()
        due = self._synced_at + _SYNC_EVERY
        if now < due and not in_a_hurry:
            self._wake_in(due - now, "sync")
            return
        self._synced_at = now
        ended, self._ended = self._ended, []
        fds = [segment.fd for segment in self._segments.unsynced]
        self._segments.unsynced.clear()
        closing = self._segments.close_unused()
        if fds:
            self._syncer.sync([*fds, self._journal.fd], closing, partial(self._durable, ended))
        else:  # no line of a log can be lost: told at once, and the journal is on the disk a moment later
            self._durable(ended, None)
            self._syncer.sync([self._journal.fd], closing, _complain)

    def _wake_in(self, delay: float, what: str) -> None:
        """The turn that a timer brings about commits again."""
        if what not in self._armed:
            self._armed.add(what)
            self._loop.later(delay, partial(self._armed.discard, what))

    def _durable(self, ended: list[tuple[Observation, bytes]], failure: OSError | None) -> None:
        _complain(failure)
        for told, body in ended:
            self._book.publish(told, body)
        self._changed(set())


def _complain(failure: OSError | None) -> None:
    if failure is not None:
        print(f"sync failed: {failure}", file=sys.stderr, flush=True)
