"""Labels of projects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from groundplane.api.replies import By, Here, body, reply
from groundplane.services import labels

router = APIRouter(tags=["labels"])


@dataclass(frozen=True, slots=True)
class LabelsRequest:
    """All of them: those that are left out are its no more."""

    labels: tuple[str, ...]


@router.put("/projects/{name}/labels")
def put_labels(
    platform: Here, actor: By, name: str, request: Annotated[LabelsRequest, Depends(body(LabelsRequest))]
) -> Response:
    """What all data of a project is: its runs have these labels from now on."""
    labels.set_project(platform, actor, name, request.labels)
    return reply({"ok": True})
