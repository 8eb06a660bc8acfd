"""The audit log: its events, its head, and whether anybody changed it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from starlette.responses import StreamingResponse

from groundplane.api.replies import By, Here, body, reply
from groundplane.api.working import working
from groundplane.services.audit import erasing, exporting, log, verifying, views

router = APIRouter(prefix="/audit", tags=["audit"])


@dataclass(frozen=True, slots=True)
class VerifyRequest:
    """checkpoints: that were kept elsewhere, each by a name for it."""

    checkpoints: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class ForgetRequest:
    """person: by the name that events tell of."""

    person: str


@router.get("/events")
def listing(
    platform: Here,
    actor: By,
    limit: Annotated[int, Query(description="at most so many, newest first")] = 50,
    cursor: Annotated[str | None, Query(description="`next` of the page before")] = None,
    action: Annotated[str | None, Query(description="such as `run.submit`")] = None,
    outcome: Annotated[str | None, Query(description="`done` or `denied`")] = None,
    person: Annotated[str | None, Query(description="whose events")] = None,
) -> Response:
    """What actors did, and what was denied."""
    found = views.listing(platform, actor, limit, cursor, action=action, outcome=outcome, person=person)
    return reply(found)


@router.get("/events/{ref}")
def show(platform: Here, actor: By, ref: str) -> Response:
    """An event by its id or its number, with the leaf as it is in the log."""
    return reply(views.show(platform, actor, ref))


@router.get("/export")
def export(
    platform: Here,
    actor: By,
    form: Annotated[str, Query(alias="format", description="`jsonl`, `ocsf`, `cef` or `syslog`")] = "jsonl",
    reveal: Annotated[bool, Query(description="with names in clear; itself an event")] = False,
) -> Response:
    """The whole log, an event a line, in its order."""
    pieces = exporting.export(platform, actor, form, reveal=reveal)
    return StreamingResponse(pieces, media_type="text/plain; charset=utf-8", headers={"Cache-Control": "no-store"})


@router.get("/checkpoint")
def checkpoint(platform: Here, actor: By) -> Response:
    """The log's head now: a C2SP checkpoint in `note`."""
    return reply({"note": log.head(platform, actor)})


@router.get("/key")
def key(platform: Here, actor: By) -> Response:
    """The C2SP verifier key."""
    return reply({"key": log.key(platform, actor)})


@router.post("/verify")
def verify(platform: Here, actor: By, request: Annotated[VerifyRequest, Depends(body(VerifyRequest))]) -> Response:
    """Whether anybody changed the log. JSON lines: `{"line": …}`, last `{"result": …}` or `{"problem": …}`."""
    return working(lambda progress: verifying.verify(platform, actor, request.checkpoints, progress))


@router.post("/forget")
def forget(platform: Here, actor: By, request: Annotated[ForgetRequest, Depends(body(ForgetRequest))]) -> Response:
    """Deletes a person's key and account: past events tell nothing of them any more, and the log stays whole."""
    erasing.forget(platform, actor, request.person)
    return reply({"ok": True})
