"""Toolchains: what is here, what could be, and its installation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Query, Response
from starlette.responses import StreamingResponse

from groundplane.api.problems import problem_of
from groundplane.api.replies import By, Here, line, reply
from groundplane.api.streams import JSON_LINES
from groundplane.model.documents import Context
from groundplane.model.errors import GroundError
from groundplane.services import callers, toolchains
from groundplane.services.access import Actor
from groundplane.services.platform import Platform

router = APIRouter(tags=["toolchains"])

Path = Annotated[str | None, Query(description="PATH to look for engines on; the control plane's own when left out")]


def _context(platform: Platform, actor: Actor, path: str | None) -> Context:
    return callers.settled(platform, actor, Context("/", {} if path is None else {"PATH": path}))


@router.get("/toolchains")
def listing(platform: Here, actor: By, path: Path = None) -> Response:
    """Every toolchain with the engines found on PATH."""
    return reply(toolchains.listing(platform, actor, _context(platform, actor, path)))


@router.get("/toolchains/{name}")
def show(platform: Here, actor: By, name: str, path: Path = None) -> Response:
    """A toolchain with its catalogue: versions known, where each may come from, support end dates."""
    return reply(toolchains.show(platform, actor, name, _context(platform, actor, path)))


@router.post("/toolchains/{name}/install")
def install(platform: Here, actor: By, name: str) -> Response:
    """Installs it. JSON lines: `{"line": …}` of progress; a failure's last one is `{"problem": …}`."""
    progress = toolchains.install(platform, actor, name)
    first = next(progress, None)  # what is refused at once is an ordinary problem
    return StreamingResponse(_lines(first, progress), media_type=JSON_LINES)


def _lines(first: str | None, rest: Iterator[str]) -> Iterator[bytes]:
    if first is None:
        return
    yield line({"line": first})
    try:
        for text in rest:
            yield line({"line": text})
    except GroundError as error:
        yield line({"problem": problem_of(error)})
