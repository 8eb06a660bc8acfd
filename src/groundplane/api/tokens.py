"""Tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from groundplane.api.replies import By, Here, body, reply
from groundplane.services import tokens

router = APIRouter(tags=["accounts"])


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """user: whose, the caller's own without one. scopes: the actions it is limited to. lifetime: seconds."""

    user: str | None = None
    scopes: tuple[str, ...] = ()
    lifetime: float | None = None


@router.get("/tokens")
def list_tokens(platform: Here, actor: By) -> Response:
    """Tokens that were not revoked, without what is shown of them."""
    return reply(tokens.listing(platform, actor))


@router.post("/tokens")
def create_token(platform: Here, actor: By, request: Annotated[TokenRequest, Depends(body(TokenRequest))]) -> Response:
    """A new token, told this once."""
    return reply(tokens.create(platform, actor, request.user, request.scopes, request.lifetime), 201)


@router.delete("/tokens/{id}")
def revoke_token(platform: Here, actor: By, id: str) -> Response:  # noqa: A002 - the route's word
    """It does not hold from now on."""
    tokens.revoke(platform, actor, id)
    return reply({"ok": True})
