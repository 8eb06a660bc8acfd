"""A person who is forgotten is named nowhere that anybody can read, and everything goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import select

from groundplane.model.errors import Conflict, Denied, NotFound
from groundplane.model.ids import new_id
from groundplane.services import (
    callers,
    identities,
    policies,
    policy_trials,
    runs,
    secrets,
    teams,
    tokens,
    users,
)
from groundplane.services.access import Actor
from groundplane.services.audit import erasing, log, verifying, views
from groundplane.services.oidc import Claims
from groundplane.store.database import Database
from groundplane.store.tables import metadata
from tests.integration import accounts
from tests.integration.accounts import session, themselves
from tests.planes import ME, Ground

NAME = "zoe.quist"
STEP = '[pipelines.p.steps.a]\ncommand = ["/fake/a"]\n'
RULE = '@id("trained") forbid (principal, action == Action::"run.submit", resource) unless { %s };'
WORD = "correct horse battery staple"


def dumped(database: Database) -> str:
    """Every row of every table."""
    with database.read() as connection:
        return "\n".join(str(connection.execute(select(table)).all()) for table in metadata.sorted_tables)


def files_of(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file()}


class Life:
    """What somebody leaves: a provider's account with roles, logins, runs, decisions, policies, a secret, a folder."""

    def __init__(self, ground: Ground, tmp_path: Path) -> None:
        self.platform = platform = ground.platform
        with platform.database.write() as connection:
            accounts.project(connection, "trial", "research")
        email = f"{NAME}@x.example"
        claims = Claims(
            "https://login.example", NAME, (NAME,), "Zoe Quist", email, True, ("research",), frozenset(), ""
        )
        self.zoe = identities.logged_in(platform, claims, "10.0.0.7", themselves)
        for role in ("owner", "maintainer"):
            teams.add(platform, ME, "platform", NAME, role)
        attributes = {"clearance": "phi", "desk": f"{NAME} at north"}
        users.set_(platform, ME, NAME, email=email, attributes=attributes)
        for _ in range(3):
            session(platform, self.zoe)
            tokens.create(platform, self.zoe, NAME)
        self.done = runs.submit(platform, self.zoe, new_id(), ground.request(STEP)).id
        ground.wait(self.done)
        policies.add(platform, self.zoe, "hers", RULE % 'principal.clearance.contains("phi")')
        users.set_(platform, ME, NAME, attributes={"clearance": ""})
        self.denied = new_id()
        with pytest.raises(Denied):
            runs.submit(platform, self.zoe, self.denied, ground.request(STEP))
        secrets.put(platform, self.zoe, "warehouse", None, b"word")
        with pytest.raises(NotFound):
            teams.add(platform, self.zoe, "nowhere", NAME, "member")
        (tmp_path / "packed.tar").write_bytes(bytes(10240))
        callers.receive(platform, self.zoe, "folder", tmp_path / "packed.tar")
        users.enable(platform, ME, NAME, enabled=False)


@pytest.fixture
def life(ground: Ground, tmp_path: Path) -> Life:
    return Life(ground, tmp_path)


def test_nothing_readable_names_a_person_who_is_forgotten(ground: Ground, life: Life) -> None:
    platform = ground.platform
    assert dumped(platform.database).count(NAME) >= 8
    note = log.head(platform, ME)
    erasing.forget(platform, ME, NAME)
    log.integrate(platform)
    left = dumped(platform.database)
    assert NAME not in left and "Zoe Quist" not in left
    held = [name for name, content in files_of(ground.home).items() if NAME.encode() in content]
    if platform.database.sqlite:
        path = Path(platform.database.url.removeprefix("sqlite:///"))
        held += [name for name, content in files_of(path.parent).items() if NAME.encode() in content]
    assert held == []
    verdict = verifying.verify(platform, ME, {"kept": note}, lambda _: None)
    assert verdict["ok"]


def test_lists_and_explanations_go_on_with_one_name_in_the_place_of_it(ground: Ground, life: Life) -> None:
    platform = ground.platform
    erasing.forget(platform, ME, NAME)
    instead = ground.show(life.done).actor
    assert instead.startswith("forgotten-") and len(instead) > len("forgotten-")
    assert runs.listing(platform, ME, None, 10, None).runs[0].actor == instead
    for run, outcome in ((life.done, "allowed"), (life.denied, "denied")):
        told = policies.explain(platform, ME, run)
        assert (told["actor"], told["principal"]["name"], told["outcome"]) == (instead, instead, outcome)
    assert told["steps"][0]["rule"] == "trained"
    assert policies.listing(platform, ME)[1]["actor"] == instead
    assert [each.set_by for each in secrets.listing(platform, ME)] == [instead]
    again = RULE % 'principal.clearance.contains("nothing")'
    assert policy_trials.simulate(platform, ME, "hers", again)["denied"][0]["actor"] == instead
    again = again.replace("nothing", "phi")
    assert policy_trials.simulate(platform, ME, "hers", again)["denied"] == [], "what was known then decides"
    told = views.listing(platform, ME, 100, None)["events"]
    assert {event["actor"] for event in told} == {ME.name, "(forgotten)"}
    json.dumps(told)


def test_the_account_is_gone_and_its_name_may_be_anothers_who_gets_nothing_of_it(ground: Ground, life: Life) -> None:
    platform = ground.platform
    erasing.forget(platform, ME, NAME)
    instead = ground.show(life.done).actor
    assert users.listing(platform, ME) == [] and tokens.listing(platform, ME) == []
    assert teams.show(platform, ME, "research").members == ()
    claims = Claims("https://login.example", "7", (NAME, "7"), "", "", False, (), frozenset(), "")
    assert identities.logged_in(platform, claims, "", themselves).name == NAME
    with pytest.raises(NotFound):
        runs.show(platform, Actor(NAME), life.done)
    for name in (instead, "forgotten-0"):
        with pytest.raises(Exception, match="somebody without an account"):
            users.create(platform, ME, name)


def test_who_may_still_come_in_is_not_forgotten_by_a_slip(ground: Ground, life: Life) -> None:
    platform = ground.platform
    users.enable(platform, ME, NAME, enabled=True)
    before = dumped(platform.database)
    with pytest.raises(Conflict, match="is enabled"):
        erasing.forget(platform, ME, NAME)
    assert dumped(platform.database) == before
    with pytest.raises(NotFound, match="nothing here tells of"):
        erasing.forget(platform, ME, "nobody")


def test_who_is_named_in_a_run_alone_is_forgotten_too(ground: Ground, life: Life) -> None:
    """As where retention has dropped the events, or a run began while its person was being forgotten."""
    platform = ground.platform
    erasing.forget(platform, ME, NAME)
    with platform.database.write() as connection:
        connection.exec_driver_sql("UPDATE runs SET actor = 'zoe.quist'")
    erasing.forget(platform, ME, NAME)
    assert NAME not in dumped(platform.database)


def test_a_run_that_goes_on_does_not_fail_when_its_person_is_forgotten(ground: Ground, life: Life) -> None:
    platform = ground.platform
    policies.remove(platform, ME, "hers")
    users.enable(platform, ME, NAME, enabled=True)
    ground.play(a={"delay": 1.0})
    run = runs.submit(platform, life.zoe, new_id(), ground.request(STEP)).id
    ground.until_task(run, "a", "running")
    users.enable(platform, ME, NAME, enabled=False)
    erasing.forget(platform, ME, NAME)
    assert ground.wait(run).state == "succeeded"
