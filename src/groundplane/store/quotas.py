"""Quotas, and what is used of them: nothing of that is kept, it is counted from what is open.

Whoever decides by quotas has locked all of their rows, after those of all licence pools: so two never wait for each
other, and the second one counts what the first one took.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, delete, func, select, true

from groundplane.model.states import OPEN
from groundplane.store import upserts
from groundplane.store.quota_tables import quotas
from groundplane.store.tables import attempts, is_open, is_queued, runs, tasks

_LISTING = select(quotas).order_by(quotas.c.kind, quotas.c.name, quotas.c.resource)
_LOCKED = _LISTING.with_for_update()
_UNDER_WAY = ("running", "stopping")
_OPEN = sorted(OPEN)


def listing(connection: Connection) -> Sequence[Any]:
    """Every quota: kind name resource ceiling over."""
    return connection.execute(_LISTING).all()


def locked(connection: Connection) -> Sequence[Any]:
    """The same, so that nobody else takes of any, or changes one, before this transaction has ended."""
    return connection.execute(_LOCKED).all()


def put(connection: Connection, kind: str, name: str, resource: str, ceiling: int, over: str) -> None:
    """Makes the quota, or changes it. The caller has them `locked`."""
    row = {"kind": kind, "name": name, "resource": resource, "ceiling": ceiling, "over": over}
    upserts.replace(connection, quotas, [row])


def remove(connection: Connection, kind: str, name: str, resource: str) -> bool:
    """Whether there was such a quota."""
    mine = and_(quotas.c.kind == kind, quotas.c.name == name, quotas.c.resource == resource)
    return bool(connection.execute(delete(quotas).where(mine)).rowcount)


# --- what is used ------------------------------------------------------------------------------------------------

_OF = (runs.c.project, runs.c.team)
_TAKEN = (
    select(*_OF, func.sum(tasks.c.gpus).label("gpus"), func.sum(tasks.c.cpus).label("cpus"))
    .select_from(attempts)
    .join(tasks, tasks.c.id == attempts.c.task_id)
    .join(runs, runs.c.id == attempts.c.run_id)
    .where(is_open(attempts.c.state))
    .group_by(*_OF)
)
_BEGUN = select(*_OF, func.count().label("runs")).where(runs.c.state.in_(_UNDER_WAY)).group_by(*_OF)


def taken(connection: Connection) -> Sequence[Any]:
    """project team gpus cpus: what open attempts have, where there are any."""
    return connection.execute(_TAKEN).all()


def begun(connection: Connection) -> Sequence[Any]:
    """project team runs: how many have begun and not ended."""
    return connection.execute(_BEGUN).all()


def seats(connection: Connection, names: Collection[str]) -> Sequence[Any]:
    """project team licence seats: what open attempts have of these pools."""
    query = (
        select(*_OF, attempts.c.licence, func.count().label("seats"))
        .select_from(attempts)
        .join(runs, runs.c.id == attempts.c.run_id)
        .where(is_open(attempts.c.state), attempts.c.licence.in_(list(names)))
        .group_by(*_OF, attempts.c.licence)
    )
    return connection.execute(query).all()


def promised(connection: Connection, resource: str) -> list[tuple[str, str, int]]:
    """(project, team, amount) of each run that has not ended: what its open attempts have, or what its largest task
    that has not ended would have, whichever is more. Of `runs`: 1."""
    if resource == "runs":
        of_all = select(*_OF).where(runs.c.state.in_(_OPEN))
        return [(row.project, row.team, 1) for row in connection.execute(of_all)]
    amount = _amount(resource)
    of_open = (
        select(attempts.c.run_id, func.sum(amount).label("amount"))
        .join(tasks, tasks.c.id == attempts.c.task_id)
        .where(is_open(attempts.c.state))
        .group_by(attempts.c.run_id)
    )
    largest = (
        select(runs.c.id, *_OF, func.max(amount).label("amount"))
        .join(tasks, tasks.c.run_id == runs.c.id)
        .where(runs.c.state.in_(_OPEN), tasks.c.state.in_(_OPEN))
        .group_by(runs.c.id, *_OF)
    )
    has: dict[int, int] = {row.run_id: int(row.amount) for row in connection.execute(of_open)}
    return [(row.project, row.team, max(int(row.amount), has.get(row.id, 0))) for row in connection.execute(largest)]


def waiting(connection: Connection, code: str) -> Sequence[Any]:
    """project team gpus cpus licence run_id run_state of every task that was last found to wait with that code."""
    query = (
        select(*_OF, tasks.c.gpus, tasks.c.cpus, tasks.c.licence, tasks.c.run_id, runs.c.state.label("run_state"))
        .join(runs, runs.c.id == tasks.c.run_id)
        .where(is_queued(ready=1), tasks.c.waiting.startswith(f'["{code}"'))
    )
    return connection.execute(query).all()


def needing(resource: str, kind: str, names: Iterable[str] | None) -> ColumnElement[bool]:
    """Of tasks joined with their runs: those of that project, or of these teams (None: of all), that need the resource.

    names: of the project alone, or of the team and all below it.
    """
    owner = runs.c.project if kind == "project" else runs.c.team
    whose = true() if names is None else owner.in_(list(names))
    if resource == "runs":
        return and_(whose, runs.c.state == "queued")
    if resource.startswith("seats:"):
        return and_(whose, tasks.c.licence == resource.partition(":")[2])
    return and_(whose, (tasks.c.gpus if resource == "gpus" else tasks.c.cpus) > 0)


def _amount(resource: str) -> ColumnElement[int]:
    """What a task counts for."""
    if resource.startswith("seats:"):
        return case((tasks.c.licence == resource.partition(":")[2], 1), else_=0)
    return tasks.c.gpus if resource == "gpus" else tasks.c.cpus
