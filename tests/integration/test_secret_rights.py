"""Whose secrets and connections somebody may see, set and use."""

from __future__ import annotations

import pytest

from groundplane.model.errors import Denied, NotFound
from groundplane.services import connections, secrets
from groundplane.services.access import Actor
from tests.integration import accounts
from tests.planes import ME, Ground

STEP = '[pipelines.p.steps.a]\ncommand = ["/fake/a"]\nsecrets = { TOKEN = "token" }\n'


@pytest.fixture
def people(ground: Ground) -> dict[str, Actor]:
    with ground.platform.database.write() as connection:
        accounts.project(connection, "trial", "research")
        accounts.team(connection, "finance")
        return {
            name: accounts.user(connection, name, (team, role))
            for name, team, role in (
                ("ann", "research", "maintainer"),
                ("bob", "research", "member"),
                ("vic", "research", "viewer"),
                ("zoe", "finance", "owner"),
            )
        }


def test_a_projects_secrets_are_its_teams(ground: Ground, people: dict[str, Actor]) -> None:
    platform = ground.platform
    secrets.put(platform, ME, "token", None, b"value of all")
    secrets.put(platform, people["ann"], "token", "trial", b"value of trial")
    for name in ("bob", "vic", "zoe"):
        with pytest.raises(Denied):
            secrets.put(platform, people[name], "token", "trial", b"x")
        with pytest.raises(Denied):
            secrets.remove(platform, people[name], "token", "trial")
        with pytest.raises(Denied):
            secrets.put(platform, people[name], "other", None, b"x")
    seen = {name: [each.project for each in secrets.listing(platform, actor)] for name, actor in people.items()}
    assert seen == {"ann": ["trial"], "bob": ["trial"], "vic": [], "zoe": []}
    assert [each.project for each in secrets.listing(platform, ME)] == [None, "trial"]


def test_a_connection_that_one_may_not_see_is_as_one_that_is_not_there(
    ground: Ground, people: dict[str, Actor]
) -> None:
    platform = ground.platform
    connections.put(platform, people["ann"], "warehouse", "trial", "postgresql://u@127.0.0.1/db", None)
    assert connections.show(platform, people["bob"], "warehouse", "trial").name == "warehouse"
    for actor in (people["zoe"], people["vic"]):
        said: list[str] = []
        for name in ("warehouse", "nothing-x"):
            with pytest.raises(NotFound) as missing:
                connections.show(platform, actor, name, "trial")
            said.append(missing.value.message.replace(name, "NAME"))
        assert said[0] == said[1]
        assert connections.listing(platform, actor) == []
        with pytest.raises(Denied):
            connections.put(platform, actor, "warehouse", "trial", "postgresql://u@evil/db", None)
