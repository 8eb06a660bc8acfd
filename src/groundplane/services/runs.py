"""Runs: submitted, shown, cancelled, run again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

from sqlalchemy import Connection

from groundplane.model import environment
from groundplane.model.documents import RerunRequest, RunDocument, RunPage, RunRequest
from groundplane.model.errors import Conflict, Invalid, NotFound
from groundplane.model.ids import is_new
from groundplane.model.reasons import Fault, Reason
from groundplane.model.states import FINAL, State
from groundplane.services import (
    bringing,
    callers,
    gate,
    granting,
    labels,
    launches,
    licences,
    pages,
    planning,
    plans,
    progress,
    quotas,
    staging,
    variables,
    views,
    visibility,
    work_tokens,
)
from groundplane.services.access import PLATFORM, Actor
from groundplane.services.notices import WORK
from groundplane.services.objects import Resource
from groundplane.services.plans import PlannedEngine, RunPlan, is_dynamic
from groundplane.services.platform import Platform, now
from groundplane.services.variables import Variables
from groundplane.store import labels as label_rows
from groundplane.store import runs, tasks


def submit(platform: Platform, actor: Actor, run_id: str, request: RunRequest) -> RunDocument:
    """Starts a run under the id that the caller made; the same id again is the same run."""
    known = _known(platform, actor, run_id)
    if known is not None:
        return known
    platform.require_space()
    stranger = callers.is_stranger(actor)
    admit = partial(launches.admit, platform, actor, "run.submit", run_id)
    plan = planning.plan(platform, request, admit, stranger=stranger)
    licences.check(platform, plan)
    granting.check(platform, plan)
    found = Variables(request.context.variables, request.environment)
    return _start(platform, actor, run_id, plan, found, "run.submit", kept=None, confined=stranger)


def find(platform: Platform, actor: Actor, ref: str, action: str = visibility.SEE) -> str:
    """The id of the run that `ref` means: an id, a unique beginning of one, or `latest`. Raises NotFound for what the
    actor may not see too, and Denied when it may not do `action` to what it sees."""
    row, on = seen(platform, actor, ref)
    if action != visibility.SEE:
        gate.require(platform, actor, action, on)
    return row.uid


def require_still(platform: Platform, actor: Actor, uid: str, action: str) -> None:
    """Before more of a run is told to whom some was. Raises Denied when he may not see it any more, or not do `action`
    to it; the read itself was an event when it began."""
    with platform.database.read() as connection:
        row: Any = runs.by_uid(connection, uid)
        on = visibility.of_run(connection, row, uid)
        both = dict.fromkeys((visibility.SEE, action))
        lost = [each for each in both if not gate.decide(platform, connection, actor, each, on).allowed]
    if lost:
        gate.require(platform, actor, lost[0], on)


def show(platform: Platform, actor: Actor, ref: str) -> RunDocument:
    """The run with its tasks; without what work was given and made, for who may not see that."""
    with platform.database.read() as connection:
        sight = visibility.Sight(platform, connection, actor)
        row = sight.find(ref)
        if row is not None:
            return views.run(platform, connection, row, sight.sees, whole=True, data=sight.may(visibility.DATA, row))
    raise _unseen(platform, actor, ref)


def document(platform: Platform, uid: str, actor: Actor = PLATFORM) -> RunDocument:
    """The run of that id, for who was found to be allowed to see it. actor: who may not see whom it waits for, nor
    perhaps what its work was given and made."""
    with platform.database.read() as connection:
        sight = visibility.Sight(platform, connection, actor)
        row: Any = runs.by_uid(connection, uid)
        return views.run(platform, connection, row, sight.sees, whole=True, data=sight.may(visibility.DATA, row))


def state(platform: Platform, uid: str) -> State:
    """The state alone of the run of that id: what followers ask often, who were found to be allowed to."""
    with platform.database.read() as connection:
        row: Any = runs.by_uid(connection, uid)
        return State(row.state)


def check_task(platform: Platform, run_id: str, name: str) -> None:
    """Raises NotFound when the run has no task and no step of that name."""
    with platform.database.read() as connection:
        run: Any = runs.by_uid(connection, run_id)
        known = [row.name for row in tasks.of_run(connection, run.id)]
    steps = list(dict.fromkeys(task.partition("[")[0] for task in known))
    if name not in known and name.partition("[")[0] not in steps:
        raise NotFound(f"run {run_id} has no task {name!r}", hint=f"its steps are: {', '.join(steps)}")


def listing(platform: Platform, actor: Actor, state: str | None, limit: int, cursor: str | None) -> RunPage:
    """Newest first, those that the actor may see; `cursor` is a former page's `next`, the id of its last run. Raises
    Invalid for one that is none, or that of a run that the actor may not see."""
    if state is not None and state not in set(State):
        raise Invalid(f"there is no state {state!r}", hint=f"the states are: {', '.join(State)}")
    pages.check(limit)
    with platform.database.read() as connection:
        sight = visibility.Sight(platform, connection, actor)
        last = None if cursor is None else sight.by_id(cursor)
        if cursor is not None and last is None:
            raise pages.no_cursor(cursor)
        rows = list(islice(sight.listed(state, None if last is None else last.id, limit + 1), limit + 1))
        documents = tuple(
            views.run(platform, connection, row, sight.sees, whole=False, data=sight.may(visibility.DATA, row))
            for row in rows[:limit]
        )
    return RunPage(documents, rows[limit - 1].uid if len(rows) > limit else None)


def cancel(platform: Platform, actor: Actor, ref: str) -> RunDocument:
    """Stops what runs and never starts the rest. A run that has ended stays as it is."""
    row, on = seen(platform, actor, ref)
    uid: str = row.uid
    with gate.change(platform, actor, "run.cancel", uid, on) as connection:
        runs.by_key(connection, row.id, lock=True)
        progress.cancel(connection, row.id, Reason("cancelled", "its run was cancelled"), now())
    platform.notifier.notify(WORK, uid)
    return show(platform, actor, uid)


def rerun(platform: Platform, actor: Actor, ref: str, request: RerunRequest) -> RunDocument:
    """A new run of the same snapshot, pipeline and parameters; with `failed` what succeeded is kept."""
    known = _known(platform, actor, request.id)
    if known is not None:
        return known
    old, on = seen(platform, actor, ref)
    gate.require(platform, actor, "run.rerun", on)
    with platform.database.read() as connection:
        plan = plans.load(connection, old.plan)
    if old.state not in FINAL:
        raise Conflict(f"run {old.uid} is {old.state}", hint=f"wait for it, or ground runs cancel {old.uid}")
    if request.failed and old.state == "succeeded":
        raise Conflict(
            f"run {old.uid} succeeded: there is nothing to continue", hint=f"ground runs rerun {old.uid} runs all again"
        )
    environment.check(request.environment)
    lacking = [name for name in plan.environment if name not in request.environment]
    if lacking:
        raise Invalid(
            f"run {old.uid} was given {', '.join(lacking)} with -e, whose values are not kept",
            hint=f"set {', '.join(lacking)} in your shell and try again",
        )
    platform.require_space()
    strange = bool(old.confined) or callers.is_stranger(actor)  # its files are as strange as they were
    plan = planning.again(platform, plan, request.context, stranger=strange)
    licences.check(platform, plan)
    granting.check(platform, plan)
    plan = replace(plan, environment=tuple(sorted(request.environment)))
    found = Variables(request.context.variables, request.environment)
    kept = (
        old if request.failed and not plan.whole else None
    )  # a whole pipeline runs from its beginning, or from a cache
    return _start(platform, actor, request.id, plan, found, "run.rerun", kept=kept, of=old.uid, confined=strange)


def _start(
    platform: Platform,
    actor: Actor,
    uid: str,
    plan: RunPlan,
    found: Variables,
    action: str,
    *,
    confined: bool,
    kept: Any,
    of: str | None = None,
) -> RunDocument:
    site = platform.driver(plan.backend).site
    work_tokens.check(platform, actor, plan)
    if confined:
        with gate.noting(platform, actor, action, uid, {"name": plan.name, "backend": plan.backend}):
            callers.check_confined(platform, plan)
    away = bringing.unreachable(platform, plan)
    with launches.launch(platform, actor, action, uid, plan, kept) as (connection, team):
        at = now()
        if runs.by_uid(connection, uid) is None:
            quotas.admit(connection, plan, team)
            _insert(platform, connection, actor, uid, plan, team, found, site, at, kept, of, away, confined=confined)
    platform.notifier.notify(WORK, uid)
    return document(platform, uid, actor)  # who may launch is told what he launched, also where he may see no runs


def _insert(
    platform: Platform,
    connection: Connection,
    actor: Actor,
    uid: str,
    plan: RunPlan,
    team: str,
    found: Variables,
    site: str,
    at: int,
    kept: Any,
    of: str | None,
    away: Mapping[str, Reason],
    *,
    confined: bool,
) -> None:
    items = [
        None if is_dynamic(step) else staging.known_items(platform.home, plan, step) for step in plan.pipeline.steps
    ]
    counts = [
        None if is_dynamic(step) else 1 if step.for_each is None else len(items[index] or ())
        for index, step in enumerate(plan.pipeline.steps)
    ]
    made = labels.made_in(connection, kept.id, plan) if kept is not None else None
    run_id = runs.add(
        connection,
        {
            "uid": uid,
            "name": plan.name,
            "project": plan.pipeline.project,
            "team": team,
            "pipeline": plan.shown_pipeline,
            "backend": plan.backend,
            "site": site,
            "actor": actor.name,
            "confined": confined,
            "state": "queued",
            "plan": plans.store(connection, plan),
            "snapshot": plan.snapshot,
            "rerun_of": of,
            "submitted_at": at,
            "open_tasks": sum(1 if count is None else count for count in counts),
            "task_count": sum(count or 0 for count in counts),
            "parameters": json.dumps(dict(plan.pipeline.parameters)),
            "environment": json.dumps(plan.environment),
            "labels": label_rows.text(frozenset[str]().union(*labels.of_steps(plan, made).values())),
        },
        [
            {
                "position": index,
                "waiting": len(step.needs),
                "remaining": counts[index],
                "max_parallel": step.for_each.max_parallel if step.for_each else None,
            }
            for index, step in enumerate(plan.pipeline.steps)
        ],
    )
    for index, step in enumerate(plan.pipeline.steps):
        if not is_dynamic(step):
            ready = 0 if step.needs else 1
            tasks.add(connection, progress.task_rows(run_id, plan, index, items[index], ready))
    variables.seal(platform.home, connection, run_id, uid, found)
    _refuse_what_cannot_start(platform, connection, run_id, plan, away, at)
    empty = [index for index, count in enumerate(counts) if count == 0 and not plan.step(index).needs]
    if empty:
        closed, added = progress.follow(connection, runs.by_key(connection, run_id), plan, empty)
        runs.change_open(connection, run_id, added - closed, added)
        progress.close_run_if_done(connection, run_id, 0, at)
    if kept is not None:
        progress.keep(platform, connection, kept, run_id, plan, at)


def _refuse_what_cannot_start(
    platform: Platform, connection: Connection, run_id: int, plan: RunPlan, away: Mapping[str, Reason], at: int
) -> None:
    """A run whose steps cannot all start starts none of them. away: backends that do not answer, with the reason."""
    refused: dict[int, Reason] = {}
    for index, step in enumerate(plan.pipeline.steps):
        engine, backend = plan.engines[step.name], plan.placement(step).backend
        if backend in away:
            refused[index] = away[backend]
        elif engine.missing:
            refused[index] = _missing(engine)
    if not refused:
        return
    ended = [
        progress.Ended(row.id, run_id, index, "failed", reason)
        for index, reason in refused.items()
        for row in tasks.of_step(connection, run_id, index)
    ]
    progress.end(platform, connection, ended, at)
    names = ", ".join(plan.step(index).name for index in refused)
    reason = Reason("upstream_failed", f"it was not started, because {names} cannot start")
    closed = progress.close_queued(connection, run_id, "cancelled", reason, at)
    progress.close_run_if_done(connection, run_id, closed, at)


def _missing(engine: PlannedEngine) -> Reason:
    elsewhere = engine.toolchain == "command"
    hint = "install it, or give its full path" if elsewhere else f"ground toolchains install {engine.name}"
    return Reason("missing_engine", engine.missing, hint=hint, fault=Fault.BACKEND)


def seen(platform: Platform, actor: Actor, ref: str) -> tuple[Any, Resource]:
    """The run that `ref` means, and as policies see it. Raises NotFound."""
    with platform.database.read() as connection:
        row = visibility.Sight(platform, connection, actor).find(ref)
        if row is not None:
            return row, visibility.of_run(connection, row, row.uid)
    raise _unseen(platform, actor, ref)


def _unseen(platform: Platform, actor: Actor, ref: str) -> NotFound:
    gate.unseen(platform, actor, visibility.SEE, ref)
    if ref == "latest":
        return NotFound("there are no runs yet", hint="start one: ground run SCRIPT")
    return NotFound(f"there is no run {ref!r}", hint="`ground runs list` shows them; `latest` is the newest")


def _known(platform: Platform, actor: Actor, uid: str) -> RunDocument | None:
    """The run of that id, if it was started before. Raises Invalid when no new run can have it.

    An account's has to be new by its own time, so that asking for an old one tells nobody whether it is there.
    """
    with platform.database.read() as connection:
        row = runs.by_uid(connection, uid) if uid.isprintable() else None
        mine = row is not None and visibility.Sight(platform, connection, actor).sees(row)
    if mine:
        return show(platform, actor, uid)
    if row is not None or not uid.isprintable() or (actor.kind in gate.ACCOUNTS and not is_new(uid, now())):
        raise Invalid(f"{uid!r} is no id for a new run", hint="make another UUIDv7; is the clock right?")
    return None
