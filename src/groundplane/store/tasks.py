"""Tasks: one a step, or one an item of a fan-out."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Text, bindparam, func, insert, not_, or_, select, update

from groundplane.model.artifacts import Kind
from groundplane.model.reasons import Reason
from groundplane.store.quota_tables import quotas
from groundplane.store.tables import artifacts, is_queued, licences, runs, steps, tasks

_ACTIVE = ("starting", "running", "stopping")
_insert = insert(tasks)


def add(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """New tasks; every row has all the columns that have no default."""
    if rows:
        connection.execute(_insert, rows)


def new_row(
    run_id: int,
    position: int,
    number: int,
    name: str,
    backend: str,
    site: str,
    licence: str,
    counted: tuple[int, int] = (0, 1000),
) -> dict[str, Any]:
    """A queued task that is not ready. counted: see `Resources.counted`."""
    return {
        "run_id": run_id,
        "position": position,
        "number": number,
        "name": name,
        "item": None,
        "backend": backend,
        "site": site,
        "state": "queued",
        "ready": 0,
        "attempts": 0,
        "losses": 0,
        "exit_code": None,
        "reason": None,
        "reused": False,
        "reuse_key": None,
        "started_at": None,
        "finished_at": None,
        "wall": None,
        "cpu": None,
        "memory": None,
        "inputs": None,
        "licence": licence,
        "waiting": None,
        "gpus": counted[0],
        "cpus": counted[1],
    }


def of_run(connection: Connection, run_id: int) -> Sequence[Any]:
    """The run's tasks in order."""
    query = select(tasks).where(tasks.c.run_id == run_id).order_by(tasks.c.position, tasks.c.number)
    return connection.execute(query).all()


def of_step(connection: Connection, run_id: int, position: int) -> Sequence[Any]:
    """One step's tasks in order."""
    query = select(tasks).where(tasks.c.run_id == run_id, tasks.c.position == position).order_by(tasks.c.number)
    return connection.execute(query).all()


def counts(connection: Connection, run_id: int) -> dict[str, int]:
    """How many of the run's tasks are in which state."""
    query = select(tasks.c.state, func.count()).where(tasks.c.run_id == run_id).group_by(tasks.c.state)
    return {row[0]: row[1] for row in connection.execute(query)}


_make_ready = (
    update(tasks)
    .where(
        tasks.c.run_id == bindparam("key"),
        tasks.c.position == bindparam("place"),
        tasks.c.state == "queued",
    )
    .values(ready=1)
)


def make_ready(connection: Connection, run_id: int, positions: Sequence[int]) -> None:
    """These steps' tasks may be claimed."""
    connection.execute(_make_ready, [{"key": run_id, "place": position} for position in positions])


def set_ready(connection: Connection, task_ids: Sequence[int], ready: int) -> None:
    """See the column. What they waited for before is over."""
    mine = tasks.c.id.in_(task_ids) & (tasks.c.state == "queued")
    connection.execute(update(tasks).where(mine).values(ready=ready, waiting=None))


def set_waiting(connection: Connection, task_ids: Sequence[int], reason: Reason | None) -> None:
    """What tasks wait for that do not run yet; nothing is written where it is known already."""
    said = None if reason is None else json.dumps([reason.code, reason.message, reason.hint, str(reason.fault)])
    idle = tasks.c.state.in_(("queued", "starting"))
    mine = tasks.c.id.in_(task_ids) & idle & tasks.c.waiting.is_distinct_from(said)
    connection.execute(update(tasks).where(mine).values(waiting=said))


def with_ready(connection: Connection, ready: int, site: str) -> Sequence[Any]:
    """The site's queued tasks with that mark, with their backend and their runs' plan; for errands after a restart."""
    query = (
        select(tasks.c.id, tasks.c.run_id, tasks.c.position, tasks.c.item, tasks.c.backend, runs.c.plan)
        .join(runs, runs.c.id == tasks.c.run_id)
        .where(is_queued(ready), tasks.c.site.in_(["", site]))
    )
    return connection.execute(query).all()


