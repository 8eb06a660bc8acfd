"""Tasks that end, and what follows from it: the next steps become ready, fan-outs are expanded, runs end."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from groundplane.model.artifacts import Kind, Output, kind_of
from groundplane.model.reasons import Fault, Reason
from groundplane.services import labels, licences, metrics, plans, reasons
from groundplane.services.plans import RunPlan, is_dynamic
from groundplane.services.platform import Platform
from groundplane.services.spec import fanout
from groundplane.spi.launch import Usage
from groundplane.store import attempts, runs, tasks, variables
from groundplane.store import labels as label_rows


@dataclass(frozen=True, slots=True)
class Ended:
    """A task in its final state: succeeded, failed, cancelled or lost. read: its inputs as JSON, when they changed."""

    task_id: int
    run_id: int
    position: int
    state: str
    reason: Reason | None = None
    exit_code: int | None = None
    reused: bool = False
    attempt: int | None = None
    started_at: int | None = None
    finished_at: int | None = None
    usage: Usage | None = None
    read: str | None = None
    outputs: tuple[Output, ...] = ()


@dataclass(slots=True)
class _Run:
    done: Counter[int] = field(default_factory=Counter[int])
    failed: dict[int, Reason | None] = field(default_factory=dict[int, Reason | None])
    closed: int = 0
    metrics: list[Ended] = field(default_factory=list[Ended])  # those that left some


def end(
    platform: Platform,
    connection: Connection,
    ended: Sequence[Ended],
    at: int,
    moves: Sequence[Mapping[str, Any]] = (),
) -> set[str]:
    """Writes these ends and all that follows from them; the ids of the runs concerned. moves: transitions before."""
    if not ended:
        runs.add_transitions(connection, moves)
        return set()
    runs.lock(connection, {task.run_id for task in ended})
    tasks.finish(
        connection,
        [
            {
                "key": task.task_id,
                "to": task.state,
                "code": task.exit_code,
                "why": reasons.to_text(task.reason),
                "again": task.reused,
                "begun": task.started_at if task.started_at is not None else (at if task.reused else None),
                "at": task.finished_at or at,
                "wall_us": round(task.usage.wall * 1e6) if task.usage else None,
                "cpu_us": round(task.usage.cpu * 1e6) if task.usage else None,
                "peak": task.usage.memory if task.usage else None,
                "read": task.read,
            }
            for task in ended
        ],
    )
    runs.add_transitions(
        connection,
        [
            *moves,
            *(
                {
                    "run_id": task.run_id,
                    "task_id": task.task_id,
                    "attempt": task.attempt,
                    "state": task.state,
                    "at": task.finished_at or at,
                }
                for task in ended
            ),
        ],
    )
    by_run: dict[int, _Run] = defaultdict(_Run)
    for task in ended:
        run = by_run[task.run_id]
        run.closed += 1
        if task.state == "succeeded":
            run.done[task.position] += 1
            run.metrics += [task] if any(kind_of(o.name) is Kind.METRICS for o in task.outputs) else []
        else:
            run.failed.setdefault(task.position, task.reason)
    return {_advance(platform, connection, run_id, run, at) for run_id, run in sorted(by_run.items())}


def _advance(platform: Platform, connection: Connection, run_id: int, run: _Run, at: int) -> str:
    row = runs.change_open(connection, run_id, -run.closed)
    plan = plans.load(connection, row.plan)
    if run.metrics:
        _add_metrics(platform, connection, row, plan, run.metrics)
    closed = _cancel_behind(connection, row, plan, run.failed, at) if run.failed else 0
    complete = [
        position
        for position, count in sorted(run.done.items())
        if runs.remaining_less(connection, run_id, position, count) == 0
    ]
    more_closed, added = follow(connection, row, plan, complete)
    closed += more_closed
    if closed or added:
        row = runs.change_open(connection, run_id, added - closed, added)
    if row.open_tasks == 0:
        _finish(connection, row, at)
    return row.uid


def follow(connection: Connection, row: Any, plan: RunPlan, complete: list[int]) -> tuple[int, int]:
    """The steps behind those that are complete become ready; (placeholders closed, tasks added)."""
    closed, added = 0, 0
    stack = list(complete)
    while stack:
        ready = runs.waiting_less(connection, row.id, plan.dependents[stack.pop()])
        static = [position for position in ready if not is_dynamic(plan.step(position))]
        if static:
            tasks.make_ready(connection, row.id, static)
            # A fan-out over no values has no task to wait for.
            stack += [
                position
                for position in static
                if plan.step(position).for_each is not None and not tasks.of_step(connection, row.id, position)
            ]
        for position in ready:
            if position in static:
                continue
            items = _items(connection, row.id, plan, position)
            if not runs.expand(connection, row.id, position, len(items)):
                continue
            closed += 1
            added += len(items)
            tasks.add(connection, task_rows(row.id, plan, position, items, ready=1))
            if not items:
                stack.append(position)
    return closed, added


def task_rows(
    run_id: int, plan: RunPlan, position: int, items: Sequence[str] | None, ready: int
) -> list[dict[str, Any]]:
    """The rows of a step's tasks: one, or one an item."""
    step = plan.step(position)
    name, placed = step.name, plan.placement(step)
    place = placed.backend, placed.site, licences.name_of(plan.engines[name]), step.resources.counted
    if items is None:
        return [{**tasks.new_row(run_id, position, 0, name, *place), "ready": ready}]
    return [
        {
            **tasks.new_row(run_id, position, number, f"{name}[{number}]", *place),
            "item": item,
            "ready": ready,
        }
        for number, item in enumerate(items)
    ]


