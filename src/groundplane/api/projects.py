"""Projects and whose they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from groundplane.api.replies import By, Here, body, reply
from groundplane.services import projects

router = APIRouter(tags=["accounts"])


@dataclass(frozen=True, slots=True)
class ProjectRequest:
    """Whose it is."""

    team: str


@router.get("/projects")
def list_projects(platform: Here, actor: By) -> Response:
    """Every project that belongs to a team."""
    return reply(projects.listing(platform, actor))


@router.put("/projects/{name}")
def put_project(
    platform: Here, actor: By, name: str, request: Annotated[ProjectRequest, Depends(body(ProjectRequest))]
) -> Response:
    """Gives a team a project; the same again changes nothing."""
    return reply(projects.create(platform, actor, name, request.team))
