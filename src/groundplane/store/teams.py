"""Teams, who is in them, and the projects that are theirs. Teams form a tree; a role holds in all teams below too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, delete, select

from groundplane.store import upserts
from groundplane.store.account_tables import members, projects, teams, users


def add(connection: Connection, name: str, parent_id: int | None, at: int) -> bool:
    """A new team, unless there is one of that name, also of a transaction at the same time; whether it was."""
    return upserts.keep(connection, teams, {"name": name, "parent_id": parent_id, "created_at": at})


def by_name(connection: Connection, name: str) -> Any | None:
    """The team of that name. No name has what not every database takes."""
    if not name.isprintable():
        return None
    return connection.execute(select(teams).where(teams.c.name == name)).first()


def parent_of(connection: Connection, team: Any) -> str | None:
    """The name of the team above it."""
    return connection.execute(select(teams.c.name).where(teams.c.id == team.parent_id)).scalar_one_or_none()


def listing(connection: Connection) -> Sequence[Any]:
    """id, name, parent_id, created_at of each, by name."""
    return connection.execute(select(teams).order_by(teams.c.name)).all()


def add_member(connection: Connection, team_id: int, user_id: int, role: str, origin: str) -> None:
    """Who has it already keeps it. origin: `local`, or `oidc`."""
    upserts.keep(connection, members, {"team_id": team_id, "user_id": user_id, "role": role, "origin": origin})


def members_of(connection: Connection, team_id: int) -> Sequence[Any]:
    """user, role, origin of each member of the team itself, by user."""
    query = select(users.c.name.label("user"), members.c.role, members.c.origin).join(
        users, users.c.id == members.c.user_id
    )
    return connection.execute(query.where(members.c.team_id == team_id).order_by(users.c.name, members.c.role)).all()


def remove_member(connection: Connection, team_id: int, user_id: int, role: str | None, origin: str) -> int:
    """Takes a role, or all of them, that came from there; how many there were."""
    gone = (members.c.team_id == team_id) & (members.c.user_id == user_id) & (members.c.origin == origin)
    if role is not None:
        gone &= members.c.role == role
    return connection.execute(delete(members).where(gone)).rowcount


def joined(connection: Connection, user_id: int, origin: str) -> dict[str, int]:
    """Name and key of the teams that the user is in because of that origin."""
    query = select(teams.c.name, teams.c.id).join(members, members.c.team_id == teams.c.id)
    rows = connection.execute(query.where((members.c.user_id == user_id) & (members.c.origin == origin)))
    return {row.name: row.id for row in rows}


def project(connection: Connection, name: str) -> Any | None:
    """id, name, team (its name), labels (JSON) of the project of that name; see by_name."""
    if not name.isprintable():
        return None
    query = select(projects, teams.c.name.label("team")).join(teams, teams.c.id == projects.c.team_id)
    return connection.execute(query.where(projects.c.name == name)).first()


def projects_of(connection: Connection, names: Iterable[str]) -> list[str]:
    """The projects of these teams, by name; not those of teams below them."""
    query = select(projects.c.name).join(teams, teams.c.id == projects.c.team_id).where(teams.c.name.in_(list(names)))
    return list(connection.execute(query.order_by(projects.c.name)).scalars())
