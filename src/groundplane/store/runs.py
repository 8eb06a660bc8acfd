"""Runs and their steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from groundplane.model.states import FINAL, OPEN
from groundplane.store.rights import EVERYTHING, Visible
from groundplane.store.tables import attempts, runs, steps, transitions

_OPEN = sorted(OPEN)
_FINAL = sorted(FINAL)


def add(connection: Connection, values: Mapping[str, Any], step_rows: Sequence[Mapping[str, Any]]) -> int:
    """A new run with its steps; its key."""
    run_id: int = connection.execute(insert(runs).values(**values).returning(runs.c.id)).scalar_one()
    if step_rows:
        connection.execute(insert(steps), [{"run_id": run_id, **row} for row in step_rows])
    return run_id


# What each turn of the engine, or each look of a follower, asks is built once: building costs more than asking.
_BY_UID = select(runs).where(runs.c.uid == bindparam("of"))


def by_uid(connection: Connection, uid: str) -> Any | None:
    """The run of that id."""
    return connection.execute(_BY_UID, {"of": uid}).first()


def ended_before(connection: Connection, at: int, after: int, limit: int) -> list[tuple[int, str]]:
    """(key, id) of runs that ended before `at`, oldest first, from the key `after` on."""
    query = select(runs.c.id, runs.c.uid).where(runs.c.id > after, runs.c.finished_at < at)
    return [(row.id, row.uid) for row in connection.execute(query.order_by(runs.c.id).limit(limit))]


_BY_KEY = select(runs).where(runs.c.id == bindparam("key"))
_BY_KEY_LOCKED = _BY_KEY.with_for_update(key_share=True)
_ATTEMPTED = select(attempts.c.run_id).where(attempts.c.uid.in_(bindparam("uids", expanding=True)))
_LOCK = select(runs.c.id).order_by(runs.c.id).with_for_update(key_share=True)
_LOCK_KEYS = _LOCK.where(runs.c.id.in_(bindparam("keys", expanding=True)))
_LOCK_ATTEMPTED = _LOCK.where(runs.c.id.in_(_ATTEMPTED))


def by_key(connection: Connection, run_id: int, *, lock: bool = False) -> Any:
    """The run of that key; `lock` keeps other control planes from changing it in this transaction."""
    return connection.execute(_BY_KEY_LOCKED if lock else _BY_KEY, {"key": run_id}).one()


def lock(connection: Connection, run_ids: Iterable[int]) -> None:
    """Keeps others from changing these runs, their tasks and attempts until the commit.

    Whoever changes tasks or attempts locks their run first, so that no two wait for each other. On SQLite a write
    transaction has the whole database already.
    """
    if connection.dialect.name != "sqlite":
        connection.execute(_LOCK_KEYS, {"keys": list(run_ids)}).all()


def lock_of(connection: Connection, uids: Sequence[str]) -> None:
    """The same for the runs of these attempts."""
    if connection.dialect.name != "sqlite":
        connection.execute(_LOCK_ATTEMPTED, {"uids": list(uids)}).all()


def by_prefix(connection: Connection, prefix: str, visible: Visible) -> Sequence[Any]:
    """The runs whose ids begin so, at most three."""
    upper = prefix + "\uffff"
    query = select(runs).where(runs.c.uid >= prefix, runs.c.uid < upper, visible.of_runs()).limit(3)
    return connection.execute(query).all()


def page(connection: Connection, state: str | None, below: int | None, limit: int, visible: Visible) -> Sequence[Any]:
    """Newest first by the server's sequence, those below the key `below`, by keyset."""
    query = select(runs).order_by(runs.c.id.desc()).limit(limit)
    if visible != EVERYTHING:
        query = query.where(visible.of_runs())
    if state is not None:
        query = query.where(runs.c.state == state)
    if below is not None:
        query = query.where(runs.c.id < below)
    return connection.execute(query).all()


def count_open(connection: Connection) -> int:
    """How many runs are not final."""
    return len(connection.execute(select(runs.c.id).where(runs.c.state.in_(_OPEN))).all())


def open_runs(connection: Connection) -> Sequence[Any]:
    """The runs that are not final."""
    return connection.execute(select(runs).where(runs.c.state.in_(_OPEN)).order_by(runs.c.id)).all()


def of_nobodys(connection: Connection, project: str) -> bool:
    """Whether there are runs of a project of that name from when nobody had made one."""
    query = select(runs.c.id).where(runs.c.project == project, runs.c.team == "").limit(1)
    return connection.execute(query).first() is not None


def queued_of(connection: Connection, actor: str) -> list[int]:
    """The runs that somebody submitted and that have not begun."""
    mine = (runs.c.state == "queued") & (runs.c.actor == actor)
    return list(connection.execute(select(runs.c.id).where(mine).order_by(runs.c.id)).scalars())


