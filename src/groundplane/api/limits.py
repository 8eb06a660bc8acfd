"""How much one address may ask for, and how much it may send."""

from __future__ import annotations

import threading
import time

from starlette.types import Message, Receive

from groundplane.model.errors import TooLarge

_KNOWN = 10_000


class Rate:
    """So many a minute from each address, and as many at once. For several threads."""

    def __init__(self, a_minute: int) -> None:
        self._most = float(a_minute)
        self._left: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, address: str) -> bool:
        """Whether one more is within it; it counts then."""
        at = time.monotonic()
        with self._lock:
            left = self._of(address, at)
            if left >= 1:
                self._left.pop(address, None)
                if len(self._left) >= _KNOWN:  # the one that was counted longest ago
                    del self._left[next(iter(self._left))]
                self._left[address] = (left - 1, at)
            return left >= 1

    def over(self, address: str) -> bool:
        """Whether there is nothing left of it."""
        with self._lock:
            return self._of(address, time.monotonic()) < 1

    def _of(self, address: str, at: float) -> float:
        left, before = self._left.get(address, (self._most, at))
        return min(self._most, left + (at - before) * self._most / 60)


def limited(receive: Receive, most: int, declared: bytes | None) -> Receive:
    """Receives no more than so many bytes of a body. Raises TooLarge, at once when its declared length says so."""
    size = 0

    def check(total: int) -> None:
        if total > most:
            raise TooLarge(f"the request is over {most >> 10} KiB", hint="send less at once")

    check(int(declared) if declared is not None and declared.isdigit() else 0)

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        check(size)
        return message

    return counted
