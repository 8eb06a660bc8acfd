"""Projects: whose the runs of a project are. A project that nobody made here has no team: its owner alone sees it."""

from __future__ import annotations

from sqlalchemy import Connection

from groundplane.model.accounts import ProjectDocument
from groundplane.model.errors import Conflict, Invalid
from groundplane.services import gate
from groundplane.services.access import Actor
from groundplane.services.objects import Resource
from groundplane.services.platform import Platform, iso, now
from groundplane.services.teams import known_team, require_seen
from groundplane.store import connections, projects, secrets, teams

_LONGEST = 200


def create(platform: Platform, actor: Actor, name: str, team: str) -> ProjectDocument:
    """Gives a team the project of that name. The same again changes nothing."""
    if not name.strip() or len(name) > _LONGEST or not name.isprintable() or "/" in name:
        raise Invalid(f"{name!r} is no name of a project", hint="the `name` of `[project]` in its ground.toml")
    require_seen(platform, actor, team)
    gate.require(platform, actor, "project.create", Resource("project", name, team, name))
    with platform.database.read() as connection:
        known = teams.project(connection, name)
        taken = known is None and _is_anothers(platform, connection, actor, name)
    if known is not None or taken:
        if known is None or known.team != team:
            raise Conflict(f"the project {name!r} belongs to another team", hint="`ground projects list` shows whose")
        return ProjectDocument(known.name, known.team, iso(known.created_at) or "")
    at = now()
    with gate.change(
        platform, actor, "project.create", name, Resource("project", name, team, name), team=team
    ) as connection:
        projects.add(connection, name, known_team(connection, team).id, at)
    return ProjectDocument(name, team, iso(at) or "")


def _is_anothers(platform: Platform, connection: Connection, actor: Actor, name: str) -> bool:
    """Whether the project has secrets or connections already, of which only those who may set them for a project that
    nobody made decide whose they become."""
    if not any(row.project == name for rows in (secrets, connections) for row in rows.listing(connection)):
        return False
    return not gate.decide(platform, connection, actor, "secret.set", Resource("secret", name, "", name)).allowed


def listing(platform: Platform, actor: Actor) -> list[ProjectDocument]:
    """Those that the actor may see, by name."""
    with platform.database.read() as connection:
        rows = [
            row
            for row in projects.listing(connection)
            if gate.decide(
                platform, connection, actor, "project.see", Resource("project", row.name, row.team, row.name)
            ).allowed
        ]
    return [ProjectDocument(row.name, row.team, iso(row.created_at) or "") for row in rows]
