"""Users: accounts of people and of programs (`service`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, select, update

from groundplane.store import upserts
from groundplane.store.account_tables import users


def add(connection: Connection, name: str, kind: str, at: int, **values: Any) -> bool:
    """A new user, unless there is one of that name or that subject, also of a transaction at the same time; whether it
    was. values: other columns."""
    return upserts.keep(connection, users, {"name": name, "kind": kind, "created_at": at, **values})


def by_name(connection: Connection, name: str) -> Any | None:
    """The user of that name, with all columns. No name has what not every database takes."""
    if not name.isprintable():
        return None
    return connection.execute(select(users).where(users.c.name == name)).first()


def by_subject(connection: Connection, issuer: str, subject: str) -> Any | None:
    """The user whom a provider knows by that subject."""
    mine = (users.c.issuer == issuer) & (users.c.subject == subject)
    return connection.execute(select(users).where(mine)).first()


def locked(connection: Connection, name: str) -> Any | None:
    """The user of that name, changed by nobody else before this transaction has ended."""
    if not name.isprintable():
        return None
    return connection.execute(select(users).where(users.c.name == name).with_for_update()).first()


def listing(connection: Connection) -> Sequence[Any]:
    """All of them, by name."""
    return connection.execute(select(users).order_by(users.c.name)).all()


def change(connection: Connection, user_id: int, values: Mapping[str, Any]) -> None:
    """Sets columns of a user."""
    if values:
        connection.execute(update(users).where(users.c.id == user_id).values(**values))


def with_password(connection: Connection) -> int:
    """How many enabled users have a password."""
    mine = users.c.password.is_not(None) & users.c.disabled_at.is_(None)
    return connection.execute(select(func.count()).select_from(users).where(mine)).scalar_one()
