"""Answers that last: whoever reads one has to be somebody who may for as long.

A followed log, a large download, long work: what was shown for it may end meanwhile, and what policy says may change.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.types import Message, Send

from groundplane.api.problems import problem_of
from groundplane.api.replies import line
from groundplane.api.streams import JSON_LINES
from groundplane.model.errors import GroundError

EVERY = 10.0
"""Seconds between two looks at who reads, however much is sent to him."""


class CutShort(Exception):
    """The answer ends here: nothing more of it may be sent. code: of the error that says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Standing:
    """That whoever asked may still be answered: what he showed holds, and policy says so."""

    def __init__(self, shown: Callable[[], object]) -> None:
        """shown: raises GroundError when the token or session has ended."""
        self._holds = [shown]
        self._at = time.monotonic()

    def also(self, holds: Callable[[], object]) -> None:
        """holds: raises GroundError when he may not be told more of it."""
        self._holds.append(holds)

    @property
    def due(self) -> bool:
        """Whether it is time to look."""
        return time.monotonic() - self._at >= EVERY

    def look(self) -> None:
        """Raises GroundError that says what has ended."""
        for holds in self._holds:
            holds()
        self._at = time.monotonic()


def lasting(send: Send, standing: Standing) -> Send:
    """Sends for as long as whoever asked may be answered. Then JSON lines end with `{"problem": …}`, and anything else
    without its end; it raises CutShort to whoever would go on."""
    lines, whole = False, True

    async def sent(message: Message) -> None:
        nonlocal lines, whole
        if message["type"] == "http.response.start":
            lines = (b"content-type", JSON_LINES.encode()) in message.get("headers", ())
        elif message.get("more_body"):
            if standing.due:
                await _look(send, standing, lines, whole)
            whole = message["body"].endswith(b"\n") if message.get("body") else whole
        await send(message)

    return sent


async def _look(send: Send, standing: Standing, lines: bool, whole: bool) -> None:
    try:
        await run_in_threadpool(standing.look)
    except GroundError as error:
        if lines:
            last = (b"" if whole else b"\n") + line({"problem": problem_of(error)})
            await send({"type": "http.response.body", "body": last, "more_body": False})
        raise CutShort(error.code) from error
