"""Runs: submitted, shown, cancelled, run again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from groundplane.model import environment
from groundplane.model.documents import (
    PlanDocument,
    PlannedTask,
    RerunRequest,
    RunDocument,
    RunPage,
    RunRequest,
)
from groundplane.model.errors import Conflict, Invalid, NotFound
from groundplane.model.pipelines import SourceKind, Step
from groundplane.model.reasons import Fault, Reason
from groundplane.model.states import FINAL, State
from groundplane.services import (
    bringing,
    calls,
    gate,
    licences,
    pages,
    planning,
    plans,
    progress,
    reuse,
    staging,
    variables,
    views,
)
from groundplane.services.access import Actor
from groundplane.services.notices import WORK
from groundplane.services.plans import PlannedEngine, RunPlan, is_dynamic
from groundplane.services.platform import Platform, now
from groundplane.services.spec import fanout
from groundplane.services.variables import Variables
from groundplane.store import attempts, runs, tasks


def submit(platform: Platform, actor: Actor, run_id: str, request: RunRequest) -> RunDocument:
    """Starts a run under the id that the caller made; the same id again is the same run."""
    with platform.database.read() as connection:
        if runs.by_uid(connection, run_id) is not None:
            return show(platform, run_id)
    platform.require_space()
    plan = planning.plan(platform, request)
    licences.check(platform, plan)
    found = Variables(request.context.variables, request.environment)
    return _start(platform, actor, run_id, plan, found, "run.submit", kept=None)


def plan(platform: Platform, actor: Actor, request: RunRequest) -> PlanDocument:
    """What `submit` would do; nothing starts."""
    made = planning.plan(platform, request)
    licences.check(platform, made)
    found = Variables(request.context.variables, request.environment)
    steps: list[PlannedTask] = []
    unsettled: set[str] = set()  # steps whose outputs are not known before they have run
    with platform.database.read() as connection:
        names = [licences.name_of(engine) for engine in made.engines.values()]
        full = licences.waits(platform, connection, names, asking=False)
        for step in made.pipeline.steps:
            engine = made.engines[step.name]
            placed = made.placement(step)
            steps.append(
                PlannedTask(
                    step=step.name,
                    toolchain=engine.toolchain,
                    engine=engine.name,
                    engine_path=engine.path,
                    engine_version=engine.version,
                    command=calls.planned_argv(platform.home, made, step),
                    backend=placed.backend,
                    cpus=step.resources.cpus,
                    memory=step.resources.memory,
                    gpus=step.resources.gpus or 0,
                    nodes=step.resources.nodes or 1,
                    timeout=step.resources.timeout,
                    retries=step.retries,
                    needs=step.needs,
                    inputs=tuple(f"{read.name} = {views.source_text(read.source)}" for read in step.inputs),
                    outputs=step.outputs if step.outputs is not None else ("every file that it creates or changes",),
                    tasks=None if is_dynamic(step) else len(_items(platform, made, step) or ("",)),
                    reuse=(reused := _reuse(platform, connection, made, step, found, unsettled)),
                    runs_in=placed.environment,
                    lock_sha256=plans.load_lock(connection, placed.lock).sha256 if placed.lock else None,
                    waiting=None if reused == "would be reused" else full.get(licences.name_of(engine)),
                )
            )
    return PlanDocument(
        name=made.name,
        project=made.pipeline.project,
        pipeline=made.shown_pipeline,
        backend=made.backend,
        snapshot=made.snapshot,
        files=made.files,
        bytes=made.bytes,
        ignored=made.ignored,
        parameters=made.pipeline.parameters,
        steps=tuple(steps),
        warnings=made.warnings,
    )


def resolve(platform: Platform, ref: str) -> str:
    """The id of the run that `ref` means: an id, a unique beginning of one, or `latest`. Raises NotFound."""
    with platform.database.read() as connection:
        return _row(connection, ref).uid


def show(platform: Platform, ref: str) -> RunDocument:
    """The run with its tasks."""
    with platform.database.read() as connection:
        return views.run(platform, connection, _row(connection, ref), whole=True)


def state(platform: Platform, ref: str) -> State:
    """The run's state alone: what followers ask often."""
    with platform.database.read() as connection:
        return State(_row(connection, ref).state)


def check_task(platform: Platform, run_id: str, name: str) -> None:
    """Raises NotFound when the run has no task and no step of that name."""
    with platform.database.read() as connection:
        known = [row.name for row in tasks.of_run(connection, _row(connection, run_id).id)]
    steps = list(dict.fromkeys(task.partition("[")[0] for task in known))
    if name not in known and name.partition("[")[0] not in steps:
        raise NotFound(f"run {run_id} has no task {name!r}", hint=f"its steps are: {', '.join(steps)}")


def listing(platform: Platform, state: str | None, limit: int, cursor: str | None) -> RunPage:
    """Newest first; `cursor` is a former page's `next`."""
    if state is not None and state not in set(State):
        raise Invalid(f"there is no state {state!r}", hint=f"the states are: {', '.join(State)}")
    below = pages.below(limit, cursor)
    with platform.database.read() as connection:
        rows = runs.page(connection, state, below, limit + 1)
        documents = tuple(views.run(platform, connection, row, whole=False) for row in rows[:limit])
    return RunPage(documents, str(rows[limit - 1].id) if len(rows) > limit else None)


