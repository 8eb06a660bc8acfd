"""Connections: databases and buckets by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from groundplane.store.secret_tables import connections


def listing(connection: Connection) -> Sequence[Any]:
    """Each by name; of the same name that of all projects first."""
    return connection.execute(select(connections).order_by(connections.c.name, connections.c.project)).all()


def serving(connection: Connection, name: str, project: str) -> Any | None:
    """The one that the project's work gets: its own, else that of all projects."""
    query = select(connections).where(connections.c.name == name, connections.c.project.in_(["", project]))
    return connection.execute(query.order_by(connections.c.project.desc()).limit(1)).first()


def put(
    connection: Connection, name: str, project: str, url: str, secret: str | None, at: int, *, to_this_host: bool
) -> None:
    """Makes it, or changes where it leads."""
    row = {"url": url, "secret": secret, "to_this_host": int(to_this_host)}
    mine = (connections.c.name == name) & (connections.c.project == project)
    found = connection.execute(update(connections).where(mine).values(**row))
    if not found.rowcount:
        connection.execute(insert(connections).values(name=name, project=project, added_at=at, **row))


def remove(connection: Connection, name: str, project: str) -> bool:
    """Whether there was one."""
    mine = (connections.c.name == name) & (connections.c.project == project)
    return bool(connection.execute(delete(connections).where(mine)).rowcount)