_other = tasks.alias("other")
_busy = (
    select(func.count())
    .where(_other.c.run_id == tasks.c.run_id, _other.c.position == tasks.c.position, _other.c.state.in_(_ACTIVE))
    .scalar_subquery()
)
_CLAIMABLE = (
    select(
        tasks.c.id,
        tasks.c.run_id,
        tasks.c.position,
        tasks.c.number,
        tasks.c.name,
        tasks.c.item,
        tasks.c.attempts,
        tasks.c.losses,
        runs.c.uid.label("run_uid"),
        runs.c.team,
        runs.c.project,
        runs.c.team,
        runs.c.confined,
        runs.c.actor,
        runs.c.plan,
        runs.c.snapshot,
        runs.c.state.label("run_state"),
        tasks.c.gpus,
        tasks.c.cpus,
        select(quotas.c.name).exists().label("quotas"),
        steps.c.max_parallel,
        tasks.c.licence,
        tasks.c.waiting,
        licences.c.name.label("pool"),
        licences.c.server,
    )
    .join(runs, runs.c.id == tasks.c.run_id)
    .join(steps, (steps.c.run_id == tasks.c.run_id) & (steps.c.position == tasks.c.position))
    .outerjoin(licences, licences.c.name == tasks.c.licence)
    .where(
        tasks.c.backend == bindparam("of_backend"),
        or_(tasks.c.site == "", tasks.c.site == bindparam("here")),
        is_queued(ready=1),
        or_(steps.c.max_parallel.is_(None), _busy < steps.c.max_parallel),
    )
    .order_by(tasks.c.id)
    .limit(bindparam("most"))
    .with_for_update(of=[tasks, runs], skip_locked=True, key_share=True)
)
_CLAIMABLE_BUT = _CLAIMABLE.where(
    or_(tasks.c.waiting.is_(None), licences.c.name.is_(None), tasks.c.licence.not_in(bindparam("full", expanding=True)))
)


def claimable(
    connection: Connection,
    backend: str,
    site: str,
    limit: int,
    full: Collection[str] = (),
    beyond: Sequence[ColumnElement[bool]] = (),
) -> Sequence[Any]:
    """Ready tasks of a backend in order, locked with their runs, each with what a launch needs of its run, with its
    pool of licence seats and that one's server, if it has one, and whether there is any quota.

    Those of a run that somebody else changes right now are left out; so are those that are known to wait, of which a
    seat of a pool that is `full` is needed or something that quotas have no more of (store/quotas.needing).

    A step with max_parallel gives no more than it has left; the caller counts within one answer.
    """
    asked: dict[str, Any] = {"of_backend": backend, "here": site, "most": limit}
    query = _CLAIMABLE_BUT if full else _CLAIMABLE
    if full:
        asked["full"] = sorted(full)
    if beyond:
        query = query.where(or_(tasks.c.waiting.is_(None), not_(or_(*beyond))))
    return connection.execute(query, asked).all()


def active_in_step(connection: Connection, run_id: int, position: int) -> int:
    """How many of a step's tasks are between queued and final."""
    query = select(func.count()).where(
        tasks.c.run_id == run_id, tasks.c.position == position, tasks.c.state.in_(_ACTIVE)
    )
    return connection.execute(query).scalar_one()


_claim = (
    update(tasks)
    .where(tasks.c.id == bindparam("key"))
    .values(
        state="starting",
        attempts=bindparam("tried"),
        reuse_key=bindparam("key_of_reuse"),
        inputs=bindparam("read"),
        reason=None,
        waiting=None,
    )
)


