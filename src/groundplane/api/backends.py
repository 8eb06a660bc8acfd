"""Backends and their health."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from groundplane.api.replies import By, Here, body, reply
from groundplane.services import backends

router = APIRouter(tags=["backends"])


@dataclass(frozen=True, slots=True)
class BackendRequest:
    """driver: `docker`, … options: as that driver has them (`host`, `tls`). region, encrypted: what policies are told
    of it."""

    driver: str
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    region: str = ""
    encrypted: bool = False


@router.get("/backends")
def listing(platform: Here, actor: By) -> Response:
    """Every backend."""
    return reply(backends.listing(platform, actor))


@router.put("/backends/{name}")
def add(
    platform: Here, actor: By, name: str, request: Annotated[BackendRequest, Depends(body(BackendRequest))]
) -> Response:
    """Adds a backend; the same again changes nothing."""
    driver, options, region, encrypted = request.driver, request.options, request.region, request.encrypted
    return reply(backends.add(platform, actor, name, driver, options, region=region, encrypted=encrypted))


@router.delete("/backends/{name}")
def remove(platform: Here, actor: By, name: str) -> Response:
    """Forgets a backend that was added; not while an open run needs it."""
    backends.remove(platform, actor, name)
    return reply({"ok": True})


@router.post("/backends/gc")
def collect_garbage(platform: Here, actor: By, name: str | None = None) -> Response:
    """Deletes what lies on a backend, or on all, that no open attempt needs; tells what that was."""
    return reply(backends.collect_garbage(platform, actor, name or None))


@router.post("/backends/{name}/check")
def check(platform: Here, actor: By, name: str) -> Response:
    """A backend's health, looked at now."""
    return reply(backends.check(platform, actor, name))
