"""Rows as the documents that users see."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from groundplane.model.documents import InputDocument, OutputDocument, RunDocument, TaskDocument
from groundplane.model.errors import Unavailable
from groundplane.model.pipelines import Source, SourceKind
from groundplane.model.reasons import Reason
from groundplane.services import labels, licences, plans, quotas, reasons
from groundplane.services.licences import Sees
from groundplane.services.plans import PlannedEngine, RunPlan
from groundplane.services.platform import Platform, iso
from groundplane.services.shares import EXCEEDED
from groundplane.store import tasks

_LIMITED = (licences.NO_SEAT, EXCEEDED)


def run(
    platform: Platform, connection: Connection, row: Any, sees: Sees, *, whole: bool, data: bool = True
) -> RunDocument:
    """A run; `whole` with its tasks. sees: whether another run may be told of. data: also what work was given and
    made."""
    plan = plans.load(connection, row.plan) if whole else None
    shown = _tasks(platform, connection, row.id, plan, sees) if plan else ()
    if not data:
        shown = tuple(replace(task, inputs=(), outputs=()) for task in shown)
    return RunDocument(
        id=row.uid,
        name=row.name,
        state=row.state,
        reason=reasons.from_text(row.reason) or _waiting(platform, row.state, shown),
        project=row.project,
        pipeline=row.pipeline,
        backend=row.backend,
        actor=row.actor,
        parameters=json.loads(row.parameters) if data else {},
        environment=tuple(json.loads(row.environment)),
        submitted_at=iso(row.submitted_at) or "",
        started_at=iso(row.started_at),
        finished_at=iso(row.finished_at),
        metrics=json.loads(row.metrics) if row.metrics and data else {},
        rerun_of=row.rerun_of,
        task_count=row.task_count,
        tasks=shown,
        warnings=plan.warnings if plan else (),
        labels=tuple(json.loads(row.labels)),
        team=row.team,
    )


def source_text(source: Source) -> str:
    """A source as ground.toml writes it."""
    return f"{source.step}/{source.path}" if source.kind is SourceKind.STEP else source.path


def _tasks(
    platform: Platform, connection: Connection, run_id: int, plan: RunPlan, sees: Sees
) -> tuple[TaskDocument, ...]:
    outputs: dict[int, list[OutputDocument]] = defaultdict(list)
    for row in tasks.artifacts_of_run(connection, run_id):
        lost = tuple(json.loads(row.lost)) if row.lost else ()
        document = OutputDocument(row.name, row.kind, row.size, row.sha256, lost, tuple(json.loads(row.labels)))
        outputs[row.task_id].append(document)
    rows = tasks.of_run(connection, run_id)
    labelled = labels.of_steps(plan)
    waiting = {row.id: reason for row in rows if (reason := reasons.from_text(row.waiting)) is not None}
    # Who has the seats, or the rest of a quota, changes more often than anything is written of those that wait.
    limited = [row for row in rows if row.id in waiting and waiting[row.id].code in _LIMITED]
    seats = licences.waits(platform, connection, {row.licence for row in limited}, sees=sees)
    beyond = quotas.waiting(connection, run_id, limited)
    for row in limited:
        written = waiting.pop(row.id)
        behind = written if written.code == EXCEEDED else None  # what is left may be for those before it
        if (reason := beyond.get(row.id) or seats.get(row.licence) or behind) is not None:
            waiting[row.id] = reason
    return tuple(
        _task(
            row,
            plan,
            tuple(outputs.get(row.id, ())),
            waiting.get(row.id),
            labelled,
        )
        for row in rows
    )


def _task(
    row: Any,
    plan: RunPlan,
    outputs: tuple[OutputDocument, ...],
    waiting: Reason | None,
    labelled: Mapping[str, frozenset[str]],
) -> TaskDocument:
    """labelled: by step, as its submission knew it; what a task has really read counts more."""
    step = plan.step(row.position)
    own = labelled[step.name] if row.inputs is None else labels.of_task(plan, step, row.inputs)
    engine: PlannedEngine = plan.engines[step.name]
    usage: dict[str, float] = {}
    if row.wall is not None:
        usage = {"wall_seconds": row.wall / 1e6, "cpu_seconds": row.cpu / 1e6, "memory_bytes": row.memory}
    placed = plan.placement(step)
    return TaskDocument(
        name=row.name,
        step=step.name,
        toolchain=engine.toolchain,
        engine=engine.name,
        engine_version=engine.version,
        state=row.state,
        reason=reasons.from_text(row.reason),
        exit_code=row.exit_code,
        reused=row.reused,
        attempts=row.attempts,
        started_at=iso(row.started_at),
        finished_at=iso(row.finished_at),
        usage=usage,
        inputs=tuple(
            InputDocument(
                read["name"], read["source"], read["sha256"], tuple(read["lost"]), tuple(read.get("labels", ()))
            )
            for read in (json.loads(row.inputs) if row.inputs else ())
        ),
        outputs=outputs,
        backend=placed.backend,
        runs_in=placed.environment,
        waiting=waiting,
        labels=tuple(sorted(own)),
    )


def _waiting(platform: Platform, state: str, shown: tuple[TaskDocument, ...]) -> Reason | None:
    """A run that waits says for what, when that is known."""
    if state != "queued":
        return None
    try:
        platform.require_space()
    except Unavailable as full:
        return reasons.of_error(full)
    return next((task.waiting for task in shown if task.waiting is not None), None)
