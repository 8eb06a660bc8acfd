"""Threads for what would make the loop stand still. Nothing here waits for them at exit."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

from groundplane.agent.loop import Loop

T = TypeVar("T")


class Pool:
    """Runs jobs in order of arrival, at most `width` at a time, and hands the outcome back to the loop."""

    def __init__(self, loop: Loop, width: int) -> None:
        self._loop = loop
        self._width = width
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._threads = 0
        self.busy = 0  # jobs given and not handed back; the loop's thread only

    def run(self, job: Callable[[], T], done: Callable[[T | Exception], None]) -> None:
        """`done` gets what `job` returns or raises, on the loop's thread."""
        self.busy += 1

        def work() -> None:
            outcome: T | Exception
            try:
                outcome = job()
            except Exception as error:  # noqa: BLE001 - handed over, not swallowed
                outcome = error

            def hand_back() -> None:
                self.busy -= 1
                done(outcome)

            self._loop.post(hand_back)

        self._jobs.put(work)
        if self._threads < min(self._width, self.busy):
            self._threads += 1
            threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            self._jobs.get()()


class Syncer:
    """One thread that makes files durable, all that has gathered meanwhile at once."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._batches: SimpleQueue[tuple[list[int], list[int], Callable[[OSError | None], None]]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self.busy = 0

    def sync(self, fds: list[int], close: list[int], done: Callable[[OSError | None], None]) -> None:
        """`done` is called on the loop's thread when all `fds` are durable, or with the error; `close` are closed."""
        self.busy += 1
        self._batches.put((fds, close, done))
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, daemon=True)
            self._thread.start()

    def _serve(self) -> None:
        while True:
            batch = [self._batches.get()]
            while not self._batches.empty():
                batch.append(self._batches.get())
            failure: OSError | None = None
            for fd in dict.fromkeys(fd for fds, _, _ in batch for fd in fds):
                try:
                    os.fdatasync(fd)
                except OSError as error:
                    failure = error
            for _, closing, _ in batch:
                for fd in closing:
                    os.close(fd)
            self._loop.post(self._handed_back(batch, failure))

    def _handed_back(
        self, batch: list[tuple[list[int], list[int], Callable[[OSError | None], None]]], failure: OSError | None
    ) -> Callable[[], None]:
        def hand_back() -> None:
            self.busy -= len(batch)
            for _, _, done in batch:
                done(failure)

        return hand_back
