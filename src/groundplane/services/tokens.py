"""Tokens: what a program shows to say for whom it acts. 256 random bits; only a keyed digest is kept.

One of a service account is short, and bound to this installation: see services/work_tokens.py.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from groundplane.model.accounts import TokenDocument
from groundplane.model.errors import Denied, Invalid, NotFound, Unauthenticated
from groundplane.model.ids import new_id
from groundplane.services import audit, gate, work_tokens
from groundplane.services import scopes as scope_rules
from groundplane.services.access import Actor
from groundplane.services.objects import Resource
from groundplane.services.platform import Platform, iso, now
from groundplane.services.users import owner_name
from groundplane.services.variables import home_key
from groundplane.store import tokens, users

PREFIX = "gp_"
_DAY = 86400.0
_LIFETIME, _LONGEST = 30 * _DAY, 366 * _DAY
_SERVICE_LIFETIME, _SERVICE_LONGEST = 3600.0, _DAY
_USE_SECONDS = 60.0
"""How exact `used_at` is: a row is written no more often."""


def create(
    platform: Platform,
    actor: Actor,
    user: str | None = None,
    scopes: Sequence[str] | None = None,
    lifetime: float | None = None,
) -> TokenDocument:
    """A new token, told this once. user: whose, the actor's own without one. lifetime: seconds; 30 days without it, an
    hour for a service account. scopes: as Actor has them.

    So that what is given ends, no program makes tokens: no service account, and no attempt's work. Who acts by a token
    with scopes makes none that may do more, or holds longer.
    """
    scope_rules.check(scopes or ())
    whose = user or ("" if actor.kind == "owner" else actor.name)
    kept = None if not scopes else tuple(sorted(set(scopes)))
    if actor.scopes is not None and (kept is None or not scope_rules.within(kept, actor.scopes)):
        raise Denied(
            "a token with scopes makes none that may do more", hint=f"--scope {' --scope '.join(sorted(actor.scopes))}"
        )
    on = _resource(whose)
    with gate.noting(platform, actor, "token.create", on.name, {}):
        work_tokens.refuse(actor, "makes no tokens")
    gate.require(platform, actor, "token.create", on)
    with platform.database.read() as connection:
        account = _account(connection, whose) if whose else None
        shown = tokens.by_uid(connection, actor.credential) if actor.scopes is not None else None
    service = account is not None and account.kind == "service"
    seconds = lifetime if lifetime is not None else _SERVICE_LIFETIME if service else _LIFETIME
    latest = shown.expires_at if shown is not None else None
    if latest is not None and lifetime is not None and now() + lifetime * 1e6 > latest:
        raise Denied("a token with scopes makes none that holds longer", hint=f"its own ends at {iso(latest)}")
    longest = _SERVICE_LONGEST if service else _LONGEST
    if not seconds > 0:  # NaN is not either
        raise Invalid("a token that holds for no time is of no use", hint="--expires 1h")
    if seconds > longest:
        raise Invalid(
            f"a token {'of a service account ' if service else ''}lives {longest / 3600:g} h at most",
            hint="--expires 1h",
        )
    with gate.change(platform, actor, "token.create", on.name, on, scopes=kept) as connection:
        return _made(platform, connection, account, kept, seconds, actor.methods, actor.level, latest)


def of_login(platform: Platform, connection: Connection, actor: Actor) -> TokenDocument:
    """The token of whoever has just logged in at the command line: it holds as long as a session can at most."""
    account = _account(connection, actor.name)
    audit.record(platform, connection, actor, "session.create", audit.Person(actor.name), "done", login_facts(actor))
    return _made(platform, connection, account, None, platform.logins.longest, actor.methods, actor.level)


def listing(platform: Platform, actor: Actor) -> list[TokenDocument]:
    """Those that were not revoked and that the actor may see, the newest first."""
    with platform.database.read() as connection:
        rows = tokens.listing(connection)
        seen = {user: _sees(platform, connection, actor, user) for user in {row.user or "" for row in rows}}
    return [_document(row) for row in rows if seen[row.user or ""]]


def revoke(platform: Platform, actor: Actor, uid: str) -> None:
    """It does not hold from now on. Raises NotFound, also for another user's."""
    with platform.database.read() as connection:
        row = tokens.by_uid(connection, uid)
        seen = _sees(platform, connection, actor, (row.user if row is not None else "") or "")
    if row is None or not seen:
        gate.unseen(platform, actor, "token.see", uid)
        raise NotFound(f"there is no token {uid!r}", hint="`ground tokens list` shows them")
    with gate.change(
        platform, actor, "token.revoke", uid, _resource(row.user or ""), user=audit.Person(row.user or "")
    ) as connection:
        if row.revoked_at is None:
            tokens.revoke(connection, row.id, now())


