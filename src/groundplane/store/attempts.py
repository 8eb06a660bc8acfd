"""Attempts and their leases. A lease is a holder (a control plane) and an epoch; it ends with the holder's row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, exists, func, insert, select, update

from groundplane.store.tables import attempts, control_planes, is_open, licences, runs, tasks

_insert = insert(attempts)


def add(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """New attempts, claimed: uid run_id task_id number backend state holder epoch claimed_at licence."""
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
        attempts.c.licence,
        tasks.c.position,
        tasks.c.name,
        tasks.c.item,
        tasks.c.number.label("task_number"),
        tasks.c.attempts.label("tries"),
        tasks.c.losses,
        tasks.c.state.label("task_state"),
        tasks.c.inputs,
        runs.c.uid.label("run_uid"),
        runs.c.team,
        runs.c.project,
        runs.c.confined,
        runs.c.actor,
        runs.c.plan,
        runs.c.snapshot,
        runs.c.cancelled,
        licences.c.server,
    )
    .join(tasks, tasks.c.id == attempts.c.task_id)
    .join(runs, runs.c.id == attempts.c.run_id)
    .outerjoin(licences, licences.c.name == attempts.c.licence)
)


_HELD = _LOAD.where(
    attempts.c.uid.in_(bindparam("uids", expanding=True)),
    attempts.c.holder == bindparam("mine"),
    is_open(attempts.c.state),
).with_for_update(of=attempts)


def held(connection: Connection, holder: str, uids: Sequence[str]) -> Sequence[Any]:
    """Those of these open attempts that the holder follows, locked, with their task and run."""
    return connection.execute(_HELD, {"uids": list(uids), "mine": holder}).all()


def all_held(connection: Connection, holder: str) -> Sequence[Any]:
    """Every open attempt of the holder, with its task and run."""
    query = _LOAD.where(attempts.c.holder == holder, is_open(attempts.c.state)).order_by(attempts.c.id)
    return connection.execute(query).all()


def open_of(connection: Connection, uid: str) -> Any | None:
    """id, and `actor` of its run, of an open attempt; None when there is none of that id."""
    query = select(attempts.c.id, runs.c.actor).join(runs, runs.c.id == attempts.c.run_id)
    return connection.execute(query.where(attempts.c.uid == uid, is_open(attempts.c.state))).first()


def open_ids(connection: Connection) -> set[str]:
    """The ids of all open attempts, whoever follows them."""
    query = select(attempts.c.uid).where(is_open(attempts.c.state))
    return set(connection.execute(query).scalars())


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


def final_or_unknown(connection: Connection, uids: Sequence[str]) -> set[str]:
    """Those of these attempts that have ended by the database, or that it never knew."""
    query = select(attempts.c.uid).where(attempts.c.uid.in_(uids), is_open(attempts.c.state))
    return set(uids) - set(connection.execute(query).scalars())


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


def adopt(connection: Connection, holder: str, site: str, now: int) -> int:
    """Takes over the site's open attempts whose holders are no more, one epoch up; how many."""
    alive = select(control_planes.c.id).where(control_planes.c.expires_at >= now)
    of_site = exists().where(tasks.c.id == attempts.c.task_id, tasks.c.site.in_(["", site]))
    abandoned = is_open(attempts.c.state) & (attempts.c.holder != holder) & attempts.c.holder.not_in(alive) & of_site
    return connection.execute(
        update(attempts).where(abandoned).values(holder=holder, epoch=attempts.c.epoch + 1)
    ).rowcount


def forget_gone(connection: Connection, now: int) -> int:
    """Forgets the control planes that are no more and hold nothing; how many."""
    holding = select(attempts.c.holder).where(is_open(attempts.c.state))
    gone = (control_planes.c.expires_at < now) & control_planes.c.id.not_in(holding)
    return connection.execute(control_planes.delete().where(gone)).rowcount


def expire_others(connection: Connection, holder: str) -> None:
    """Every control plane but this one is no more."""
    connection.execute(update(control_planes).where(control_planes.c.id != holder).values(expires_at=0))