def copy_artifacts(
    connection: Connection, from_task: int, to_task: int, run_id: int, project: str, own: Iterable[str]
) -> tuple[Output, ...]:
    """A reused task has the artifacts of the one that did the work, with their labels and its own; these."""
    rows = tasks.artifacts_of_task(connection, from_task)
    unions = [(row.sha256, label_rows.of_text(row.labels).union(own)) for row in rows]
    if any(of_artifact.difference(own) for _, of_artifact in unions):
        label_rows.add_to_run(connection, run_id, frozenset[str]().union(*(each for _, each in unions)))
    tasks.add_artifacts(
        connection,
        [
            {
                "run_id": run_id,
                "task_id": to_task,
                "name": row.name,
                "kind": row.kind,
                "size": row.size,
                "sha256": row.sha256,
                "lost": None,
                "labels": of_artifact,
            }
            for row, of_artifact in zip(rows, labels.attach(connection, project, unions), strict=True)
        ],
    )
    return tuple(Output(row.name, row.size, row.sha256) for row in rows)


def keep(platform: Platform, connection: Connection, old: Any, run_id: int, plan: RunPlan, at: int) -> None:
    """What succeeded in the old run of the same plan has succeeded in the new one, with the same artifacts."""
    succeeded: dict[tuple[int, str | None], Any] = {
        (row.position, row.item): row for row in tasks.of_run(connection, old.id) if row.state == "succeeded"
    }
    for position in range(len(plan.pipeline.steps)):  # in order, so that fan-outs are expanded on the way
        ended: list[Ended] = []
        for row in tasks.of_step(connection, run_id, position):
            earlier = succeeded.get((position, row.item))
            if earlier is not None and row.state == "queued":
                outputs = copy_artifacts(connection, earlier.id, row.id, run_id, plan.pipeline.project, plan.labels)
                ended.append(
                    Ended(
                        row.id,
                        run_id,
                        position,
                        "succeeded",
                        exit_code=earlier.exit_code,
                        reused=True,
                        read=earlier.inputs,
                        outputs=outputs,
                    )
                )
        end(platform, connection, ended, at)


def close_queued(connection: Connection, run_id: int, state: str, reason: Reason, at: int) -> int:
    """Ends every task of a run that has not started, and every fan-out not expanded; how many were open."""
    closed = len(tasks.end_queued(connection, run_id, None, state, reasons.to_text(reason), at))
    for step in runs.steps_of(connection, run_id):
        if step.remaining is None and runs.expand(connection, run_id, step.position, 0):
            closed += 1
    return closed


