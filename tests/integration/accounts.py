"""Teams, users and projects as tests need them, put into the tables, and an API whose edge is open: a request has the
actor that the test says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select

from groundplane.api.app import create
from groundplane.api.standing import Standing
from groundplane.services import sessions
from groundplane.services.access import Actor
from groundplane.services.platform import Platform
from groundplane.store import teams
from groundplane.store.account_tables import projects, users
from tests.unit.api.asgi import Answer, Api

ROLES = ("viewer", "member", "maintainer", "operator", "auditor", "owner")


def team(connection: Connection, name: str, parent: str = "platform") -> int:
    """The team's key; it is made when it is not there, below that other."""
    row = teams.by_name(connection, name)
    if row is not None:
        return row.id
    above = None if name == "platform" else team(connection, parent)
    teams.add(connection, name, above, 1)
    return teams.by_name(connection, name).id  # pyright: ignore[reportOptionalMemberAccess]


def user(connection: Connection, name: str, *roles: tuple[str, str], **attributes: str) -> Actor:
    """An account with these roles: (team, role)."""
    row = {"name": name, "kind": "user", "attributes": json.dumps(attributes), "created_at": 1}
    key = connection.execute(insert(users).values(**row).returning(users.c.id)).scalar_one()
    for at, role in roles:
        teams.add_member(connection, team(connection, at), key, role, "local")
    return Actor(name, "user", source="127.0.0.1")


def project(connection: Connection, name: str, at: str, *labels: str) -> None:
    """A project of that team."""
    row = {"name": name, "team_id": team(connection, at), "labels": json.dumps(labels), "created_at": 1}
    connection.execute(insert(projects).values(**row))


def disable(connection: Connection, name: str) -> None:
    """The account may do nothing from now on."""
    connection.execute(users.update().where(users.c.name == name).values(disabled_at=1))


def names(connection: Connection) -> list[str]:
    """Of every account."""
    return list(connection.execute(select(users.c.name)).scalars())


def themselves(_platform: Platform, _connection: Connection, actor: Actor) -> Actor:
    """What somebody who logs in is let in with, where who it is matters alone."""
    return actor


def session(platform: Platform, actor: Actor) -> str:
    """The cookie of one who has just logged in."""
    with platform.database.write() as connection:
        return sessions.opened(platform, connection, actor)


class _Open:
    """In the place of the edge."""

    def __init__(self, app: Any, **_: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope.setdefault("state", {}).update(actor=_Open.actor, standing=Standing(lambda: None))
        await self._app(scope, receive, send)

    actor = Actor("nobody")


class OpenApi(Api):
    """The real application over a real platform; `api.of(actor)` is who asks from then on."""

    def __init__(self, platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("groundplane.api.app.Gate", _Open)
        # Folders of callers elsewhere have tests of their own: here they lie beside the control plane.
        monkeypatch.setattr("groundplane.services.callers.settled", lambda platform, actor, request: request)
        self.platform = platform
        self.app = create(platform)
        self.peer = None

    def of(self, actor: Actor, method: str, path: str, body: Any = None) -> Answer:
        _Open.actor = actor
        return self(method, f"/api/v1{path}", body)


def as_actor(actor: Actor) -> None:
    """Who asks from now on, where requests are made past `OpenApi.of`."""
    _Open.actor = actor
