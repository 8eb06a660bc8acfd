"""An attempt's streams on the loop, read to their end; and what is left of its tree, brought to one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from functools import partial

from groundplane.agent import processes
from groundplane.agent.attempts import Attempt
from groundplane.agent.capture import UNFINISHED_AFTER, LineFilter, Redactor, Sink, Stream
from groundplane.agent.loop import Loop

KILL_EVERY = 0.05  # seconds between two SIGKILLs to a tree whose main process lives
_LAST_WORDS = 0.1  # seconds that what the main process left behind has for its last lines
_STRAYS_EVERY = 0.01
_GIVE_UP = 10.0  # seconds after which a process that cannot be killed is left behind
_AT_ONCE = 2  # reads when the main process has ended: what is there, and the end
_DRAIN = 64  # reads after the end: more than a pipe holds


class Listener:
    """Of all the loop's attempts. On the loop's thread."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def capture(self, attempt: Attempt, fds: Sequence[int], sink: Sink) -> None:
        """stdout and stderr are read from now on, secrets taken out; records go to `sink`. -1: ended already."""
        launch = attempt.launch
        redactor = Redactor(launch.redact)
        lines = LineFilter(launch.command.drop, launch.command.sentinel)
        for number, fd in enumerate(fds):
            if fd >= 0:
                os.set_blocking(fd, False)
            stream = Stream(fd, number, (launch.task, attempt.name), redactor, lines, sink)
            attempt.streams.append(stream)
            if fd >= 0:
                self._loop.watch(fd, partial(self._readable, attempt, stream))

    def take(self, attempt: Attempt) -> None:
        """What is there now."""
        for stream in attempt.streams:
            self._drain(stream, _AT_ONCE)

    def finish(self, attempt: Attempt) -> None:
        """All that is left, and nothing more; its timers end with it."""
        for stream in attempt.streams:
            self._drain(stream, _DRAIN)
            self._close(stream)
            stream.finish()
        for timer in (attempt.flush_timer, attempt.timeout_timer):
            if timer is not None:
                timer.cancel()

    def _readable(self, attempt: Attempt, stream: Stream) -> None:
        try:
            more = stream.read()
        except BlockingIOError:
            return
        if not more:
            self._close(stream)
        elif stream.waiting and attempt.flush_timer is None:
            attempt.flush_timer = self._loop.later(UNFINISHED_AFTER, partial(_show_unfinished, attempt))

    def _drain(self, stream: Stream, reads: int) -> None:
        """Takes what is there; closes at the end of the stream."""
        try:
            for _ in range(reads):
                if stream.fd < 0:
                    return
                if not stream.read():
                    self._close(stream)
        except BlockingIOError:
            return

    def _close(self, stream: Stream) -> None:
        if stream.fd >= 0:
            self._loop.forget(stream.fd)
            os.close(stream.fd)
            stream.fd = -1


def _show_unfinished(attempt: Attempt) -> None:
    attempt.flush_timer = None
    for stream in attempt.streams:
        stream.show_unfinished()


def end_strays(attempt: Attempt, left: list[int]) -> float | None:
    """Its main process has ended, and these are left of its tree: a moment for last lines (all of the grace when it is
    being stopped), then SIGKILL. Seconds until the next look; None when it is over."""
    now = time.monotonic()
    if not attempt.kill_at:
        attempt.kill_at = now + _LAST_WORDS
    talking = any(stream.fd >= 0 for stream in attempt.streams)
    if left and now < attempt.kill_at and (talking or attempt.stopping):
        return _STRAYS_EVERY * 2
    if left and now < attempt.kill_at + _GIVE_UP:
        processes.send(left, signal.SIGKILL)
        attempt.kill_at = min(attempt.kill_at, now)
        return _STRAYS_EVERY
    return None
