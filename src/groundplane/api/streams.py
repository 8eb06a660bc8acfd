"""Streams that end with the control plane, and sleep until something happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from starlette.responses import StreamingResponse

from groundplane.services.platform import Platform

JSON_LINES = "application/jsonl"


class Closing:
    """Whether the control plane is on its way out; streams that sleep are woken by it."""

    def __init__(self) -> None:
        self.closed = False
        self.sleepers: set[asyncio.Event] = set()

    def close(self) -> None:
        """Ends every stream at its next step. From the loop's thread."""
        self.closed = True
        for sleeper in self.sleepers:
            sleeper.set()


class Wake:
    """Sleeps until a topic is notified. `with` it from the loop's thread."""

    def __init__(self, platform: Platform, topic: str, closing: Closing) -> None:
        self._platform, self._topic, self._closing = platform, topic, closing
        self._event = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._unsubscribe: Callable[[], None] | None = None

    def __enter__(self) -> Wake:
        self._unsubscribe = self._platform.notifier.subscribe(self._topic, self._notified)
        self._closing.sleepers.add(self._event)
        return self

    def __exit__(self, *_: object) -> None:
        if self._unsubscribe:
            self._unsubscribe()
        self._closing.sleepers.discard(self._event)

    def _notified(self) -> None:
        if self._event.is_set():  # a waking stream looks at everything: once is enough
            return
        try:
            self._loop.call_soon_threadsafe(self._event.set)
        except RuntimeError:  # the loop has ended: nobody is left to wake
            return

    @property
    def closed(self) -> bool:
        """Whether the stream has to end."""
        return self._closing.closed

    def clear(self) -> None:
        """What happens from now on wakes. Call it before looking, so that nothing falls in between."""
        self._event.clear()

    async def wait(self, seconds: float) -> bool:
        """True when woken, False when the time is over."""
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except TimeoutError:
            return False
        return True


def stream(source: AsyncIterator[bytes], media_type: str = JSON_LINES) -> StreamingResponse:
    """An answer that grows; it ends when the client goes away, and waits for a slow one."""
    return StreamingResponse(source, media_type=media_type, headers={"Cache-Control": "no-store"})
