"""Runs: submitted, planned, listed, shown, cancelled, run again, followed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool

from groundplane.api.follow import follow_stream, log_stream, piece
from groundplane.api.replies import By, Here, body, line, reply
from groundplane.api.standing import Standing
from groundplane.api.streams import stream
from groundplane.client.loglines import Joiner, Piece, json_lines
from groundplane.model.documents import RerunRequest, RunRequest
from groundplane.services import forecasts, runs
from groundplane.services import logs as log_service
from groundplane.services.access import Actor
from groundplane.services.logs import Chunk
from groundplane.services.platform import Platform, iso, now

router = APIRouter(tags=["runs"])

LogForm = Literal["lines", "pieces", "bytes"]


@router.put("/runs/{run_id}")
def submit(
    run_id: str, platform: Here, actor: By, request: Annotated[RunRequest, Depends(body(RunRequest))]
) -> Response:
    """Starts a run under an id (UUIDv7) that the caller made; the same id again is the same run."""
    before = iso(now()) or ""
    document = runs.submit(platform, actor, run_id, request)
    return reply(document, 201 if document.submitted_at >= before else 200)


@router.post("/plans")
def plan(platform: Here, actor: By, request: Annotated[RunRequest, Depends(body(RunRequest))]) -> Response:
    """What the run would do; nothing starts."""
    return reply(forecasts.plan(platform, actor, request))


@router.get("/runs")
def listing(
    platform: Here,
    actor: By,
    state: Annotated[str | None, Query(description="only runs in this state")] = None,
    limit: Annotated[int, Query(description="at most so many, newest first")] = 50,
    cursor: Annotated[str | None, Query(description="`next` of the page before")] = None,
) -> Response:
    """A page of runs, without their tasks."""
    return reply(runs.listing(platform, actor, state, limit, cursor))


@router.get("/runs/{ref}")
def show(platform: Here, actor: By, ref: str) -> Response:
    """A run with its tasks. ref: id, unique beginning of an id, or `latest`."""
    return reply(runs.show(platform, actor, ref))


@router.post("/runs/{ref}/cancel")
def cancel(platform: Here, actor: By, ref: str) -> Response:
    """Asks the run to end; one that has ended is left as it is."""
    return reply(runs.cancel(platform, actor, ref))


@router.post("/runs/{ref}/reruns")
def rerun(
    platform: Here, actor: By, ref: str, request: Annotated[RerunRequest, Depends(body(RerunRequest))]
) -> Response:
    """A new run of this one's snapshot and plan."""
    return reply(runs.rerun(platform, actor, ref, request), 201)


@router.get("/runs/{ref}/follow")
async def follow(
    request: Request,
    platform: Here,
    actor: By,
    ref: str,
    logs: bool = True,
    progress: bool = True,
    waiting: bool = False,
    cursor: str = "",
) -> Response:
    """JSON lines until the run has ended: `{"logs": [piece, …], "cursor": …}`, `{"progress": …}`, last `{"run": …}`.

    waiting: without progress, that of tasks which wait for something is told all the same, a while after the start.
    A piece has task, attempt, stream, at (µs UTC), unfinished, and `text` or `base64`. A follower that lost the
    connection goes on with the last cursor. Empty lines are signs of life.
    """
    run = await _found(request, platform, actor, ref, "log.read" if logs else "run.see")
    await _check_cursor(platform, run, cursor)
    closing = request.app.state.closing
    wanted = "all" if progress else "waiting" if waiting else "none"
    return stream(follow_stream(platform, actor, run, cursor, log=logs, progress=wanted, closing=closing))


@router.get("/runs/{ref}/logs")
async def logs(
    request: Request,
    platform: Here,
    actor: By,
    ref: str,
    task: str | None = None,
    follow: bool = False,
    cursor: str = "",
    form: LogForm = "lines",
) -> Response:
    """The run's log. form: `lines` (JSON lines of LogLine), `pieces` (as in follow, last `{"end": true}`), `bytes`."""
    run = await _found(request, platform, actor, ref, "log.read")
    if task is not None:
        await run_in_threadpool(runs.check_task, platform, run, task)
    await _check_cursor(platform, run, cursor)
    closing = request.app.state.closing
    source = log_stream(platform, run, cursor, task, follow=follow, closing=closing)
    if form == "bytes":
        return stream(_as_bytes(source), "application/octet-stream")
    return stream(_as_pieces(source, lambda: closing.closed) if form == "pieces" else _as_lines(source))


async def _found(request: Request, platform: Platform, actor: Actor, ref: str, action: str) -> str:
    """The id of the run, on which the actor may do `action`, now and for as long as he is told of it."""
    run = await run_in_threadpool(runs.find, platform, actor, ref, action)
    standing: Standing = request.scope["state"]["standing"]
    standing.also(partial(runs.require_still, platform, actor, run, action))
    return run


async def _check_cursor(platform: Platform, run: str, cursor: str) -> None:
    """Raises Invalid for a cursor that is none: once the stream has begun, it would be too late to say so."""
    if cursor:
        await run_in_threadpool(log_service.read, platform, run, cursor, 1, None)


Batches = AsyncIterator[tuple[Sequence[Chunk], str] | None]


async def _as_bytes(source: Batches) -> AsyncIterator[bytes]:
    async for batch in source:  # an empty one tells nothing, and is an occasion to look who reads
        yield b"".join(chunk.data for chunk in batch[0]) if batch is not None else b""


async def _as_lines(source: Batches) -> AsyncIterator[bytes]:
    joiner = Joiner()
    async for batch in source:
        if batch is None:
            yield b"\n"
            continue
        joined = (found for chunk in batch[0] for found in joiner.feed(_piece(chunk)))
        async for part in iterate_in_threadpool(json_lines(joined)):
            yield part
    async for part in iterate_in_threadpool(json_lines(joiner.rest())):
        yield part


async def _as_pieces(source: Batches, closed: Callable[[], bool]) -> AsyncIterator[bytes]:
    async for batch in source:
        if batch is None:
            yield b"\n"
        else:
            yield line({"logs": [piece(chunk) for chunk in batch[0]], "cursor": batch[1]})
    if not closed():  # cut short, it has no end: the follower comes back
        yield line({"end": True})


def _piece(chunk: Chunk) -> Piece:
    return Piece(chunk.task, chunk.attempt, chunk.stream, chunk.at, chunk.data, chunk.unfinished)
