"""A project that nobody made: what may be set for its name, and who may make it then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from groundplane.model.errors import Conflict, Denied, Invalid, NotFound
from groundplane.model.ids import new_id
from groundplane.services import connections, labels, projects, quotas, runs, secrets, teams
from groundplane.services.access import Actor
from tests.integration import accounts
from tests.planes import ME, Ground

STEP = '[pipelines.p.steps.a]\ncommand = ["/fake/a"]\n'
URL = "postgresql://u@127.0.0.1/db"
SETS: dict[str, Callable[[Any, Actor, str], object]] = {
    "quota": lambda platform, actor, name: quotas.put(platform, actor, name, {"gpus": 4}, None),
    "project's quota": lambda platform, actor, name: quotas.put(platform, actor, f"project:{name}", {"gpus": 4}, None),
    "secret": lambda platform, actor, name: secrets.put(platform, actor, "key", name, b"word"),
    "connection": lambda platform, actor, name: connections.put(platform, actor, "db", name, URL, None),
    "labels": lambda platform, actor, name: labels.set_project(platform, actor, name, ["phi"]),
}


@pytest.fixture
def people(ground: Ground) -> dict[str, Actor]:
    """Of team blue its owner; of the platform one with every role but owner, and its owner."""
    with ground.platform.database.write() as connection:
        accounts.team(connection, "blue")
        accounts.project(connection, "made", "blue")
        accounts.project(connection, "others", "red")
        staff = [("platform", role) for role in ("member", "maintainer", "operator")]
        return {
            "blue": accounts.user(connection, "bea", ("blue", "owner")),
            "staff": accounts.user(connection, "stan", *staff),
            "root": accounts.user(connection, "rita", ("platform", "owner")),
        }


@pytest.mark.parametrize("what", SETS)
def test_an_account_sets_nothing_for_a_name_that_nobody_made(
    ground: Ground, people: dict[str, Actor], what: str
) -> None:
    platform, put = ground.platform, SETS[what]
    said = []
    for name in ("study", "others"):
        with pytest.raises(Denied) as refused:
            put(platform, people["blue"], name)
        said.append(refused.value.message.replace(name, "X").replace("project:X", "X"))
    assert said[0] == said[1], "who may do neither is not told which of them there is"
    for who in ("staff", "root"):
        with pytest.raises(NotFound, match="there is no project 'study'") as missing:
            put(platform, people[who], "study")
        assert "ground projects create study --team" in missing.value.hint
        put(platform, people[who], "made")
    assert not [each for each in quotas.listing(platform, ME) if each.name == "study"]
    assert not [each for each in secrets.listing(platform, ME) if each.project == "study"]
    assert not [each for each in connections.listing(platform, ME) if each.project == "study"]


@pytest.mark.parametrize("what", ["quota", "secret", "connection"])
def test_the_owner_needs_no_project_for_it_and_nobody_else_gets_it_by_making_one(
    ground: Ground, people: dict[str, Actor], what: str
) -> None:
    platform = ground.platform
    SETS[what](platform, ME, "study")
    with pytest.raises(Conflict, match="'study' cannot be made for this team: the name is taken"):
        projects.create(platform, people["blue"], "study", "blue")
    assert [project.name for project in projects.listing(platform, people["blue"])] == ["made"]
    assert projects.create(platform, people["blue"], "fresh", "blue").team == "blue"
    assert projects.create(platform, people["root"], "study", "blue").team == "blue"


def test_nobody_takes_over_a_name_that_is_worked_under(ground: Ground, people: dict[str, Actor]) -> None:
    platform = ground.platform
    mine = ground.run(STEP)
    assert mine.project == "trial" and not mine.team
    with pytest.raises(Conflict, match="'trial' cannot be made for this team: the name is taken"):
        projects.create(platform, people["blue"], "trial", "blue")
    assert not ground.run(STEP).team
    projects.create(platform, ME, "trial", "blue")
    assert ground.run(STEP).team == "blue"
    with pytest.raises(NotFound):
        runs.show(platform, people["blue"], mine.id)


def test_what_the_owner_set_holds_for_the_project_that_he_then_makes(ground: Ground, people: dict[str, Actor]) -> None:
    platform = ground.platform
    quotas.put(platform, ME, "trial", {"runs": 0}, "deny")
    projects.create(platform, ME, "trial", "blue")
    [seen] = quotas.listing(platform, people["blue"])
    assert (seen.name, seen.limit) == ("trial", 0)
    with pytest.raises(Denied, match="may never have more than 0 runs"):
        runs.submit(platform, people["blue"], new_id(), ground.request(STEP))
    with pytest.raises(Denied):
        quotas.remove(platform, people["blue"], "trial", ())


def test_teams_are_as_they_were(ground: Ground, people: dict[str, Actor]) -> None:
    platform = ground.platform
    assert quotas.put(platform, people["staff"], "blue", {"gpus": 2}, None)[0].kind == "team"
    with pytest.raises(NotFound, match="there is no team 'green'"):
        quotas.put(platform, people["staff"], "team:green", {"gpus": 2}, None)
    teams.create(platform, ME, "made")
    with pytest.raises(Invalid, match="is a team and a project"):
        quotas.put(platform, people["staff"], "made", {"gpus": 2}, None)
