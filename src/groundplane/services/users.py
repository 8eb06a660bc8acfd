"""Users: who may come over TCP. The owner of the control plane needs no account."""

from __future__ import annotations

import json
import os
import pwd
import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from groundplane.model.accounts import UserDocument, WhoDocument
from groundplane.model.errors import Conflict, Invalid, NotFound
from groundplane.model.reasons import Reason
from groundplane.services import audit, gate, passwords, progress
from groundplane.services.access import PLATFORM, Actor
from groundplane.services.notices import WORK
from groundplane.services.objects import Resource
from groundplane.services.platform import Platform, iso, now
from groundplane.store import rights, runs, sessions, tokens, users

NAME = re.compile(r"[A-Za-z0-9][\w.@+-]{0,62}", re.ASCII)
_LONGEST = 254
_ATTRIBUTE = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)
KINDS = ("user", "service")
BY_PASSWORD = "pwd"  # noqa: S105 - a name
"""How a login by a local password was made, as RFC 8176 calls it."""
FORGOTTEN = "forgotten-"
"""What the names begin with that stand for people who are forgotten."""
TOKEN_HOLDER = "token"  # noqa: S105 - a name
"""The name of whoever has the token of `--token-file`."""


def create(
    platform: Platform, actor: Actor, name: str, *, kind: str = "user", email: str = "", password: str | None = None
) -> UserDocument:
    """Makes an account. The same again changes nothing. Raises Conflict when there is another one of that name."""
    _check_name(name)
    _check_email(email)
    if kind not in KINDS:
        raise Invalid(f"there is no kind of user {kind!r}", hint=f"it is one of: {', '.join(KINDS)}")
    if kind == "service" and password is not None:
        raise Invalid("an account of a program has no password", hint=f"ground tokens create --user {name}")
    gate.require(platform, actor, "user.create", Resource("user", audit.Person(name)))
    kept = None if password is None else passwords.hashed(password)
    with platform.database.read() as connection:
        known = users.by_name(connection, name)
    if known is not None:
        if (known.kind, known.email) == (kind, email) and password is None and known.disabled_at is None:
            return _document(known)
        raise _taken(name)
    with gate.change(platform, actor, "user.create", audit.Person(name), kind=kind) as connection:
        if not users.add(connection, name, kind, now(), email=email, password=kept):
            raise _taken(name)
        return _document(_known(connection, name))


def _taken(name: str) -> Conflict:
    return Conflict(f"there is a user {name!r} already", hint=f"ground users set {name} … changes it")


def listing(platform: Platform, actor: Actor) -> list[UserDocument]:
    """All of them, by name."""
    gate.require(platform, actor, "user.see", Resource("user"))
    with platform.database.read() as connection:
        return [_document(row) for row in users.listing(connection)]


def set_(
    platform: Platform,
    actor: Actor,
    name: str,
    *,
    email: str | None = None,
    password: str | None = None,
    attributes: Mapping[str, str] | None = None,
) -> UserDocument:
    """Changes what is not None. attributes: those to be set; "" takes one away, and so it does the password.

    Another password ends a lock, and what the account was let in by: all sessions and tokens where somebody else
    changes it; where it is one's own, the other sessions and the tokens that a login by password gave.
    """
    _check_email(email or "")
    for key, value in (attributes or {}).items():
        if not _ATTRIBUTE.fullmatch(key) or not value.isprintable() or len(value) > _LONGEST:
            raise Invalid(f"{key!r} is no attribute", hint="lower-case letters, digits and _, and a printable value")
    gate.require(platform, actor, "user.set", Resource("user", audit.Person(name)))
    values: dict[str, Any] = {} if email is None else {"email": email}
    if password is not None:
        kept = passwords.hashed(password) if password else None
        values |= {"password": kept, "failures": 0, "locked_until": None}
    changed = sorted({*values, *(attributes or {})} - {"failures", "locked_until"})
    with gate.change(platform, actor, "user.set", audit.Person(name), changed=changed) as connection:
        row = _known(connection, name)
        if password and row.kind == "service":
            raise Invalid("an account of a program has no password", hint=f"ground tokens create --user {name}")
        if attributes:
            merged = {**json.loads(row.attributes), **attributes}
            values["attributes"] = json.dumps({key: value for key, value in merged.items() if value})
        users.change(connection, row.id, values)
        if password is not None:
            his = actor.kind in gate.ACCOUNTS and actor.name == name
            end_credentials(connection, row.id, of_passwords=actor.credential if his else None)
        return _document(_known(connection, name))


