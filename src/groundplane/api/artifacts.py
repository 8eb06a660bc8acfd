"""A run's artifacts and their content. A file's name may be any bytes but `/` and NUL: in a path they are escaped."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote, unquote

from fastapi import APIRouter, Depends, Response
from starlette.convertors import Convertor, register_url_convertor
from starlette.responses import FileResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from groundplane.api.replies import By, Here, body, reply
from groundplane.services import artifacts


class _AnyName(Convertor[str]):
    """Like Starlette's `path`, with newlines."""

    regex = "(?s:.+)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("any", _AnyName())
router = APIRouter(tags=["artifacts"])


class Names:
    """ASGI middleware: names that are no UTF-8 arrive as Python has them; uvicorn would replace their bytes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and "\ufffd" in scope["path"]:
            scope["path"] = unquote(scope["raw_path"].decode("ascii"), errors="surrogateescape")
        await self._app(scope, receive, send)


@router.get("/runs/{ref}/artifacts")
def listing(platform: Here, actor: By, ref: str) -> Response:
    """The run's artifacts."""
    return reply(artifacts.listing(platform, actor, ref))


@router.get("/runs/{ref}/artifacts/{task}/{name:any}")
def content(platform: Here, actor: By, ref: str, task: str, name: str) -> Response:
    """An artifact's bytes; its ETag is their sha256."""
    path, document = artifacts.find(platform, actor, ref, f"{task}/{name}")
    return FileResponse(
        path,
        media_type="application/octet-stream",
        headers={
            "Content-Disposition": f"attachment; filename*=utf-8''{quote(_shown(name))}",
            "ETag": f'"{document.sha256}"',
            "X-Content-Type-Options": "nosniff",
        },
    )


@dataclass(frozen=True, slots=True)
class Declassification:
    """artifact: TASK/NAME. label: what it shall be no more, and why."""

    artifact: str
    label: str
    reason: str


@router.post("/runs/{ref}/declassifications")
def declassify(
    platform: Here, actor: By, ref: str, request: Annotated[Declassification, Depends(body(Declassification))]
) -> Response:
    """Takes a label off an artifact; the artifact as it is then."""
    return reply(artifacts.declassify(platform, actor, ref, request.artifact, request.label, request.reason))


def _shown(name: str) -> str:
    """The file's own name for a browser to store it under: that has to be UTF-8."""
    return os.fsencode(name.rpartition("/")[2]).decode(errors="replace")
