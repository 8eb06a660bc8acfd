"""Secrets: set and removed; their values are never answered."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from groundplane.api.replies import By, Here, body, reply
from groundplane.model.errors import Invalid
from groundplane.services import secrets

router = APIRouter(tags=["secrets"])


@dataclass(frozen=True, slots=True)
class SecretRequest:
    """value: its bytes in base64. project: whose work alone gets it; null: that of all projects."""

    value: str
    project: str | None = None


@router.get("/secrets")
def listing(platform: Here, actor: By) -> Response:
    """Every secret without its value."""
    return reply(secrets.listing(platform, actor))


@router.put("/secrets/{name}")
def put(
    platform: Here, actor: By, name: str, request: Annotated[SecretRequest, Depends(body(SecretRequest))]
) -> Response:
    """Sets a secret, in place of what it was."""
    try:
        value = base64.b64decode(request.value, validate=True)
    except (binascii.Error, ValueError):
        raise Invalid("value: it is no base64", hint="see /api/v1/openapi.json for what it may be") from None
    return reply(secrets.put(platform, actor, name, request.project, value))


@router.delete("/secrets/{name}")
def remove(platform: Here, actor: By, name: str, project: str | None = None) -> Response:
    """Forgets a secret."""
    secrets.remove(platform, actor, name, project)
    return reply({"ok": True})
