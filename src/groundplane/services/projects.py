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
from groundplane.store import connections, projects, quotas, runs, secrets, teams

_LONGEST = 200


def create(platform: Platform, actor: Actor, name: str, team: str) -> ProjectDocument:
    """Gives a team the project of that name. The same again changes nothing."""
    if not name.strip() or len(name) > _LONGEST or not name.isprintable() or "/" in name:
        raise Invalid(f"{name!r} is no name of a project", hint="the `name` of `[project]` in its ground.toml")
    require_seen(platform, actor, team)
    gate.require(platform, actor, "project.create", Resource("project", name, team, name))
    with platform.database.read() as connection:
        known = teams.project(connection, name)
    if known is not None:
        if known.team != team:
            raise _taken(name)
        return ProjectDocument(known.name, known.team, iso(known.created_at) or "")
    at = now()
    with gate.change(
        platform, actor, "project.create", name, Resource("project", name, team, name), team=team
    ) as connection:
        if _is_anothers(platform, connection, actor, name) or not projects.add(
            connection, name, known_team(connection, team).id, at
        ):
            raise _taken(name)
    return ProjectDocument(name, team, iso(at) or "")


def _taken(name: str) -> Conflict:
    """Names are of all teams together, so that one is taken cannot be kept from who asks for it; whose it is can."""
    return Conflict(
        f"the project {name!r} cannot be made for this team: the name is taken",
        hint="choose another name; `ground projects list` shows whose it is to who may see it",
    )


def _is_anothers(platform: Platform, connection: Connection, actor: Actor, name: str) -> bool:
    """Whether the name is in use already, for secrets, connections, a quota or runs of a project that nobody made: only
    those who may set such things there decide whose it becomes."""
    owned = [row.project for rows in (secrets, connections) for row in rows.listing(connection)]
    owned += [row.name for row in quotas.listing(connection) if row.kind == "project"]
    if name not in owned and not runs.of_nobodys(connection, name):
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
