"""One thread that waits for everything: sockets, pipes, ended processes, timers, and what other threads hand back."""

from __future__ import annotations

import heapq
import itertools
import os
import select
import time
from collections import deque
from collections.abc import Callable

Action = Callable[[], None]


class Timer:
    """A call in the future; `cancel` makes it nothing."""

    __slots__ = ("action",)

    def __init__(self, action: Action) -> None:
        self.action: Action | None = action

    def cancel(self) -> None:
        self.action = None


class Loop:
    """Handlers run one at a time and must not block; they are called again as long as there is something to read."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Action] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._posted: deque[Action] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.watch(self._wake, self._run_posted)

    def watch(self, fd: int, handler: Action) -> None:
        """Calls `handler` whenever `fd` can be read."""
        self._handlers[fd] = handler
        self._epoll.register(fd, select.EPOLLIN)

    def forget(self, fd: int) -> None:
        """The opposite; to be called before the fd is closed."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def want_write(self, fd: int, wanted: bool) -> None:
        """Whether the handler is also called when `fd` can be written."""
        self._epoll.modify(fd, select.EPOLLIN | select.EPOLLOUT if wanted else select.EPOLLIN)

    def later(self, delay: float, action: Action) -> Timer:
        """Calls `action` once, `delay` seconds from now."""
        timer = Timer(action)
        heapq.heappush(self._timers, (time.monotonic() + delay, next(self._numbers), timer))
        return timer

    def post(self, action: Action) -> None:
        """From any thread: `action` is called on the loop's."""
        self._posted.append(action)
        os.eventfd_write(self._wake, 1)

    def turn(self, block: bool) -> bool:
        """Waits (when `block`) and runs what is due. Returns whether there was anything."""
        timers = self._timers
        while timers and timers[0][2].action is None:
            heapq.heappop(timers)
        timeout: float = -1 if block else 0
        if block and timers:
            timeout = max(0.0, timers[0][0] - time.monotonic())
        events = self._epoll.poll(timeout, 128)
        for fd, _ in events:
            handler = self._handlers.get(fd)
            if handler is not None:
                handler()
        due = False
        if timers:
            now = time.monotonic()
            while timers and timers[0][0] <= now:
                action = heapq.heappop(timers)[2].action
                if action is not None:
                    due = True
                    action()
        return due or bool(events)

    def _run_posted(self) -> None:
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            return
        for _ in range(len(self._posted)):
            self._posted.popleft()()