def enable(platform: Platform, actor: Actor, name: str, enabled: bool) -> UserDocument:
    """Disabled: its tokens and sessions have ended, no login succeeds, and of its runs those that have not begun are
    cancelled; what runs goes on. Enabled: it may log in again, and a lock is taken away."""
    action = "user.enable" if enabled else "user.disable"
    cancelled: list[str] = []
    with gate.change(platform, actor, action, audit.Person(name)) as connection:
        row = _known(connection, name)
        if enabled:
            users.change(connection, row.id, {"disabled_at": None, "failures": 0, "locked_until": None})
        else:
            users.change(connection, row.id, {"disabled_at": row.disabled_at or now()})
            end_credentials(connection, row.id)
            cancelled = _cancel_queued(connection, name)
        found = _document(_known(connection, name))
    if cancelled:
        platform.notifier.notify(WORK, *cancelled)
    return found


def end_credentials(connection: Connection, user_id: int, *, of_passwords: str | None = None) -> None:
    """Ends the sessions and tokens of an account, those of its attempts' work too. of_passwords: only those that a
    login by password gave, but for the one with that id."""
    at = now()
    if of_passwords is None:
        users.change(connection, user_id, {"credentials_from": at})
        sessions.end_of(connection, user_id, at)
        tokens.revoke_of(connection, user_id, at)
        return
    kind, _, key = of_passwords.partition(":")
    sessions.end_of(connection, user_id, at, keep=int(key) if kind == "session" else None)
    tokens.revoke_of(connection, user_id, at, keep=of_passwords, method=BY_PASSWORD)


def _cancel_queued(connection: Connection, name: str) -> list[str]:
    """The ids of the account's runs that had not begun, and never will."""
    reason = Reason("cancelled", "the account that submitted its run was disabled")
    cancelled: list[str] = []
    for key in runs.queued_of(connection, name):
        row = runs.by_key(connection, key, lock=True)
        if row.state == "queued" and progress.cancel(connection, key, reason, now()):
            cancelled.append(row.uid)
    return cancelled


def whoami(platform: Platform, actor: Actor) -> WhoDocument:
    """Who asks."""
    if actor.kind == "owner":
        return WhoDocument(actor.name, "", actor.email, (), ("owner",))
    with platform.database.read() as connection:
        row = _known(connection, actor.name)
        account = rights.account(connection, actor.name)
    found = sorted(account.held) if account is not None else []
    member_of = tuple(dict.fromkeys(team for team, _ in found))
    return WhoDocument(row.name, row.full_name, row.email, member_of, tuple(sorted({role for _, role in found})))


def owner_name() -> str:
    """The operating-system user whose control plane this is."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def free_name(name: str) -> bool:
    """Whether an account may have that name at all."""
    taken = name in (PLATFORM.name, TOKEN_HOLDER, owner_name()) or name.startswith(FORGOTTEN)
    return bool(NAME.fullmatch(name)) and not taken


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise Invalid(f"{name!r} is no name of a user", hint="letters, digits and . _ @ + -, 63 at most")
    if not free_name(name):
        raise Invalid(f"{name!r} is in the record for somebody without an account", hint="use another name")


def _check_email(email: str) -> None:
    if email and (not email.isprintable() or "@" not in email or len(email) > _LONGEST):
        raise Invalid(f"{email!r} is no e-mail address", hint="write it like alice@example.org")


def _known(connection: Connection, name: str) -> Any:
    row = users.by_name(connection, name)
    if row is None:
        raise NotFound(f"there is no user {name!r}", hint="`ground users list` shows them")
    return row


def _document(row: Any) -> UserDocument:
    locked = row.locked_until if row.locked_until and row.locked_until > now() else None
    return UserDocument(
        name=row.name,
        kind=row.kind,
        full_name=row.full_name,
        email=row.email,
        provider=row.issuer or "",
        password=row.password is not None,
        attributes=json.loads(row.attributes),
        created_at=iso(row.created_at) or "",
        seen_at=iso(row.seen_at),
        disabled_at=iso(row.disabled_at),
        locked_until=iso(locked),
    )
