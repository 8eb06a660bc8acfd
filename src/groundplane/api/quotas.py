"""Quotas of teams and projects. Their names are no part of a path: a team's may hold a slash."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from groundplane.api.replies import By, Here, body, reply
from groundplane.services import quotas

router = APIRouter(tags=["quotas"])


@dataclass(frozen=True, slots=True)
class QuotaRequest:
    """name: a team's, else a project's; `team:NAME` and `project:NAME` say which. limits: resource (`gpus`, `cpus`,
    `runs`, `seats:NAME`) -> number. over: `queue` or `deny`; null for what each has, or queue."""

    name: str
    limits: Mapping[str, float]
    over: str | None = None


@router.get("/quotas")
def listing(platform: Here, actor: By) -> Response:
    """Every quota that the caller may see, with its use."""
    return reply(quotas.listing(platform, actor))


@router.put("/quotas")
def put(platform: Here, actor: By, request: Annotated[QuotaRequest, Depends(body(QuotaRequest))]) -> Response:
    """Sets limits of a team or a project; its other ones stay."""
    return reply(quotas.put(platform, actor, request.name, request.limits, request.over))


@router.delete("/quotas")
def remove(
    platform: Here,
    actor: By,
    name: Annotated[str, Query(description="as it was set")],
    resource: Annotated[list[str] | None, Query(description="only these")] = None,
) -> Response:
    """Forgets all quotas of a team or a project, or some."""
    quotas.remove(platform, actor, name, resource or ())
    return reply({"ok": True})
