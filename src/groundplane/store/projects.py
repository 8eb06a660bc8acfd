"""Projects: whose they are. One by its name is in store/teams.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select

from groundplane.store import upserts
from groundplane.store.account_tables import projects, teams


def add(connection: Connection, name: str, team_id: int, at: int) -> bool:
    """A new project of that team, unless there is one of that name, also of a transaction at the same time; whether it
    was."""
    return upserts.keep(connection, projects, {"name": name, "team_id": team_id, "created_at": at})


def listing(connection: Connection) -> Sequence[Any]:
    """name, team (its name), labels (JSON), created_at of each, by name."""
    query = select(projects, teams.c.name.label("team")).join(teams, teams.c.id == projects.c.team_id)
    return connection.execute(query.order_by(projects.c.name)).all()
