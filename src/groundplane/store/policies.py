"""Policy files that a firm added, and the decisions on its launches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from groundplane.store.policy_tables import decisions, policies
from groundplane.store.tables import runs

_STAMPS = select(policies.c.name, policies.c.sha256).order_by(policies.c.name)
_FILES = select(policies).order_by(policies.c.name)


def stamps(connection: Connection) -> tuple[tuple[str, str], ...]:
    """(name, sha256) of each file by name: other files, other stamps."""
    return tuple((row.name, row.sha256) for row in connection.execute(_STAMPS))


def listing(connection: Connection) -> Sequence[Any]:
    """name text sha256 actor added_at of each, by name."""
    return connection.execute(_FILES).all()


def put(connection: Connection, *, name: str, text: str, sha256: str, actor: str, at: int) -> None:
    """In the place of the one of that name, if there is one."""
    remove(connection, name)
    connection.execute(insert(policies).values(name=name, text=text, sha256=sha256, actor=actor, added_at=at))


def remove(connection: Connection, name: str) -> bool:
    """Whether there was one."""
    return bool(connection.execute(delete(policies).where(policies.c.name == name)).rowcount)


def decided(connection: Connection, *, run: str, at: int, outcome: str, body: str) -> None:
    """What came of asking for that run, in the place of what came of asking before."""
    connection.execute(delete(decisions).where(decisions.c.run == run))
    connection.execute(insert(decisions).values(run=run, at=at, outcome=outcome, body=body))


def decision(connection: Connection, run: str) -> Any | None:
    """run at outcome body of that run's; see teams.by_name."""
    if not run.isprintable():
        return None
    return connection.execute(select(decisions).where(decisions.c.run == run)).first()


def launched(connection: Connection, since: int) -> Sequence[Any]:
    """The decisions on runs that were allowed since then (µs UTC), newest first, each with its run's team, project and
    actor."""
    query = (
        select(decisions, runs.c.team, runs.c.project, runs.c.actor)
        .join(runs, runs.c.uid == decisions.c.run)
        .where(decisions.c.at >= since, decisions.c.outcome == "allowed")
        .order_by(decisions.c.at.desc())
    )
    return connection.execute(query).all()