def cancel(connection: Connection, run_id: int, reason: Reason, at: int) -> bool:
    """Stops what runs of it and never starts the rest; whether there was anything left to do. The caller has the run
    locked."""
    if not runs.ask_cancel(connection, run_id, at):
        return False
    closed = close_queued(connection, run_id, "cancelled", reason, at)
    attempts.set_stopping(connection, run_id)
    close_run_if_done(connection, run_id, closed, at)
    return True


def close_run_if_done(connection: Connection, run_id: int, closed: int, at: int) -> None:
    """Counts tasks that ended elsewhere; ends the run with its last one."""
    row = runs.change_open(connection, run_id, -closed)
    if row.open_tasks == 0:
        _finish(connection, row, at)


def _cancel_behind(
    connection: Connection, row: Any, plan: RunPlan, failed: Mapping[int, Reason | None], at: int
) -> int:
    """Steps behind a failed one never start; how many tasks and placeholders that closed."""
    behind = plan.behind(set(failed))
    if not behind:
        return 0
    names = ", ".join(plan.step(position).name for position in sorted(failed))
    reason = Reason(
        "upstream_failed",
        f"it was not started, because {names} did not succeed",
        # A rerun takes the files as they were, without what will have been mended in them.
        hint=f"ground runs rerun {row.uid} --failed"
        if any(why is not None and why.fault is not Fault.USER for why in failed.values())
        else "mend that step, then `ground run` again: what did not change is reused",
    )
    closed = len(tasks.end_queued(connection, row.id, behind, "cancelled", reasons.to_text(reason), at))
    for position in behind:
        if is_dynamic(plan.step(position)) and runs.expand(connection, row.id, position, 0):
            closed += 1
    return closed


def _items(connection: Connection, run_id: int, plan: RunPlan, position: int) -> tuple[str, ...]:
    step = plan.step(position)
    if step.for_each is None or step.for_each.source is None:
        raise TypeError(f"step {step.name} is no fan-out over files")
    source = plan.positions[step.for_each.source.step]
    names = [row.name for row in tasks.artifacts_of_step(connection, run_id, source)]
    return fanout.items(step, names)


def _add_metrics(platform: Platform, connection: Connection, row: Any, plan: RunPlan, ended: Iterable[Ended]) -> None:
    """Those of fan-outs, whose names no other task has, are added. Those of all other steps are read anew, in the
    plan's order: what a metric is called is not to depend on which task ends first."""
    known: Mapping[str, Any] = json.loads(row.metrics) if row.metrics else {}
    many = {position for position, step in enumerate(plan.pipeline.steps) if step.for_each is not None}
    of_many = tuple(f"{plan.step(position).name}[" for position in many)
    known = {name: value for name, value in known.items() if name.startswith(of_many)}
    fresh = [task.task_id for task in ended if task.position in many]
    files = [
        metrics.MetricsFile(found.task_name, found.name, found.sha256, many=found.position in many)
        for found in tasks.metrics_files(connection, row.id, set(range(len(plan.pipeline.steps))) - many, fresh)
    ]
    found = metrics.merged(platform.home, known, files)
    own = [name for name in found if not name.startswith(of_many)]
    of_fans = sorted((name for name in found if name.startswith(of_many)), key=metrics.in_order)
    runs.set_metrics(connection, row.id, json.dumps({name: found[name] for name in (*own, *of_fans)}))


def _finish(connection: Connection, row: Any, at: int) -> None:
    state, reason = _outcome(connection, row)
    if runs.finish(connection, row.id, state, reasons.to_text(reason), at):
        variables.forget(connection, row.id)


def _outcome(connection: Connection, row: Any) -> tuple[str, Reason | None]:
    if row.cancelled:
        return "cancelled", Reason("cancelled", "somebody cancelled it", hint=f"ground runs rerun {row.uid}")
    failure = tasks.first_failure(connection, row.id)
    if failure is None:
        return "succeeded", None
    reason = reasons.from_text(failure.reason) or Reason("error", "it failed", fault=Fault.USER)
    if row.task_count > 1 or failure.name != row.name:
        reason = Reason(reason.code, f"{failure.name}: {reason.message}", reason.hint, reason.fault)
    return "lost" if failure.state == "lost" else "failed", reason
