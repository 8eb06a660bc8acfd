"""Teams and their members."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from groundplane.api.replies import By, Here, body, reply
from groundplane.services import teams

router = APIRouter(tags=["accounts"])


@dataclass(frozen=True, slots=True)
class TeamRequest:
    """parent: the team above it; the root, `platform`, without one."""

    parent: str | None = None


@router.get("/teams")
def list_teams(platform: Here, actor: By) -> Response:
    """Every team with its members and projects."""
    return reply(teams.listing(platform, actor))


@router.get("/teams/{name}")
def show_team(platform: Here, actor: By, name: str) -> Response:
    """One of them."""
    return reply(teams.show(platform, actor, name))


@router.put("/teams/{name}")
def put_team(
    platform: Here, actor: By, name: str, request: Annotated[TeamRequest, Depends(body(TeamRequest))]
) -> Response:
    """Makes a team; the same again changes nothing."""
    return reply(teams.create(platform, actor, name, request.parent))


@router.put("/teams/{name}/members/{user}/{role}")
def add_member(platform: Here, actor: By, name: str, user: str, role: str) -> Response:
    """Gives a user a role in a team."""
    return reply(teams.add(platform, actor, name, user, role))


@router.delete("/teams/{name}/members/{user}")
def remove_member(
    platform: Here,
    actor: By,
    name: str,
    user: str,
    role: Annotated[str | None, Query(description="this role alone")] = None,
) -> Response:
    """Takes a role, or all of them, from a user."""
    return reply(teams.remove(platform, actor, name, user, role))