def _resource(user: str) -> Resource:
    """A token of that user's; "" is the owner without an account."""
    whose = audit.Person(user or owner_name())
    return Resource("token", whose, owner=whose)


def _sees(platform: Platform, connection: Connection, actor: Actor, user: str) -> bool:
    return gate.decide(platform, connection, actor, "token.see", _resource(user)).allowed


def actor_of(platform: Platform, text: str, source: str) -> Actor:
    """Who shows this token from there. Raises Unauthenticated."""
    if work_tokens.is_one(text):
        claims = work_tokens.verified(platform, text)
        if "attempt" in claims:
            return work_tokens.actor_of_attempt(platform, claims, source)
    at = now()
    with platform.database.read() as connection:
        row = tokens.by_digest(connection, digest(platform.home, text))
    if row is None or row.revoked_at is not None or row.disabled_at is not None or _over(row.expires_at, at):
        raise Unauthenticated(
            "the token is not known here, or does not hold any more", hint="`ground login`, or set GROUND_TOKEN anew"
        )
    if row.used_at is None or at - row.used_at > _USE_SECONDS * 1e6:
        with platform.database.write() as connection:
            tokens.used(connection, row.id, at)
            if row.user_id is not None:
                users.change(connection, row.user_id, {"seen_at": at})
    return Actor(
        name=row.user or owner_name(),
        kind=row.user_kind or "owner",
        email=row.email or "",
        source=source,
        credential=row.uid,
        scopes=None if row.scopes is None else frozenset(json.loads(row.scopes)),
        methods=frozenset(json.loads(row.methods)),
        level=row.level,
    )


def login_facts(actor: Actor) -> dict[str, object]:
    """What the record tells of a login: never what was shown for it."""
    return {"methods": sorted(actor.methods), "level": actor.level}


def digest(home: Path, text: str) -> str:
    """What is kept of a token, or of a session's cookie."""
    key = hmac.digest(home_key(home), b"groundplane tokens", "sha256")
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def forget(platform: Platform) -> int:
    """Deletes what ended more than 30 days ago; how many."""
    with platform.database.write() as connection:
        return tokens.forget(connection, now() - int(_LIFETIME * 1e6))


def _made(
    platform: Platform,
    connection: Connection,
    account: Any | None,
    scopes: Sequence[str] | None,
    seconds: float,
    methods: frozenset[str],
    level: str,
    latest: int | None = None,
) -> TokenDocument:
    """latest: when it ends in any case."""
    uid, at = new_id(), now()
    expires = at + int(seconds * 1e6)
    if latest is not None:
        expires = min(expires, latest)
    if account is not None and account.kind == "service":
        text = work_tokens.signed(platform, {"sub": account.name, "jti": uid}, seconds)
    else:
        text = PREFIX + secrets.token_urlsafe(32)
    tokens.add(
        connection,
        uid=uid,
        user_id=account.id if account is not None else None,
        digest=digest(platform.home, text),
        scopes=None if scopes is None else json.dumps(list(scopes)),
        methods=json.dumps(sorted(methods)),
        level=level,
        created_at=at,
        expires_at=expires,
    )
    return TokenDocument(
        uid,
        account.name if account is not None else "",
        None if scopes is None else tuple(scopes),
        iso(at) or "",
        iso(expires),
        token=text,
    )


def _account(connection: Connection, name: str) -> Any:
    row = users.by_name(connection, name)
    if row is None:
        raise NotFound(f"there is no user {name!r}", hint="`ground users list` shows them")
    if row.disabled_at is not None:
        raise Denied(f"the user {name!r} is disabled", hint=f"ground users enable {name}")
    return row


def _over(expires_at: int | None, at: int) -> bool:
    return expires_at is not None and expires_at <= at


def _document(row: Any) -> TokenDocument:
    return TokenDocument(
        id=row.uid,
        user=row.user or "",
        scopes=None if row.scopes is None else tuple(json.loads(row.scopes)),
        created_at=iso(row.created_at) or "",
        expires_at=iso(row.expires_at),
        used_at=iso(row.used_at),
    )
