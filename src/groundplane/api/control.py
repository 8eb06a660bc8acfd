"""The control plane itself: health, status, shutdown; doctor and the schema of ground.toml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from groundplane.api.replies import By, Here, body, reply
from groundplane.model.documents import Context
from groundplane.services import doctor, spec
from groundplane.services import status as control

router = APIRouter(tags=["control plane"])


@dataclass(frozen=True, slots=True)
class ShutdownRequest:
    """end_work: also ends what runs; otherwise it runs on, for the next control plane to pick up."""

    end_work: bool = False


@router.get("/health")
def health(platform: Here) -> Response:
    """That it answers."""
    return reply({"ok": True, "version": platform.version, "pid": platform.pid})


@router.get("/status")
def status(platform: Here, actor: By) -> Response:
    """Who answers."""
    return reply(control.show(platform, actor))


@router.post("/shutdown")
def shutdown(
    platform: Here, actor: By, request: Annotated[ShutdownRequest, Depends(body(ShutdownRequest))]
) -> Response:
    """Ends the control plane."""
    control.stop(platform, actor, request.end_work)
    return reply({"ok": True}, 202)


@router.post("/doctor")
def examine(platform: Here, actor: By, context: Annotated[Context, Depends(body(Context))]) -> Response:
    """What the platform finds about this machine and the caller's surroundings."""
    return reply(doctor.examine(platform, actor, context))


@router.get("/schema")
def schema() -> Response:
    """The JSON Schema of ground.toml."""
    return reply(spec.schema())
