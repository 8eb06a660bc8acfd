"""Project folders of callers elsewhere, sent here before what is to run on them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from groundplane.api.replies import By, Here, reply
from groundplane.model.errors import Invalid
from groundplane.services import callers

router = APIRouter(tags=["folders"])

_LIMIT = 16 * 1024**3


@router.post("/folders")
async def send(
    request: Request, platform: Here, actor: By, name: Annotated[str, Query(description="the folder's own name")]
) -> Response:
    """Takes a tar of a project folder; `{"folder": …}` is how requests of the same caller name it, for a day."""
    await run_in_threadpool(callers.admit, platform, actor, name)
    platform.require_space()
    where = callers.uploads(platform.home)
    where.mkdir(mode=0o700, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=where, prefix=".tar-")
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123
            size = 0
            async for piece in request.stream():
                size += len(piece)
                if size > _LIMIT:
                    raise Invalid(
                        f"the folder is over {_LIMIT >> 30} GiB", hint="name what is not needed in .groundignore"
                    )
                await run_in_threadpool(file.write, piece)
        return reply({"folder": await run_in_threadpool(callers.receive, platform, actor, name, Path(temporary))}, 201)
    finally:
        os.unlink(temporary)  # noqa: PTH108
