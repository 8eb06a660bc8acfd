"""Backends and their health."""

from __future__ import annotations

from fastapi import APIRouter, Response

from groundplane.api.replies import Here, reply
from groundplane.services import backends

router = APIRouter(tags=["backends"])


@router.get("/backends")
def listing(platform: Here) -> Response:
    """Every backend."""
    return reply(backends.listing(platform))


@router.post("/backends/{name}/check")
def check(platform: Here, name: str) -> Response:
    """A backend's health, looked at now."""
    return reply(backends.check(platform, name))
