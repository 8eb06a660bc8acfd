"""Policies: added, listed, tried, explained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from groundplane.api.replies import By, Here, body, reply
from groundplane.model.errors import Invalid
from groundplane.services import policies, policy_trials

router = APIRouter(tags=["policies"])


@dataclass(frozen=True, slots=True)
class PolicyText:
    """A Cedar file."""

    text: str


@dataclass(frozen=True, slots=True)
class PolicyRequest:
    """A Cedar file; name: its stem."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """files: `name` and `text` of those to try with the roles; null for the ones in force."""

    cases: tuple[Mapping[str, Any], ...]
    files: tuple[PolicyRequest, ...] | None = None


@router.get("/policies")
def listing(platform: Here, actor: By) -> Response:
    """The file that ships with the roles, then the firm's own."""
    return reply(policies.listing(platform, actor))


@router.put("/policies/{name}")
def add(platform: Here, actor: By, name: str, request: Annotated[PolicyText, Depends(body(PolicyText))]) -> Response:
    """Puts a file in force, in the place of the one of that name."""
    return reply(policies.add(platform, actor, name, request.text))


@router.delete("/policies/{name}")
def remove(platform: Here, actor: By, name: str) -> Response:
    """Takes a file out of force."""
    policies.remove(platform, actor, name)
    return reply({"ok": True})


@router.get("/policies/schema")
def schema(platform: Here, actor: By) -> Response:
    """What policies may speak of."""
    return reply(policies.schema(platform, actor))


@router.post("/policies/check")
def check(platform: Here, actor: By, request: Annotated[PolicyRequest, Depends(body(PolicyRequest))]) -> Response:
    """What is wrong with a file, by line; nothing is added."""
    return reply(policies.check(platform, actor, request.name, request.text))


@router.post("/policies/test")
def test(platform: Here, actor: By, request: Annotated[TrialRequest, Depends(body(TrialRequest))]) -> Response:
    """Decisions on cases beside the expected ones."""
    files = None if request.files is None else [{"name": each.name, "text": each.text} for each in request.files]
    return reply(policy_trials.test(platform, actor, request.cases, files))


@router.post("/policies/simulate")
def simulate(platform: Here, actor: By, request: Annotated[PolicyRequest, Depends(body(PolicyRequest))]) -> Response:
    """Which runs of the last 30 days would have been denied."""
    return reply(policy_trials.simulate(platform, actor, request.name, request.text))


@router.get("/policies/explain")
def explain(
    platform: Here,
    actor: By,
    ref: Annotated[str | None, Query(description="a run or an event: what was decided on it")] = None,
    user: Annotated[str | None, Query(description="else: what is decided now when this user …")] = None,
    action: Annotated[str | None, Query(description="… does this")] = None,
    object_: Annotated[str | None, Query(alias="object", description="… to that")] = None,
) -> Response:
    """A decision with the rule that made it."""
    if ref is not None and user is None:
        return reply(policies.explain(platform, actor, ref))
    if user is None or action is None or object_ is None:
        raise Invalid("what is to be explained?", hint="ref, or user, action and object")
    return reply(policies.explain_for(platform, actor, user, action, object_))
