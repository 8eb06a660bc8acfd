"""Tokens: what a program shows to say for whom it acts. Only their digests are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, or_, select, update

from groundplane.store.account_tables import tokens, users

_WITH_USER = select(
    tokens,
    users.c.name.label("user"),
    users.c.kind.label("user_kind"),
    users.c.email,
    users.c.disabled_at,
).outerjoin(users, users.c.id == tokens.c.user_id)


def add(connection: Connection, **values: Any) -> None:
    """A new one: uid user_id digest scopes methods level created_at expires_at."""
    connection.execute(insert(tokens).values(**values))


def by_digest(connection: Connection, digest: str) -> Any | None:
    """The token of that digest, with its user's name, kind, email and disabled_at (`user` is None: the owner's)."""
    return connection.execute(_WITH_USER.where(tokens.c.digest == digest)).first()


def by_uid(connection: Connection, uid: str) -> Any | None:
    """The same by its id."""
    if not uid.isprintable():
        return None
    return connection.execute(_WITH_USER.where(tokens.c.uid == uid)).first()


def listing(connection: Connection) -> Sequence[Any]:
    """All that were not revoked, the newest first."""
    return connection.execute(_WITH_USER.where(tokens.c.revoked_at.is_(None)).order_by(tokens.c.id.desc())).all()


def used(connection: Connection, token_id: int, at: int) -> None:
    """When it was shown last."""
    connection.execute(update(tokens).where(tokens.c.id == token_id).values(used_at=at))


def revoke(connection: Connection, token_id: int, at: int) -> None:
    """It does not hold any more."""
    connection.execute(update(tokens).where(tokens.c.id == token_id).values(revoked_at=at))


def revoke_of(connection: Connection, user_id: int, at: int, *, keep: str = "", method: str | None = None) -> None:
    """None of that user's holds any more, but the one whose uid is `keep`. method: only those of logins made so."""
    mine = (tokens.c.user_id == user_id) & tokens.c.revoked_at.is_(None) & (tokens.c.uid != keep)
    if method is not None:
        mine &= tokens.c.methods.contains(f'"{method}"', autoescape=True)
    connection.execute(update(tokens).where(mine).values(revoked_at=at))


def forget(connection: Connection, before: int) -> int:
    """Deletes those that ended before that time; how many."""
    ended = or_(tokens.c.expires_at < before, tokens.c.revoked_at < before)
    return connection.execute(delete(tokens).where(ended)).rowcount
