"""Attempts and their leases. A lease is a holder (a control plane) and an epoch; it ends with the holder's row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, update

from groundplane.model.states import OPEN
from groundplane.store.tables import attempts, control_planes, runs, tasks

_OPEN = sorted(OPEN)
_insert = insert(attempts)


def add(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """New attempts, claimed: uid run_id task_id number backend state holder epoch claimed_at."""
    if rows:
        connection.execute(_insert, rows)


_LOAD = (
    select(
        attempts.c.id,
        attempts.c.uid,
        attempts.c.number,
        attempts.c.state,
        attempts.c.epoch,
        attempts.c.backend,
        attempts.c.task_id,
        attempts.c.run_id,
        attempts.c.started_at,
        attempts.c.claimed_at,
        tasks.c.position,
        tasks.c.name,
        tasks.c.item,
        tasks.c.number.label("task_number"),
        tasks.c.attempts.label("tries"),
        tasks.c.losses,
        tasks.c.state.label("task_state"),
        tasks.c.inputs,
        runs.c.uid.label("run_uid"),
        runs.c.plan,
        runs.c.snapshot,
        runs.c.cancelled,
    )
    .join(tasks, tasks.c.id == attempts.c.task_id)
    .join(runs, runs.c.id == attempts.c.run_id)
)


def held(connection: Connection, holder: str, uids: Sequence[str]) -> Sequence[Any]:
    """Those of these open attempts that the holder follows, locked, with their task and run."""
    query = _LOAD.where(attempts.c.uid.in_(uids), attempts.c.holder == holder, attempts.c.state.in_(_OPEN))
    return connection.execute(query.with_for_update(of=attempts)).all()


def all_held(connection: Connection, holder: str) -> Sequence[Any]:
    """Every open attempt of the holder, with its task and run."""
    query = _LOAD.where(attempts.c.holder == holder, attempts.c.state.in_(_OPEN)).order_by(attempts.c.id)
    return connection.execute(query).all()


_run = (
    update(attempts)
    .where(attempts.c.id == bindparam("key"))
    .values(state="running", started_at=func.coalesce(attempts.c.started_at, bindparam("at")))
)
_finish = (
    update(attempts)
    .where(attempts.c.id == bindparam("key"))
    .values(
        state=bindparam("to"),
        started_at=func.coalesce(attempts.c.started_at, bindparam("begun")),
        finished_at=bindparam("at"),
        exit_code=bindparam("code"),
        reason=bindparam("why"),
    )
)


def set_running(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """key, at."""
    if rows:
        connection.execute(_run, rows)


def finish(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """key to begun at code why."""
    if rows:
        connection.execute(_finish, rows)


def set_stopping(connection: Connection, run_id: int) -> None:
    """Every open attempt of the run, and its task, is being stopped."""
    mine = (attempts.c.run_id == run_id) & attempts.c.state.in_(["starting", "running"])
    connection.execute(update(attempts).where(mine).values(state="stopping"))
    connection.execute(
        update(tasks)
        .where(tasks.c.run_id == run_id, tasks.c.state.in_(["starting", "running"]))
        .values(state="stopping")
    )


def numbers(connection: Connection, run_id: int) -> dict[str, int]:
    """Attempt id -> its number, of a run."""
    rows = connection.execute(select(attempts.c.uid, attempts.c.number).where(attempts.c.run_id == run_id))
    return {row[0]: row[1] for row in rows}


def uncleaned(connection: Connection, holder: str, backend: str) -> list[str]:
    """Ended attempts of the holder whose driver has not been told to forget them."""
    query = select(attempts.c.uid).where(
        attempts.c.holder == holder,
        attempts.c.backend == backend,
        attempts.c.cleaned.is_(False),
        attempts.c.state.not_in(_OPEN),
    )
    return list(connection.execute(query).scalars())


# --- leases -----------------------------------------------------------------------------------------------------


def register(connection: Connection, holder: str, site: str, pid: int, at: int, expires_at: int) -> None:
    """A control plane appears."""
    connection.execute(
        insert(control_planes).values(id=holder, site=site, pid=pid, started_at=at, expires_at=expires_at)
    )


def renew(connection: Connection, holder: str, expires_at: int) -> bool:
    """Prolongs all leases of the holder; False when others have taken them already."""
    changed = connection.execute(
        update(control_planes).where(control_planes.c.id == holder).values(expires_at=expires_at)
    )
    return bool(changed.rowcount)


def leave(connection: Connection, holder: str) -> None:
    """The control plane ends: its leases are free at once."""
    connection.execute(update(control_planes).where(control_planes.c.id == holder).values(expires_at=0))


def expired(connection: Connection, site: str, now: int, but: str) -> list[str]:
    """Control planes of the site whose time is up, locked."""
    query = (
        select(control_planes.c.id)
        .where(control_planes.c.site == site, control_planes.c.expires_at < now, control_planes.c.id != but)
        .with_for_update(skip_locked=True)
    )
    return list(connection.execute(query).scalars())


def adopt(connection: Connection, gone: Sequence[str], holder: str) -> int:
    """Takes over the open attempts of holders that are gone, one epoch up, and forgets these holders."""
    taken = connection.execute(
        update(attempts)
        .where(attempts.c.holder.in_(gone), attempts.c.state.in_(_OPEN))
        .values(holder=holder, epoch=attempts.c.epoch + 1)
    ).rowcount
    connection.execute(control_planes.delete().where(control_planes.c.id.in_(gone)))
    return taken


def others(connection: Connection, but: str) -> list[str]:
    """Every registered control plane but this one."""
    return list(connection.execute(select(control_planes.c.id).where(control_planes.c.id != but)).scalars())
