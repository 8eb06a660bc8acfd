"""Logins of people: by a local password or a provider; what a browser's cookie stands for, and for how long."""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection

from groundplane.model.errors import Denied, Unauthenticated
from groundplane.services import audit, passwords
from groundplane.services.access import Actor
from groundplane.services.platform import Platform, now
from groundplane.services.tokens import digest, login_facts
from groundplane.services.users import BY_PASSWORD
from groundplane.services.variables import home_key
from groundplane.store import sessions, users

_LOCAL_METHODS = frozenset({BY_PASSWORD})
_EXACTNESS = 20
"""`seen_at` is written when a twentieth of the idle limit has passed since."""
_KEPT_SECONDS = 86400.0


T = TypeVar("T")
LetIn = Callable[[Platform, Connection, Actor], T]
"""Gives what somebody who has logged in goes on with: a session, or a token."""


class Session(NamedTuple):
    """csrf: what a page's form has to carry."""

    actor: Actor
    csrf: str


def by_password(platform: Platform, name: str, password: str, source: str, let_in: LetIn[T]) -> T:
    """Lets whoever logs in so in, in the transaction that finds the password right: a change of it ends what was given
    before, and nothing is given for the old one afterwards.

    Raises Unauthenticated, with the same words and after the same time for a wrong password, an account without one, a
    disabled and a locked one, and a name that nobody has.
    """
    with platform.database.read() as connection:
        row = users.by_name(connection, name)
    checked = row.password if row is not None else None
    right = passwords.holds(checked, password)
    at = now()
    with platform.database.write() as connection:
        row = users.locked(connection, name)
        who = Actor(row.name if row is not None else "", source=source, methods=_LOCAL_METHODS)
        locked = row is not None and row.locked_until is not None and row.locked_until > at
        right = right and row is not None and row.password == checked  # nobody has changed it meanwhile
        if row is not None and right and row.password and row.disabled_at is None and not locked:
            users.change(connection, row.id, {"failures": 0, "locked_until": None, "seen_at": at})
            actor = Actor(row.name, row.kind, email=row.email, source=source, methods=_LOCAL_METHODS)
            return let_in(platform, connection, actor)
        why = "locked" if locked else "wrong"
        if row is not None and not locked and not right:
            why = _failed(platform, connection, row, at)
        # Whoever types a password for a name must not find it in the record.
        audit.record(
            platform, connection, who, "session.create", audit.Person(who.name or "unknown"), "denied", {"reason": why}
        )
    raise Unauthenticated(
        "name or password is wrong, or the account is locked after too many of them",
        hint="try again; a lock ends by itself, or by `ground users enable NAME`",
        code="login_failed",
    )


def _failed(platform: Platform, connection: Any, row: Any, at: int) -> str:
    rules = platform.logins
    failures = row.failures + 1
    if failures < rules.failures:
        users.change(connection, row.id, {"failures": failures})
        return "wrong"
    users.change(connection, row.id, {"failures": 0, "locked_until": at + int(rules.lockout * 1e6)})
    return "wrong, and locked from now on"


def opened(platform: Platform, connection: Connection, actor: Actor) -> str:
    """A session of whoever has just logged in; the value of its cookie, told this once."""
    text, at = secrets.token_urlsafe(32), now()
    row = users.by_name(connection, actor.name)
    if row is None or row.disabled_at is not None:
        raise Denied(f"the user {actor.name!r} is disabled", hint="ask whoever runs this control plane")
    methods = json.dumps(sorted(actor.methods))
    sessions.add(connection, digest(platform.home, text), row.id, methods, actor.level, at)
    audit.record(platform, connection, actor, "session.create", audit.Person(actor.name), "done", login_facts(actor))
    return text


def find(platform: Platform, text: str, source: str, *, used: bool = True) -> Session | None:
    """The session of a cookie, used now; None when it does not hold (any more). used: whether it is by this."""
    rules, at = platform.logins, now()
    with platform.database.read() as connection:
        row = sessions.by_digest(connection, digest(platform.home, text))
    if row is None or row.ended_at is not None or row.disabled_at is not None:
        return None
    unused = (at - row.seen_at) / 1e6
    if unused > rules.idle or (at - row.created_at) / 1e6 > rules.longest:
        return None
    if used and unused > rules.idle / _EXACTNESS:
        with platform.database.write() as connection:
            sessions.seen(connection, row.id, at)
            users.change(connection, row.user_id, {"seen_at": at})
    actor = Actor(
        row.user,
        row.user_kind,
        email=row.email,
        source=source,
        credential=f"session:{row.id}",
        methods=frozenset(json.loads(row.methods)),
        level=row.level,
    )
    return Session(actor, csrf(platform, text))


def end(platform: Platform, text: str, source: str) -> None:
    """Ends the session of a cookie, if there is one."""
    with platform.database.write() as connection:
        row = sessions.by_digest(connection, digest(platform.home, text))
        if row is not None and row.ended_at is None:
            sessions.end(connection, row.id, now())
            audit.record(
                platform, connection, Actor(row.user, source=source), "session.end", audit.Person(row.user), "done", {}
            )


def csrf(platform: Platform, text: str) -> str:
    """What only a page of ours can know of a cookie: posts have to carry it."""
    key = hmac.digest(home_key(platform.home), b"groundplane forms", "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def has_password(platform: Platform) -> bool:
    """Whether anybody can log in by a local password."""
    with platform.database.read() as connection:
        return bool(users.with_password(connection))


def forget(platform: Platform) -> int:
    """Deletes those that ended more than a day ago; how many."""
    limit = max(platform.logins.idle, platform.logins.longest) + _KEPT_SECONDS
    with platform.database.write() as connection:
        return sessions.forget(connection, now() - int(limit * 1e6))
