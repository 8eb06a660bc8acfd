"""Work that takes long: it runs in a thread, and its answer tells how far it is."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

from fastapi import Response
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from groundplane.api.problems import problem_of
from groundplane.api.replies import line
from groundplane.api.streams import JSON_LINES
from groundplane.model.errors import GroundError
from groundplane.spi.images import Progress

log = logging.getLogger(__name__)

_SIGN_OF_LIFE = 5.0


class _Gone(Exception):
    """Whom the work was for has gone away."""


def working(work: Callable[[Progress], Any]) -> Response:
    """JSON lines: `{"line": …}` of progress, last `{"result": …}` or `{"problem": …}`; what is refused at once is an
    ordinary problem. The work ends, at its next word, when nobody reads any more."""
    lines: queue.SimpleQueue[dict[str, Any] | GroundError | None] = queue.SimpleQueue()
    gone = threading.Event()

    def say(text: str) -> None:
        if gone.is_set():
            raise _Gone
        lines.put({"line": text})

    def run() -> None:
        try:
            lines.put({"result": work(say)})
        except _Gone:
            pass
        except GroundError as error:
            lines.put(error)
        except Exception as error:
            log.exception("long work failed")
            lines.put(
                GroundError(f"it failed: {type(error).__name__}: {error}", hint="its traceback is in control.log")
            )
        finally:
            lines.put(None)

    def stream(found: dict[str, Any] | GroundError | None) -> Iterator[bytes]:
        while found is not None:
            if isinstance(found, GroundError):
                yield line({"problem": problem_of(found)})
            else:
                yield line(found) if found else b"\n"
            found = _next(lines)

    threading.Thread(target=run, name="working", daemon=True).start()
    first = _next(lines)
    if isinstance(first, GroundError):
        raise first
    return _Told(stream(first), gone)


class _Told(StreamingResponse):
    """Sets `gone` when nobody reads any more: the generator's own end may be long in coming, for whoever left in the
    middle leaves it in a cycle of references, or never begun."""

    def __init__(self, body: Iterator[bytes], gone: threading.Event) -> None:
        super().__init__(body, media_type=JSON_LINES)
        self._gone = gone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._gone.set()


def _next(lines: queue.SimpleQueue[dict[str, Any] | GroundError | None]) -> dict[str, Any] | GroundError | None:
    """The next one; {} when there is none for a while: a sign of life, which fails where nobody reads any more."""
    try:
        return lines.get(timeout=_SIGN_OF_LIFE)
    except queue.Empty:
        return {}
