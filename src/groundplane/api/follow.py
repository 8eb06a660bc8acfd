"""A run's log and states as they come."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

from starlette.concurrency import run_in_threadpool

from groundplane.api.problems import problem_of
from groundplane.api.progress import Seen
from groundplane.api.replies import line
from groundplane.api.streams import Closing, Wake
from groundplane.model.documents import RunDocument
from groundplane.model.errors import GroundError
from groundplane.model.states import FINAL
from groundplane.services import logs, runs
from groundplane.services.access import Actor
from groundplane.services.logs import Chunk
from groundplane.services.platform import Platform

_BATCH = 256 * 1024
_NET = 1.0
"""Seconds after which a follower looks without having been woken: other control planes may have done the work."""
_SIGN_OF_LIFE = 5.0
"""Seconds without a word after which an empty one is sent: each is an occasion to look who reads (api/standing.py)."""
_SHARE = 10
"""A look at a run takes at most a tenth of the time between two, however many tasks it has."""
_PIPELINE_PAUSE = 0.05
_LONGEST_PAUSE = 0.03
_SILENCE = 0.3
"""Seconds from which on a follower who wants no progress else may be told what the run waits for."""
Progress = Literal["all", "waiting", "none"]


async def batches(
    platform: Platform, run: str, cursor: str, task: str | None
) -> AsyncIterator[tuple[Sequence[Chunk], str]]:
    """The log since the cursor, until there is no more of it now."""
    while True:
        chunks, after = await run_in_threadpool(logs.read, platform, run, cursor, _BATCH, task)
        if after == cursor:
            return
        cursor = after
        if chunks:
            yield chunks, cursor


async def log_stream(
    platform: Platform, run: str, cursor: str, task: str | None, *, follow: bool, closing: Closing
) -> AsyncIterator[tuple[Sequence[Chunk], str] | None]:
    """The log since the cursor; `follow`: until the run has ended. None is a sign of life."""
    with Wake(platform, run, closing) as wake:
        quiet = time.monotonic()
        while not wake.closed:
            wake.clear()
            ended = not follow or await run_in_threadpool(runs.state, platform, run) in FINAL
            async for chunks, after in batches(platform, run, cursor, task):
                cursor, quiet = after, time.monotonic()
                yield chunks, cursor
            if ended:
                return
            await wake.wait(_NET)
            if time.monotonic() - quiet > _SIGN_OF_LIFE:
                quiet = time.monotonic()
                yield None


async def follow_stream(
    platform: Platform, actor: Actor, run: str, cursor: str, *, log: bool, progress: Progress, closing: Closing
) -> AsyncIterator[bytes]:
    """JSON lines: `{"logs": […], "cursor": …}`, `{"progress": …}`, and last `{"run": …}`."""
    try:
        async for part in _followed(platform, actor, run, cursor, log=log, progress=progress, closing=closing):
            yield part
    except GroundError as error:
        yield line({"problem": problem_of(error)})


async def _followed(
    platform: Platform, actor: Actor, run: str, cursor: str, *, log: bool, progress: Progress, closing: Closing
) -> AsyncIterator[bytes]:
    seen = Seen()
    start = due = quiet = time.monotonic()
    asked = start + _SILENCE - _NET
    with Wake(platform, run, closing) as wake:
        stale = True
        while not wake.closed:
            wake.clear()
            ended, document = False, None
            if stale and time.monotonic() >= due:
                began = time.monotonic()
                whole = progress == "all" or (progress == "waiting" and began - asked > _NET)
                asked = began if whole else asked
                ended, document = await _look(platform, actor, run, whole)
                now = time.monotonic()
                due, stale = now + _pause(document, now - began, now - start), False
                change = seen.update(document) if document is not None else None
                if change is not None and (progress == "all" or any(task.waiting for task in change.changed)):
                    quiet = now
                    yield line({"progress": change})
            if log:
                # After the look: what had ended then has all of its log now.
                async for chunks, after in batches(platform, run, cursor, None):
                    cursor, quiet = after, time.monotonic()
                    yield line({"logs": [piece(chunk) for chunk in chunks], "cursor": cursor})
            if ended:
                yield line({"run": document or await run_in_threadpool(runs.document, platform, run, actor)})
                return
            await wake.wait(max(due - time.monotonic(), 0.001) if stale else _NET)
            stale = True
            if time.monotonic() - quiet > _SIGN_OF_LIFE:
                quiet = time.monotonic()
                yield b"\n"


async def _look(platform: Platform, actor: Actor, run: str, whole: bool) -> tuple[bool, RunDocument | None]:
    """Whether it has ended, and the run when it is wanted: that costs more."""
    if not whole:
        return await run_in_threadpool(runs.state, platform, run) in FINAL, None
    document = await run_in_threadpool(runs.document, platform, run, actor)
    return document.state in FINAL, document


def _pause(document: RunDocument | None, cost: float, age: float) -> float:
    """Seconds to the next look: none for a run that has just begun, more for one that has taken long already."""
    several = document is not None and len(document.tasks) > 1
    return max(_SHARE * cost, _PIPELINE_PAUSE if several else min(_LONGEST_PAUSE, age / 20))


def piece(chunk: Chunk) -> dict[str, Any]:
    """A chunk as it travels: `text`, or `base64` for bytes that are no UTF-8. at: µs UTC."""
    try:
        content = {"text": chunk.data.decode()}
    except UnicodeDecodeError:
        content = {"base64": b64encode(chunk.data).decode()}
    return {
        "task": chunk.task,
        "attempt": chunk.attempt,
        "stream": chunk.stream,
        "at": chunk.at,
        "unfinished": chunk.unfinished,
        **content,
    }