def plans_in_use(connection: Connection, since: int | None) -> Sequence[Any]:
    """team project actor plan of the open runs, and of those submitted since then (µs UTC), each once."""
    used = runs.c.state.in_(_OPEN)
    if since is not None:
        used |= runs.c.submitted_at >= since
    query = select(runs.c.team, runs.c.project, runs.c.actor, runs.c.plan).where(used).distinct()
    return connection.execute(query).all()


def set_plan(connection: Connection, run_id: int, digest: str) -> None:
    """The same plan with more of it known."""
    connection.execute(update(runs).where(runs.c.id == run_id).values(plan=digest))


def begin(connection: Connection, run_ids: Iterable[int], at: int) -> None:
    """queued -> running for those that are queued."""
    for run_id in run_ids:
        changed = connection.execute(
            update(runs).where(runs.c.id == run_id, runs.c.state == "queued").values(state="running", started_at=at)
        )
        if changed.rowcount:
            connection.execute(insert(transitions).values(run_id=run_id, state="running", at=at))


_CHANGE_OPEN = (
    update(runs)
    .where(runs.c.id == bindparam("key"))
    .values(open_tasks=runs.c.open_tasks + bindparam("more"), task_count=runs.c.task_count + bindparam("new"))
    .returning(runs)
)


def change_open(connection: Connection, run_id: int, by: int, tasks_by: int = 0) -> Any:
    """Adds to open_tasks and task_count; the run as it is then. Locks the row until the commit."""
    return connection.execute(_CHANGE_OPEN, {"key": run_id, "more": by, "new": tasks_by}).one()


def finish(connection: Connection, run_id: int, state: str, reason: str | None, at: int) -> bool:
    """To a final state, once."""
    changed = connection.execute(
        update(runs)
        .where(runs.c.id == run_id, runs.c.state.not_in(_FINAL))
        .values(state=state, reason=reason, finished_at=at)
    )
    if changed.rowcount:
        connection.execute(insert(transitions).values(run_id=run_id, state=state, at=at))
    return bool(changed.rowcount)


def ask_cancel(connection: Connection, run_id: int, at: int) -> bool:
    """Marks an open run as cancelled by somebody; whether it was open and not yet so marked."""
    changed = connection.execute(
        update(runs)
        .where(runs.c.id == run_id, runs.c.state.not_in([*_FINAL, "stopping"]))
        .values(cancelled=True, state="stopping")
    )
    if changed.rowcount:
        connection.execute(insert(transitions).values(run_id=run_id, state="stopping", at=at))
    return bool(changed.rowcount)


def set_metrics(connection: Connection, run_id: int, metrics: str) -> None:
    """The run's metrics as JSON text."""
    connection.execute(update(runs).where(runs.c.id == run_id).values(metrics=metrics))


_AMONG = (steps.c.run_id == bindparam("key")) & steps.c.position.in_(bindparam("places", expanding=True))
_WAITING_LESS = (
    update(steps).where(_AMONG).values(waiting=steps.c.waiting - 1).returning(steps.c.position, steps.c.waiting)
)


def waiting_less(connection: Connection, run_id: int, positions: Sequence[int]) -> list[int]:
    """Each of these steps waits for one step less; those that wait for none now."""
    if not positions:
        return []
    changed = connection.execute(_WAITING_LESS, {"key": run_id, "places": list(positions)})
    return sorted(position for position, waiting in changed if waiting == 0)


_REMAINING_LESS = (
    update(steps)
    .where(steps.c.run_id == bindparam("key"), steps.c.position == bindparam("place"))
    .values(remaining=steps.c.remaining - bindparam("less"))
    .returning(steps.c.remaining)
)


def remaining_less(connection: Connection, run_id: int, position: int, by: int) -> int:
    """The step has so many tasks less to succeed; what remains. Locks the row until the commit."""
    return connection.execute(_REMAINING_LESS, {"key": run_id, "place": position, "less": by}).scalar_one()


def expand(connection: Connection, run_id: int, position: int, count: int) -> bool:
    """The fan-out has so many tasks; False when it was expanded before."""
    changed = connection.execute(
        update(steps)
        .where(steps.c.run_id == run_id, steps.c.position == position, steps.c.remaining.is_(None))
        .values(remaining=count)
    )
    return bool(changed.rowcount)


def steps_of(connection: Connection, run_id: int) -> Sequence[Any]:
    """The run's steps in order."""
    return connection.execute(select(steps).where(steps.c.run_id == run_id).order_by(steps.c.position)).all()


_add_transitions = insert(transitions).values(
    run_id=bindparam("run_id"),
    task_id=bindparam("task_id"),
    attempt=bindparam("attempt"),
    state=bindparam("state"),
    at=bindparam("at"),
)


def add_transitions(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """What tasks and attempts went through: run_id task_id attempt (its number or None) state at."""
    if rows:
        connection.execute(_add_transitions, rows)