def cancel(platform: Platform, actor: Actor, ref: str) -> RunDocument:
    """Stops what runs and never starts the rest. A run that has ended stays as it is."""
    uid = resolve(platform, ref)
    with gate.change(platform, actor, "run.cancel", uid) as connection:
        at = now()
        row = runs.by_key(connection, _row(connection, uid).id, lock=True)
        if runs.ask_cancel(connection, row.id, at):
            reason = Reason("cancelled", "its run was cancelled")
            closed = progress.close_queued(connection, row.id, "cancelled", reason, at)
            attempts.set_stopping(connection, row.id)
            progress.close_run_if_done(connection, row.id, closed, at)
    platform.notifier.notify(WORK, uid)
    return show(platform, uid)


def rerun(platform: Platform, actor: Actor, ref: str, request: RerunRequest) -> RunDocument:
    """A new run of the same snapshot, pipeline and parameters; with `failed` what succeeded is kept."""
    with platform.database.read() as connection:
        if runs.by_uid(connection, request.id) is not None:
            return show(platform, request.id)
        old = _row(connection, ref)
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
    plan = planning.again(platform, plan, request.context)
    licences.check(platform, plan)
    plan = replace(plan, environment=tuple(sorted(request.environment)))
    found = Variables(request.context.variables, request.environment)
    kept = (
        old if request.failed and not plan.whole else None
    )  # a whole pipeline runs from its beginning, or from a cache
    return _start(platform, actor, request.id, plan, found, "run.rerun", kept=kept, of=old.uid)


def _start(
    platform: Platform,
    actor: Actor,
    uid: str,
    plan: RunPlan,
    found: Variables,
    action: str,
    *,
    kept: Any,
    of: str | None = None,
) -> RunDocument:
    site = platform.driver(plan.backend).site
    away = bringing.unreachable(platform, plan)
    with gate.change(platform, actor, action, uid, name=plan.name, backend=plan.backend) as connection:
        at = now()
        if runs.by_uid(connection, uid) is None:
            _insert(platform, connection, actor, uid, plan, found, site, at, kept, of, away)
    platform.notifier.notify(WORK, uid)
    return show(platform, uid)


def _insert(
    platform: Platform,
    connection: Connection,
    actor: Actor,
    uid: str,
    plan: RunPlan,
    found: Variables,
    site: str,
    at: int,
    kept: Any,
    of: str | None,
    away: Mapping[str, Reason],
) -> None:
    items = [None if is_dynamic(step) else _items(platform, plan, step) for step in plan.pipeline.steps]
    counts = [
        None if is_dynamic(step) else 1 if step.for_each is None else len(items[index] or ())
        for index, step in enumerate(plan.pipeline.steps)
    ]
    run_id = runs.add(
        connection,
        {
            "uid": uid,
            "name": plan.name,
            "project": plan.pipeline.project,
            "pipeline": plan.shown_pipeline,
            "backend": plan.backend,
            "site": site,
            "actor": actor.name,
            "state": "queued",
            "plan": plans.store(connection, plan),
            "snapshot": plan.snapshot,
            "rerun_of": of,
            "submitted_at": at,
            "open_tasks": sum(1 if count is None else count for count in counts),
            "task_count": sum(count or 0 for count in counts),
            "parameters": json.dumps(dict(plan.pipeline.parameters)),
            "environment": json.dumps(plan.environment),
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


def _items(platform: Platform, plan: RunPlan, step: Step) -> tuple[str, ...] | None:
    """The items of a fan-out that are known before the run; None for a step that is none."""
    if step.for_each is None:
        return None
    source = step.for_each.source
    if source is None:
        return fanout.items(step, ())
    if source.kind is not SourceKind.PROJECT:
        return ()
    return fanout.items(step, staging.project_files(platform.home, plan.snapshot))


def _row(connection: Connection, ref: str) -> Any:
    uid = runs.latest(connection) if ref == "latest" else ref
    if uid is None:
        raise NotFound("there are no runs yet", hint="start one: ground run SCRIPT")
    row = runs.by_uid(connection, uid)
    if row is not None:
        return row
    found = runs.by_prefix(connection, uid) if uid else []
    if len(found) == 1:
        return runs.by_uid(connection, found[0])
    if found:
        raise NotFound(f"{len(found)} or more runs begin with {uid!r}", hint=f"write more of it: {', '.join(found)}")
    raise NotFound(f"there is no run {uid!r}", hint="`ground runs list` shows them; `latest` is the newest")


def _reuse(
    platform: Platform, connection: Connection, plan: RunPlan, step: Step, found: Variables, unsettled: set[str]
) -> str:
    if not reuse.eligible(step, plan):
        unsettled.add(step.name)
        return "its backend's cache decides" if plan.whole and not plan.fresh else "always runs"
    if plan.fresh:
        unsettled.add(step.name)
        return "runs: --fresh"
    waits = [name for name in step.needs if name in unsettled]
    if waits or step.for_each is not None or plan.engines[step.name].missing or staging.urls(step):
        unsettled.add(step.name)
        return f"depends on {', '.join(waits)}" if waits else "known when it is its turn"
    try:
        digests = staging.planned_digests(connection, platform.home, plan, step, settled=_settled(connection, plan))
    except staging.MissingInput:
        unsettled.add(step.name)
        return "no earlier run"
    parts = reuse.components(platform.home, plan, step, digests, found)
    said = reuse.explain(connection, plan, step.name, parts)
    if said != "would be reused":
        unsettled.add(step.name)
    return said


def _settled(connection: Connection, plan: RunPlan) -> Mapping[str, Any]:
    """Step name -> its newest succeeded task; right for a step that would be reused."""
    found = {
        step.name: tasks.last_success(connection, plan.pipeline.project, plan.pipeline.name, step.name)
        for step in plan.pipeline.steps
        if step.for_each is None
    }
    return {name: row for name, row in found.items() if row is not None}
