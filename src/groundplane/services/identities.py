"""Whom a provider's login is here: its account, made at the first login, and its groups as memberships of teams."""

from __future__ import annotations

import hashlib
import json
from typing import Any, TypeVar

from sqlalchemy import Connection

from groundplane.model.errors import Denied
from groundplane.services import audit
from groundplane.services.access import Actor
from groundplane.services.oidc import Claims
from groundplane.services.platform import Platform, now
from groundplane.services.sessions import LetIn
from groundplane.services.teams import PLATFORM_TEAM
from groundplane.services.users import end_credentials, free_name
from groundplane.store import teams, users

T = TypeVar("T")
_GROUP_ROLE = "member"
_ORIGIN = "oidc"


def logged_in(platform: Platform, claims: Claims, source: str, let_in: LetIn[T]) -> T:
    """Lets in whose claims these are. Raises Denied when the account is disabled, or the name is somebody else's.

    An account that was made here beforehand, without a password, is whose login first has its name (and its e-mail,
    where it has one)."""
    with platform.database.write() as connection:
        row = users.by_subject(connection, claims.issuer, claims.subject) or _first(platform, connection, claims)
        if row.disabled_at is not None:
            raise Denied(f"the user {row.name!r} is disabled", hint="ask whoever runs this control plane")
        at = now()
        values: dict[str, Any] = {"seen_at": at, "failures": 0}
        said = {"full_name": claims.full_name, "email": claims.email}
        values |= {name: text for name, text in said.items() if text and text.isprintable()}
        users.change(connection, row.id, values)
        who = Actor(
            row.name,
            row.kind,
            email=str(values.get("email", row.email)),
            source=source,
            methods=claims.methods,
            level=claims.level,
        )
        _join(platform, connection, row.id, who, claims.groups)
        return let_in(platform, connection, who)


def _first(platform: Platform, connection: Connection, claims: Claims) -> Any:
    """The account of somebody whom the provider sends for the first time."""
    name = next((name for name in claims.names if free_name(name)), "")
    if not name:
        name = "oidc-" + hashlib.sha256(json.dumps([claims.issuer, claims.subject]).encode()).hexdigest()[:12]
    bound = {"issuer": claims.issuer, "subject": claims.subject}
    # Another login of his, or somebody's of the same name, may be under way on whichever control plane: the second one
    # finds what the first has made.
    if users.add(connection, name, "user", now(), **bound):
        audit.record(
            platform, connection, Actor(name), "user.create", audit.Person(name), "done", {"issuer": claims.issuer}
        )
        return users.by_name(connection, name)
    known = users.locked(connection, name)
    his = users.by_subject(connection, claims.issuer, claims.subject)
    if his is not None:
        return his
    if known is not None and _unclaimed(known, claims):
        users.change(connection, known.id, bound)
        end_credentials(connection, known.id)  # who had them before need not be him
        audit.record(
            platform,
            connection,
            Actor(name),
            "user.set",
            audit.Person(name),
            "done",
            {"changed": ["issuer", "subject"]},
        )
        return known
    raise Denied(
        f"there is another account {name!r} here already",
        hint="if it is yours, whoever runs this control plane takes its password away: ground users set NAME "
        "--no-password",
        code="account_taken",
    )


def _unclaimed(row: Any, claims: Claims) -> bool:
    if row.kind != "user" or row.password is not None or row.issuer is not None:
        return False
    return not row.email or (claims.email_verified and row.email.casefold() == claims.email.casefold())


def _join(platform: Platform, connection: Connection, user_id: int, who: Actor, groups: tuple[str, ...]) -> None:
    """The groups that are teams here; not the root, which would give a role everywhere. Keycloak writes `/cardio`.
    Each team that the user comes into or leaves is an event."""
    before = teams.joined(connection, user_id, _ORIGIN)
    named = {group.removeprefix("/") for group in groups} - {PLATFORM_TEAM}
    found = {team.name: team.id for name in named if (team := teams.by_name(connection, name)) is not None}
    for name in sorted(before.keys() - found.keys()):
        teams.remove_member(connection, before[name], user_id, None, _ORIGIN)
        _note(platform, connection, who, "team.remove", name)
    for name in sorted(found.keys() - before.keys()):
        teams.add_member(connection, found[name], user_id, _GROUP_ROLE, _ORIGIN)
        _note(platform, connection, who, "team.add", name)


def _note(platform: Platform, connection: Connection, who: Actor, action: str, team: str) -> None:
    facts = {"user": audit.Person(who.name), "role": _GROUP_ROLE, "origin": _ORIGIN}
    audit.record(platform, connection, who, action, team, "done", facts)
