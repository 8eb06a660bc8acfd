"""Pools of licence seats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from groundplane.api.replies import By, Here, body, reply
from groundplane.services import licences

router = APIRouter(tags=["licences"])


@dataclass(frozen=True, slots=True)
class LicenceRequest:
    """server: PORT@HOST of a FlexLM server; "" for none, null for the one that the pool has."""

    seats: int
    server: str | None = None


@router.get("/licences")
def listing(platform: Here, actor: By) -> Response:
    """Every pool with who has its seats. A server whose count is old is asked first."""
    return reply(licences.listing(platform, actor))


@router.put("/licences/{name}")
def put(
    platform: Here, actor: By, name: str, request: Annotated[LicenceRequest, Depends(body(LicenceRequest))]
) -> Response:
    """Makes a pool for the engine of that name, or changes it."""
    return reply(licences.put(platform, actor, name, request.seats, request.server))


@router.delete("/licences/{name}")
def remove(platform: Here, actor: By, name: str) -> Response:
    """Forgets a pool: nothing waits for its seats any more."""
    licences.remove(platform, actor, name)
    return reply({"ok": True})
