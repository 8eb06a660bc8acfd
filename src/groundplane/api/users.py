"""Users, and who asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from groundplane.api.replies import By, Here, body, reply
from groundplane.services import users

router = APIRouter(tags=["accounts"])


@dataclass(frozen=True, slots=True)
class UserRequest:
    """kind: `user`, or `service` for a program's account, which has no password."""

    kind: str = "user"
    email: str = ""
    password: str | None = None


@dataclass(frozen=True, slots=True)
class UserChange:
    """What is null stays. attributes: those to be set; "" takes one away, and so it does the password."""

    email: str | None = None
    password: str | None = None
    attributes: Mapping[str, str] | None = None


@router.get("/whoami")
def whoami(platform: Here, actor: By) -> Response:
    """Who asks."""
    return reply(users.whoami(platform, actor))


@router.get("/users")
def list_users(platform: Here, actor: By) -> Response:
    """Every account."""
    return reply(users.listing(platform, actor))


@router.put("/users/{name}")
def put_user(
    platform: Here, actor: By, name: str, request: Annotated[UserRequest, Depends(body(UserRequest))]
) -> Response:
    """Makes an account; the same again changes nothing."""
    found = users.create(platform, actor, name, kind=request.kind, email=request.email, password=request.password)
    return reply(found)


@router.patch("/users/{name}")
def set_user(
    platform: Here, actor: By, name: str, request: Annotated[UserChange, Depends(body(UserChange))]
) -> Response:
    """Changes an account."""
    found = users.set_(
        platform, actor, name, email=request.email, password=request.password, attributes=request.attributes
    )
    return reply(found)


@router.post("/users/{name}/disable")
def disable_user(platform: Here, actor: By, name: str) -> Response:
    """Its tokens and sessions end, and its runs that have not begun are cancelled."""
    return reply(users.enable(platform, actor, name, enabled=False))


@router.post("/users/{name}/enable")
def enable_user(platform: Here, actor: By, name: str) -> Response:
    """It may log in again; a lock after wrong passwords is taken away."""
    return reply(users.enable(platform, actor, name, enabled=True))
