"""Built images."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from groundplane.api.replies import By, Here, body, reply
from groundplane.api.working import working
from groundplane.model.documents import PushRequest
from groundplane.services import images

router = APIRouter(tags=["images"])


@router.get("/images")
def listing(platform: Here, actor: By) -> Response:
    """Every image with what it costs and who uses it, newest first."""
    return reply(images.listing(platform, actor))


@router.get("/images/show")
def show(platform: Here, actor: By, name: str) -> Response:
    """An image by its reference, its name in it, or the beginning of its digest."""
    return reply(images.show(platform, actor, name))


@router.post("/images/prune")
def prune(
    platform: Here, actor: By, everything: Annotated[bool, Query(description="also those of recent runs")] = False
) -> Response:
    """Removes images that nobody uses."""
    return reply(images.prune(platform, actor, everything=everything))


@router.post("/images/push")
def push(platform: Here, actor: By, request: Annotated[PushRequest, Depends(body(PushRequest))]) -> Response:
    """Puts an image into a registry. JSON lines: `{"line": …}`, last `{"result": …}` or `{"problem": …}`."""
    return working(lambda progress: images.push(platform, actor, request, progress))
