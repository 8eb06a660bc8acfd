"""Quotas: what a team, with all below it, or a project may have at once. Beyond it work waits, or is denied.

What is used is never kept but counted from what is open (services/shares.py), so nothing that ends in whatever way can
keep any of it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from groundplane.model.documents import QuotaDocument
from groundplane.model.errors import Denied, Invalid, NotFound
from groundplane.model.reasons import Reason
from groundplane.services import gate, licences, shares, visibility
from groundplane.services.access import Actor
from groundplane.services.notices import WORK
from groundplane.services.objects import PLATFORM_TEAM, Resource
from groundplane.services.plans import RunPlan
from groundplane.services.platform import Platform
from groundplane.services.shares import EXCEEDED, SEATS, WHOLE, Asked, Quota
from groundplane.store import quotas, runs, teams

OVER = ("queue", "deny")
_RESOURCES = "gpus, cpus, runs, seats:ENGINE"
_MOST = 10**9
_NAME = re.compile(r"[^\x00-\x20\x7f][^\x00-\x1f\x7f]{0,199}")


# --- what a user does -------------------------------------------------------------------------------------------


def put(
    platform: Platform, actor: Actor, name: str, limits: Mapping[str, float], over: str | None
) -> list[QuotaDocument]:
    """Sets these limits of a team or a project; others of it stay. over: None keeps what each has, or queues.

    name: a team's, else a project's, which may be no more than a name in ground.toml; `team:NAME` and `project:NAME`
    where both are called so.
    """
    gate.require(platform, actor, "quota.set", Resource("quota", name))
    if not limits:
        raise Invalid("there is no limit to set", hint="write one, like gpus=4")
    if over is not None and over not in OVER:
        raise Invalid(f"--over {over!r} is not known", hint="queue or deny")
    ceilings = {resource: _ceiling(resource, limit) for resource, limit in limits.items()}
    with gate.change(platform, actor, "quota.set", name, limits=dict(limits), over=over) as connection:
        kind, own = _owner(connection, name)
        if kind == "project":
            visibility.require_made(actor, own, team_of(connection, own))
        known = {(row.kind, row.name, row.resource): row.over for row in quotas.locked(connection)}
        for resource, ceiling in ceilings.items():
            kept = known.get((kind, own, resource), OVER[0])
            quotas.put(connection, kind, own, resource, ceiling, over or kept)
    platform.notifier.notify(WORK)
    with platform.database.read() as connection:
        return [each for each in _documents(connection) if (each.kind, each.name) == (kind, own)]


def remove(platform: Platform, actor: Actor, name: str, resources: Sequence[str]) -> None:
    """Forgets these quotas of a team or project, or all that it has. Raises NotFound."""
    with gate.change(platform, actor, "quota.remove", name, resources=list(resources)) as connection:
        rows = quotas.locked(connection)
        kind, own = _owner(connection, name, {(row.kind, row.name) for row in rows})
        known = [row.resource for row in rows if (row.kind, row.name) == (kind, own)]
        for resource in resources or known:
            quotas.remove(connection, kind, own, resource)
        lacking = [resource for resource in resources if resource not in known]
        if lacking or not known:
            what = f"of {', '.join(lacking)}" if lacking else "at all"
            raise NotFound(f"{name!r} has no quota {what}", hint="`ground quotas list` shows them")
    platform.notifier.notify(WORK)


def listing(platform: Platform, actor: Actor) -> list[QuotaDocument]:
    """Every quota that the actor may see, with its use."""
    with platform.database.read() as connection:
        return [
            each
            for each in _documents(connection)
            if gate.decide(platform, connection, actor, "quota.see", _resource(connection, each)).allowed
        ]


def _resource(connection: Connection, quota: QuotaDocument) -> Resource:
    if quota.kind == "team":
        return Resource("quota", quota.name, quota.name)
    return Resource("quota", quota.name, team_of(connection, quota.name), quota.name)


def _documents(connection: Connection) -> list[QuotaDocument]:
    found = shares.load(connection).quotas
    waiting = quotas.waiting(connection, EXCEEDED) if found else ()
    return [_document(quota, waiting) for quota in found]


def _document(quota: Quota, waiting: Sequence[Any]) -> QuotaDocument:
    held = [
        row
        for row in waiting
        if quota.covers(row.project, row.team) and quota.of(row, begins=row.run_state == "queued")
    ]
    return QuotaDocument(
        name=quota.name,
        kind=quota.kind,
        resource=quota.resource,
        limit=_plain(quota.ceiling),
        used=_plain(quota.used),
        over=quota.over,
        waiting=len({row.run_id for row in held}) if quota.resource == "runs" else len(held),
    )


def _plain(amount: int) -> float:
    return amount // WHOLE if amount % WHOLE == 0 else amount / WHOLE


def _ceiling(resource: str, limit: float) -> int:
    pool = resource.removeprefix(SEATS) if resource.startswith(SEATS) else None
    if pool is None and resource not in ("gpus", "cpus", "runs"):
        raise Invalid(f"there is no quota of {resource!r}", hint=f"there are: {_RESOURCES}")
    if pool is not None and not licences.is_name(pool):
        raise Invalid(f"{pool!r} is no name of an engine", hint="`ground licences list` shows the pools")
    if not 0 <= limit <= _MOST or (resource != "cpus" and limit != int(limit)):
        raise Invalid(f"{resource}={limit:g} is no limit", hint=f"write a {'' if resource == 'cpus' else 'whole '}"
                      "number, 0 or more")  # fmt: skip
    return round(limit * WHOLE)


def _owner(connection: Connection, name: str, known: Collection[tuple[str, str]] = ()) -> tuple[str, str]:
    """Kind and name of whom the quota is for. known: that have one already, though their team may be gone."""
    said, _, rest = name.partition(":")
    if rest and said in ("team", "project"):
        kind, own = said, rest
    else:
        is_team = name == PLATFORM_TEAM or teams.by_name(connection, name) is not None or ("team", name) in known
        is_project = teams.project(connection, name) is not None or ("project", name) in known
        if is_team and is_project:
            raise Invalid(f"{name!r} is a team and a project", hint=f"write team:{name} or project:{name}")
        kind, own = ("team" if is_team else "project"), name
    if kind == "team" and own != PLATFORM_TEAM and teams.by_name(connection, own) is None and (kind, own) not in known:
        raise NotFound(f"there is no team {own!r}", hint="`ground teams list` shows them")
    if not _NAME.fullmatch(own):
        raise Invalid(f"{own!r} is no name of a team or project", hint="write the name of one, like gpus=4 behind it")
    return kind, own


# --- what is planned and submitted -------------------------------------------------------------------------------


def team_of(connection: Connection, project: str) -> str:
    """The team of a project; "" for one that nobody made."""
    found = teams.project(connection, project)
    return found.team if found is not None else ""


def admit(connection: Connection, plan: RunPlan, team: str, *, lock: bool = True) -> None:
    """Raises Denied for a run with a step that no quota would ever let start, and for one that a quota which denies
    has no room for now: with `lock`, nobody else is admitted before this transaction has ended."""
    project = plan.pipeline.project
    found = shares.load(connection, lock=lock)
    steps = [(step.name, _asked(plan, step.name)) for step in plan.pipeline.steps]
    for quota in found.of(project, team):
        step, asked = max(steps, key=lambda each: quota.of(each[1], begins=True))
        amount = quota.of(asked, begins=True)
        if amount > quota.ceiling:
            raise _denied(quota, step, amount, "for good")
        if quota.over == "deny" and amount:
            factor = 1 if quota.resource == "cpus" else WHOLE
            promised = sum(
                each * factor
                for owner, its_team, each in quotas.promised(connection, quota.resource)
                if quota.covers(owner, its_team)
            )
            if promised + amount > quota.ceiling:
                raise _denied(quota, step, amount, f"what runs or waits asks for {shares.number(promised)} already")


def waits(connection: Connection, plan: RunPlan, team: str) -> dict[str, Reason]:
    """Step -> what a task of it would wait for now, where it would."""
    found = shares.load(connection)
    lacks = {
        step.name: found.lack(_asked(plan, step.name), plan.pipeline.project, team, begins=True)
        for step in plan.pipeline.steps
    }
    return {name: lack[0].why(lack[1]) for name, lack in lacks.items() if lack is not None}


def waiting(connection: Connection, run_id: int, rows: Sequence[Any]) -> dict[int, Reason]:
    """Task -> what quota it waits for now. rows: queued tasks of the run."""
    if not rows:
        return {}
    run = runs.by_key(connection, run_id)
    found = shares.load(connection)
    lacks = {row.id: found.lack(row, run.project, run.team, begins=run.state == "queued") for row in rows}
    return {key: lack[0].why(lack[1]) for key, lack in lacks.items() if lack is not None}


def _asked(plan: RunPlan, name: str) -> Asked:
    gpus, cpus = plan.pipeline.step(name).resources.counted
    return Asked(gpus, cpus, licences.name_of(plan.engines[name]))


def _denied(quota: Quota, step: str, amount: int, why: str) -> Denied:
    limit, what = shares.number(quota.ceiling), shares.unit(quota.resource)
    asks = "" if quota.resource == "runs" else f"step {step!r} asks for {shares.number(amount)}, "
    if why == "for good":
        text = f"{asks}{quota.shown} may never have more than {limit} {what}"
        hint = "ask for less, or ask who sets quotas for more (`ground quotas list` shows them)"
    else:
        text = f"{asks}{quota.shown} has a quota of {limit} {what}, and {why}"
        hint = "try again when other runs have ended; `ground quotas list` shows limits and use"
    return Denied(text, hint=hint, code="quota_exceeded")
