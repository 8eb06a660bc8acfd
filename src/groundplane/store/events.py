"""What actors did, and what they were denied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, insert, select

from groundplane.store.tables import events


def add(connection: Connection, *, at: int, actor: str, action: str, object_: str, outcome: str, body: str) -> None:
    """One fact; `body` is JSON text."""
    connection.execute(
        insert(events).values(at=at, actor=actor, action=action, object=object_, outcome=outcome, body=body)
    )


def page(connection: Connection, below: int | None, limit: int) -> Sequence[Any]:
    """Newest first, by keyset."""
    query = select(events).order_by(events.c.id.desc()).limit(limit)
    if below is not None:
        query = query.where(events.c.id < below)
    return connection.execute(query).all()
