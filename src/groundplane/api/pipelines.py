"""Pipelines as files for other systems."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from groundplane.api.replies import By, Here, body, reply
from groundplane.model.documents import RunRequest
from groundplane.services import compiling

router = APIRouter(tags=["pipelines"])


@router.post("/pipelines/compile/{target}")
def compile_(
    platform: Here, actor: By, target: str, request: Annotated[RunRequest, Depends(body(RunRequest))]
) -> Response:
    """The pipeline as a file for that system (`kubeflow`): `{"pipeline": …, "text": …}`. Nothing starts."""
    return reply(compiling.compile_(platform, actor, request, target))
