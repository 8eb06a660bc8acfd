"""Backends that somebody added."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from groundplane.store.tables import backends


def listing(connection: Connection) -> Sequence[Any]:
    """name, driver, options (JSON), added_at, region, encrypted of each, by name."""
    return connection.execute(select(backends).order_by(backends.c.name)).all()


def get(connection: Connection, name: str) -> Any | None:
    """The backend of that name."""
    return connection.execute(select(backends).where(backends.c.name == name)).first()


def add(connection: Connection, name: str, driver: str, options: str, at: int, *, region: str, encrypted: bool) -> None:
    """options: JSON. There must be none of that name."""
    connection.execute(
        insert(backends).values(
            name=name, driver=driver, options=options, added_at=at, region=region, encrypted=encrypted
        )
    )


def remove(connection: Connection, name: str) -> bool:
    """Whether there was one."""
    return bool(connection.execute(delete(backends).where(backends.c.name == name)).rowcount)