def claim(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """queued -> starting: key, tried (attempts with this one), key_of_reuse, read (inputs as JSON)."""
    if rows:
        connection.execute(_claim, rows)


_set_running = (
    update(tasks)
    .where(tasks.c.id == bindparam("key"))
    .values(state="running", started_at=func.coalesce(tasks.c.started_at, bindparam("at")), waiting=None)
)


def set_running(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """starting -> running: key, at. A retried task keeps its first start."""
    if rows:
        connection.execute(_set_running, rows)


_finish = (
    update(tasks)
    .where(tasks.c.id == bindparam("key"))
    .values(
        state=bindparam("to"),
        exit_code=bindparam("code"),
        reason=bindparam("why"),
        reused=bindparam("again"),
        started_at=func.coalesce(tasks.c.started_at, bindparam("begun")),
        finished_at=bindparam("at"),
        wall=bindparam("wall_us"),
        cpu=bindparam("cpu_us"),
        memory=bindparam("peak"),
        inputs=func.coalesce(bindparam("read", type_=Text), tasks.c.inputs),
        waiting=None,
    )
)


def finish(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """To a final state: key to code why again begun at wall_us cpu_us peak read."""
    if rows:
        connection.execute(_finish, rows)


_requeue = (
    update(tasks)
    .where(tasks.c.id == bindparam("key"))
    .values(state="queued", ready=1, losses=bindparam("lost"), reason=bindparam("why"), exit_code=bindparam("code"))
)


def requeue(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """To be tried again: key lost why code."""
    if rows:
        connection.execute(_requeue, rows)


def end_queued(
    connection: Connection, run_id: int, positions: Sequence[int] | None, state: str, reason: str | None, at: int
) -> list[int]:
    """Every queued task of these steps (None: of the run) to a final state without a start; their keys."""
    mine = (tasks.c.run_id == run_id) & (tasks.c.state == "queued")
    if positions is not None:
        mine &= tasks.c.position.in_(positions)
    keys = list(connection.execute(select(tasks.c.id).where(mine).with_for_update()).scalars())
    if keys:
        ended = update(tasks).where(mine).values(state=state, reason=reason, finished_at=at, waiting=None)
        connection.execute(ended)
    return keys


def first_failure(connection: Connection, run_id: int) -> Any | None:
    """The task that failed or was lost first."""
    query = (
        select(tasks)
        .where(tasks.c.run_id == run_id, tasks.c.state.in_(["failed", "lost"]))
        .order_by(tasks.c.finished_at, tasks.c.id)
        .limit(1)
    )
    return connection.execute(query).first()


def reusable(connection: Connection, key: str, team: str) -> Any | None:
    """The newest succeeded task of the team's with that reuse key."""
    query = (
        select(tasks)
        .join(runs, runs.c.id == tasks.c.run_id)
        .where(tasks.c.reuse_key == key, tasks.c.state == "succeeded", runs.c.team == team)
        .order_by(tasks.c.id.desc())
        .limit(1)
    )
    return connection.execute(query).first()


def last_success(connection: Connection, team: str, project: str, pipeline: str, name: str) -> Any | None:
    """The newest succeeded task of that name in that team's project's pipeline, with its reuse key."""
    query = (
        select(tasks)
        .join(runs, runs.c.id == tasks.c.run_id)
        .where(
            runs.c.team == team,
            runs.c.project == project,
            runs.c.pipeline == pipeline,
            tasks.c.name == name,
            tasks.c.state == "succeeded",
            tasks.c.reuse_key.is_not(None),
        )
        .order_by(runs.c.id.desc())
        .limit(1)
    )
    return connection.execute(query).first()


def add_artifacts(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """run_id task_id name kind size sha256 lost labels."""
    if rows:
        connection.execute(insert(artifacts), rows)


def artifacts_of_task(connection: Connection, task_id: int) -> Sequence[Any]:
    """A task's artifacts by name."""
    query = select(artifacts).where(artifacts.c.task_id == task_id).order_by(artifacts.c.name)
    return connection.execute(query).all()


def artifacts_of_run(connection: Connection, run_id: int) -> Sequence[Any]:
    """A run's artifacts in the order of its tasks, then by name."""
    query = select(artifacts).where(artifacts.c.run_id == run_id).order_by(artifacts.c.task_id, artifacts.c.name)
    return connection.execute(query).all()


def metrics_files(
    connection: Connection, run_id: int, positions: Collection[int], task_ids: Collection[int]
) -> Sequence[Any]:
    """The metrics files of these steps' succeeded tasks, and of these tasks, with task_name and position, in order."""
    query = (
        select(artifacts.c.name, artifacts.c.sha256, tasks.c.name.label("task_name"), tasks.c.position)
        .join(tasks, tasks.c.id == artifacts.c.task_id)
        .where(
            artifacts.c.run_id == run_id,
            artifacts.c.kind == Kind.METRICS.value,
            tasks.c.state == "succeeded",
            or_(tasks.c.position.in_(positions), tasks.c.id.in_(task_ids)),
        )
        .order_by(tasks.c.position, tasks.c.number, artifacts.c.name)
    )
    return connection.execute(query).all()


def artifacts_of_step(connection: Connection, run_id: int, position: int) -> Sequence[Any]:
    """The artifacts of a step's succeeded tasks, with the task's number and item, by number and name."""
    query = (
        select(artifacts, tasks.c.number, tasks.c.item, tasks.c.name.label("task_name"))
        .join(tasks, tasks.c.id == artifacts.c.task_id)
        .where(tasks.c.run_id == run_id, tasks.c.position == position, tasks.c.state == "succeeded")
        .order_by(tasks.c.number, artifacts.c.name)
    )
    return connection.execute(query).all()


def artifacts_of_tasks(connection: Connection, task_ids: Sequence[int]) -> Sequence[Any]:
    """The same of given tasks."""
    query = (
        select(artifacts, tasks.c.number, tasks.c.item, tasks.c.name.label("task_name"))
        .join(tasks, tasks.c.id == artifacts.c.task_id)
        .where(tasks.c.id.in_(task_ids))
        .order_by(tasks.c.number, artifacts.c.name)
    )
    return connection.execute(query).all()


def set_lost(connection: Connection, artifact_id: int, lost: str) -> None:
    """What conversions of the artifact lost, as JSON."""
    connection.execute(update(artifacts).where(artifacts.c.id == artifact_id).values(lost=lost))
