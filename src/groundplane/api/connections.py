"""Connections: databases and buckets by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from groundplane.api.replies import By, Here, body, reply
from groundplane.services import connections, probing

router = APIRouter(tags=["connections"])


@dataclass(frozen=True, slots=True)
class ConnectionRequest:
    """url: without a password. secret: the name of the one that is its password. project: whose work alone gets it;
    null: that of all projects."""

    url: str
    secret: str | None = None
    project: str | None = None


@router.get("/connections")
def listing(platform: Here, actor: By) -> Response:
    """Every connection."""
    return reply(connections.listing(platform, actor))


@router.put("/connections/{name}")
def put(
    platform: Here, actor: By, name: str, request: Annotated[ConnectionRequest, Depends(body(ConnectionRequest))]
) -> Response:
    """Makes a connection, or changes where it leads."""
    return reply(connections.put(platform, actor, name, request.project, request.url, request.secret))


@router.get("/connections/{name}")
def show(platform: Here, actor: By, name: str, project: str | None = None) -> Response:
    """One connection: that of the project, else that of all."""
    return reply(connections.show(platform, actor, name, project))


@router.post("/connections/{name}/check")
def check(platform: Here, actor: By, name: str, project: str | None = None) -> Response:
    """Whether what it leads to answers this control plane, with its password."""
    return reply(probing.check(platform, actor, name, project))


@router.delete("/connections/{name}")
def remove(platform: Here, actor: By, name: str, project: str | None = None) -> Response:
    """Forgets a connection."""
    connections.remove(platform, actor, name, project)
    return reply({"ok": True})
