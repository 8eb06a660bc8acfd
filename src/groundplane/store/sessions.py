"""Sessions: logins of people at the pages. Only the digests of their cookies are kept."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, insert, or_, select, update

from groundplane.store.account_tables import sessions, users


def add(connection: Connection, digest: str, user_id: int, methods: str, level: str, at: int) -> int:
    """A new one; its key. methods: JSON."""
    made = insert(sessions).values(
        digest=digest, user_id=user_id, methods=methods, level=level, created_at=at, seen_at=at
    )
    return connection.execute(made.returning(sessions.c.id)).scalar_one()


def by_digest(connection: Connection, digest: str) -> Any | None:
    """The session of that digest, with its user's name, kind, email and disabled_at."""
    query = select(
        sessions, users.c.name.label("user"), users.c.kind.label("user_kind"), users.c.email, users.c.disabled_at
    ).join(users, users.c.id == sessions.c.user_id)
    return connection.execute(query.where(sessions.c.digest == digest)).first()


def seen(connection: Connection, session_id: int, at: int) -> None:
    """When it was used last."""
    connection.execute(update(sessions).where(sessions.c.id == session_id).values(seen_at=at))


def end(connection: Connection, session_id: int, at: int) -> None:
    """It does not hold any more."""
    connection.execute(update(sessions).where(sessions.c.id == session_id).values(ended_at=at))


def end_of(connection: Connection, user_id: int, at: int, *, keep: int | None = None) -> None:
    """None of that user's holds any more, but the one of that key."""
    mine = (sessions.c.user_id == user_id) & sessions.c.ended_at.is_(None)
    if keep is not None:
        mine &= sessions.c.id != keep
    connection.execute(update(sessions).where(mine).values(ended_at=at))


def forget(connection: Connection, before: int) -> int:
    """Deletes those that ended, or were last used, before that time; how many."""
    ended = or_(sessions.c.ended_at < before, sessions.c.seen_at < before)
    return connection.execute(delete(sessions).where(ended)).rowcount
