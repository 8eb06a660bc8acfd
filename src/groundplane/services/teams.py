"""Teams: who belongs together, and in which role. They form a tree below the reserved team `platform`; a role holds in
all teams below too."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Connection

from groundplane.model.accounts import MemberDocument, TeamDocument
from groundplane.model.errors import Conflict, Invalid, NotFound
from groundplane.services import audit, gate
from groundplane.services.access import Actor
from groundplane.services.objects import PLATFORM_TEAM, Resource
from groundplane.services.platform import Platform, iso, now
from groundplane.store import teams, users

ROLES = ("viewer", "member", "maintainer", "operator", "auditor", "owner")
_NAME = re.compile(r"[\w][\w .&+-]{0,62}")


def create(platform: Platform, actor: Actor, name: str, parent: str | None = None) -> TeamDocument:
    """Makes a team below `parent`. The same again changes nothing."""
    if not _NAME.fullmatch(name) or name != name.strip():
        raise Invalid(f"{name!r} is no name of a team", hint="letters, digits, spaces and . _ & + -, 63 at most")
    above = parent or PLATFORM_TEAM
    require_seen(platform, actor, above)
    gate.require(platform, actor, "team.create", Resource("team", name, above))
    with platform.database.read() as connection:
        known = teams.by_name(connection, name)
        if known is not None:
            found = _document(connection, known)
            if name == PLATFORM_TEAM or found.parent != above:
                raise _taken(name)
            return found
    with gate.change(platform, actor, "team.create", name, Resource("team", name, above), parent=above) as connection:
        if not teams.add(connection, name, known_team(connection, above).id, now()):
            raise _taken(name)
        return _document(connection, known_team(connection, name))


def _taken(name: str) -> Conflict:
    return Conflict(f"there is a team {name!r} already", hint="`ground teams list` shows them")


def listing(platform: Platform, actor: Actor) -> list[TeamDocument]:
    """Those that the actor may see, by name."""
    with platform.database.read() as connection:
        rows = [row for row in teams.listing(connection) if _sees(platform, connection, actor, row.name)]
        return [_document(connection, row) for row in rows]


def show(platform: Platform, actor: Actor, name: str) -> TeamDocument:
    """One of them. Raises NotFound."""
    require_seen(platform, actor, name)
    with platform.database.read() as connection:
        return _document(connection, _existing(connection, name))


def add(platform: Platform, actor: Actor, name: str, user: str, role: str) -> TeamDocument:
    """Gives a user a role in a team; who has it already keeps it."""
    if role not in ROLES:
        raise Invalid(f"there is no role {role!r}", hint=f"the roles are: {', '.join(ROLES)}")
    require_seen(platform, actor, name)
    with gate.change(
        platform, actor, "team.add", name, Resource("team", name, name), user=audit.Person(user), role=role
    ) as connection:
        team, account = known_team(connection, name), _user(connection, user)
        teams.add_member(connection, team.id, account.id, role, "local")
        return _document(connection, team)


def remove(platform: Platform, actor: Actor, name: str, user: str, role: str | None = None) -> TeamDocument:
    """Takes a role (all without one) from a user. What a provider's group gives comes back at the next login."""
    require_seen(platform, actor, name)
    on = Resource("team", name, name)
    with gate.change(platform, actor, "team.remove", name, on, user=audit.Person(user), role=role) as connection:
        team, account = known_team(connection, name), _user(connection, user)
        gone = sum(teams.remove_member(connection, team.id, account.id, role, origin) for origin in ("local", "oidc"))
        if not gone:
            what = f"the role {role} in" if role else "in"
            raise NotFound(
                f"{user} is not {what} the team {name!r}", hint=f"`ground teams show {name}` shows its members"
            )
        return _document(connection, team)


def require_seen(platform: Platform, actor: Actor, name: str) -> None:
    """Raises NotFound for a team that is not there, or that the actor may not see: the same."""
    with platform.database.read() as connection:
        there = teams.by_name(connection, name) is not None
        seen = _sees(platform, connection, actor, name)
    if not (there and seen) and name != PLATFORM_TEAM:  # everybody knows of that one
        gate.unseen(platform, actor, "team.see", name)
        raise _missing(name)


def _sees(platform: Platform, connection: Connection, actor: Actor, name: str) -> bool:
    return gate.decide(platform, connection, actor, "team.see", Resource("team", name, name)).allowed


def _missing(name: str) -> NotFound:
    return NotFound(f"there is no team {name!r}", hint="`ground teams list` shows them")


def known_team(connection: Connection, name: str) -> Any:
    """The team of that name; the root is made when it is asked for. Raises NotFound."""
    row = teams.by_name(connection, name)
    if row is None and name == PLATFORM_TEAM:
        teams.add(connection, name, None, now())
    return _existing(connection, name)


def _existing(connection: Connection, name: str) -> Any:
    row = teams.by_name(connection, name)
    if row is None:
        raise _missing(name)
    return row


def _user(connection: Connection, name: str) -> Any:
    row = users.by_name(connection, name)
    if row is None:
        raise NotFound(f"there is no user {name!r}", hint="`ground users list` shows them")
    return row


def _document(connection: Connection, row: Any) -> TeamDocument:
    members = teams.members_of(connection, row.id)
    return TeamDocument(
        name=row.name,
        parent=teams.parent_of(connection, row),
        members=tuple(MemberDocument(each.user, each.role, each.origin) for each in members),
        projects=tuple(teams.projects_of(connection, [row.name])),
        created_at=iso(row.created_at) or "",
    )
