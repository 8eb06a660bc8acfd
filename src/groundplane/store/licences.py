"""Pools of licence seats. How many are taken is not kept: it is counted from the open attempts.

Whoever locks several pools' rows locks all of them, by name: so two of them never wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from groundplane.store.tables import attempts, is_open, is_queued, licences, runs, tasks


def get(connection: Connection, name: str) -> Any | None:
    """The pool of that name."""
    return connection.execute(select(licences).where(licences.c.name == name)).first()


def listing(connection: Connection) -> Sequence[Any]:
    """Every pool by name."""
    return connection.execute(select(licences).order_by(licences.c.name)).all()


def locked(connection: Connection) -> Sequence[Any]:
    """The same, so that nobody else takes a seat, or changes a pool, before this transaction has ended."""
    return connection.execute(select(licences).order_by(licences.c.name).with_for_update()).all()


def put(connection: Connection, name: str, seats: int, server: str | None) -> None:
    """Makes the pool, or changes it. What another server said of it is forgotten. The caller has it `locked`."""
    known = get(connection, name)
    if known is None:
        connection.execute(insert(licences).values(name=name, seats=seats, server=server))
        return
    values: dict[str, Any] = {"seats": seats, "server": server, "refused_at": None, "granted": None}
    if known.server != server:
        values |= dict.fromkeys(("asked_at", "issued", "others", "error"))
    connection.execute(update(licences).where(licences.c.name == name).values(values))


def remove(connection: Connection, name: str) -> bool:
    """Whether there was such a pool."""
    return bool(connection.execute(delete(licences).where(licences.c.name == name)).rowcount)


def answered(
    connection: Connection, name: str, server: str, at: int, *, issued: int | None, others: int, error: str | None
) -> None:
    """What that server said of the pool; nothing when the pool has another one by now."""
    mine = (licences.c.name == name) & (licences.c.server == server)
    connection.execute(update(licences).where(mine).values(asked_at=at, issued=issued, others=others, error=error))


def refused(connection: Connection, name: str, at: int, granted: int) -> None:
    """The engine's own licence manager gave no seat beside those. The caller has the pools `locked`."""
    connection.execute(update(licences).where(licences.c.name == name).values(refused_at=at, granted=granted))


def taken(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """Pool -> how many open attempts have a seat of it; a pool of which nobody has one is left out."""
    query = (
        select(attempts.c.licence, func.count())
        .where(attempts.c.licence.in_(list(names)), is_open(attempts.c.state))
        .group_by(attempts.c.licence)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def holders(connection: Connection, names: Iterable[str]) -> Sequence[Any]:
    """Who has the seats, first come first: licence run_uid run_name team project actor task
    backend claimed_at."""
    query = (
        select(
            attempts.c.licence,
            attempts.c.backend,
            attempts.c.claimed_at,
            runs.c.uid.label("run_uid"),
            runs.c.name.label("run_name"),
            runs.c.team,
            runs.c.project,
            runs.c.actor,
            tasks.c.name.label("task"),
        )
        .join(tasks, tasks.c.id == attempts.c.task_id)
        .join(runs, runs.c.id == attempts.c.run_id)
        .where(attempts.c.licence.in_(list(names)), is_open(attempts.c.state))
        .order_by(attempts.c.claimed_at, attempts.c.id)
    )
    return connection.execute(query).all()


def waiting(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """Pool -> how many tasks could start but for its seat."""
    query = (
        select(tasks.c.licence, func.count())
        .where(is_queued(ready=1), tasks.c.licence.in_(list(names)), tasks.c.waiting.is_not(None))
        .group_by(tasks.c.licence)
    )
    return {row[0]: row[1] for row in connection.execute(query)}
