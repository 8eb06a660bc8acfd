"""Secrets as they are kept: sealed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from groundplane.store.secret_tables import secrets


def listing(connection: Connection) -> Sequence[Any]:
    """name project version set_at set_by of each, by name; of the same name that of all projects first."""
    c = secrets.c
    query = select(c.name, c.project, c.version, c.set_at, c.set_by).order_by(c.name, c.project)
    return connection.execute(query).all()


def get(connection: Connection, name: str, project: str, *, lock: bool = False) -> Any | None:
    """Exactly that one. project: "" for that of all projects. lock: nobody else changes it meanwhile."""
    query = select(secrets).where(secrets.c.name == name, secrets.c.project == project)
    return connection.execute(query.with_for_update() if lock else query).first()


def serving(connection: Connection, name: str, project: str) -> Any | None:
    """The one that the project's work gets: its own, else that of all projects."""
    query = select(secrets).where(secrets.c.name == name, secrets.c.project.in_(["", project]))
    return connection.execute(query.order_by(secrets.c.project.desc()).limit(1)).first()


def put(connection: Connection, name: str, project: str, values: dict[str, Any]) -> None:
    """Makes it, or replaces it. The caller has it locked."""
    mine = (secrets.c.name == name) & (secrets.c.project == project)
    if not connection.execute(update(secrets).where(mine).values(values)).rowcount:
        connection.execute(insert(secrets).values(name=name, project=project, **values))


def remove(connection: Connection, name: str, project: str) -> bool:
    """Whether there was one."""
    mine = (secrets.c.name == name) & (secrets.c.project == project)
    return bool(connection.execute(delete(secrets).where(mine)).rowcount)
