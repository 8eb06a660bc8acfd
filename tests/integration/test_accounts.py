"""Accounts, teams, tokens and logins, as services over each database."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from groundplane.engine.housekeeping import Housekeeping
from groundplane.model.errors import Conflict, Denied, Invalid, NotFound, Unauthenticated
from groundplane.services import (
    identities,
    passwords,
    policies,
    projects,
    secrets,
    sessions,
    teams,
    tokens,
    users,
    work_tokens,
)
from groundplane.services.access import Actor
from groundplane.services.audit import exporting, views
from groundplane.services.login_rules import LoginRules
from groundplane.services.oidc import Claims
from groundplane.services.platform import Platform, now
from groundplane.store import audit as log
from groundplane.store import users as stored
from groundplane.store.database import Database
from tests.integration.accounts import session, themselves
from tests.planes import Ground

OWNER = Actor("me", "owner", source="socket")
WORD = "correct horse battery staple"
RULES = LoginRules(failures=3, lockout=60)


@pytest.fixture
def platform(tmp_path: Path, database_url: str) -> Iterator[Platform]:
    made = Platform(home=tmp_path, database=Database(database_url), drivers={}, logins=RULES)
    yield made
    made.database.close()


def later(platform: Platform, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """The clock is that much further on."""
    at = now() + int(seconds * 1e6)
    for module in (sessions, tokens, identities, users):
        monkeypatch.setattr(module, "now", lambda: at)


def shown(platform: Platform, user: str | None = None, actor: Actor = OWNER, **words: Any) -> str:
    token = tokens.create(platform, actor, user, **words).token
    assert token is not None
    return token


# --- accounts ----------------------------------------------------------------------------------------------------


def test_an_account_is_made_once_and_the_same_again_is_the_same(platform: Platform) -> None:
    made = users.create(platform, OWNER, "alice", email="a@x.example")
    assert users.create(platform, OWNER, "alice", email="a@x.example") == made
    with pytest.raises(Conflict):
        users.create(platform, OWNER, "alice", email="other@x.example")
    with pytest.raises(Conflict):
        users.create(platform, OWNER, "alice", email="a@x.example", password=WORD)
    assert [user.name for user in users.listing(platform, OWNER)] == ["alice"]


@pytest.mark.parametrize(
    "name", ["", "groundplane", "token", users.owner_name(), "a b", "a/b", "ä", "-a", "x" * 64, "a\n"]
)
def test_names_that_are_none(platform: Platform, name: str) -> None:
    with pytest.raises(Invalid):
        users.create(platform, OWNER, name)


def test_attributes_are_set_one_by_one(platform: Platform) -> None:
    users.create(platform, OWNER, "alice")
    users.set_(platform, OWNER, "alice", attributes={"training": "gcp@2027-05-01", "clearance": "phi"})
    found = users.set_(platform, OWNER, "alice", attributes={"clearance": ""}, email="a@x.example")
    assert (found.attributes, found.email) == ({"training": "gcp@2027-05-01"}, "a@x.example")
    with pytest.raises(Invalid):
        users.set_(platform, OWNER, "alice", attributes={"Clear ance": "x"})
    with pytest.raises(NotFound):
        users.set_(platform, OWNER, "nobody")


def test_who_is_not_the_owner_makes_no_accounts(platform: Platform) -> None:
    users.create(platform, OWNER, "alice")
    alice = Actor("alice")
    for act in (
        lambda: users.create(platform, alice, "bob"),
        lambda: users.set_(platform, alice, "alice", attributes={"clearance": "phi"}),
        lambda: users.listing(platform, alice),
        lambda: teams.create(platform, alice, "cardio"),
        lambda: teams.add(platform, alice, "platform", "alice", "owner"),
        lambda: projects.create(platform, alice, "trial", "platform"),
        lambda: tokens.create(platform, alice, "bob"),
        lambda: users.enable(platform, alice, "bob", enabled=False),
        lambda: policies.explain_for(platform, alice, "bob", "run.submit", "trial"),
    ):
        with pytest.raises((Denied, NotFound)):  # not found: a team that it may not see
            act()
    with platform.database.read() as connection:
        leaves = [row.leaf for row in log.page(connection, None, 100, action=None, outcome=None, people=None)]
    assert sum('"denied"' in leaf for leaf in leaves) >= 8
    assert not any("bob" in leaf or "alice" in leaf for leaf in leaves), "denied or not, an event names nobody in clear"


def test_teams_form_a_tree_and_roles_hold_below(platform: Platform) -> None:
    users.create(platform, OWNER, "alice")
    assert teams.create(platform, OWNER, "cardio").parent == "platform"
    assert teams.create(platform, OWNER, "echo", "cardio").parent == "cardio"
    with pytest.raises(Conflict):
        teams.create(platform, OWNER, "echo")
    with pytest.raises(NotFound):
        teams.create(platform, OWNER, "x", "nowhere")
    teams.add(platform, OWNER, "cardio", "alice", "member")
    teams.add(platform, OWNER, "cardio", "alice", "member")
    teams.add(platform, OWNER, "platform", "alice", "auditor")
    with pytest.raises(Invalid):
        teams.add(platform, OWNER, "cardio", "alice", "king")
    who = users.whoami(platform, Actor("alice"))
    assert (who.teams, who.roles) == (("cardio", "platform"), ("auditor", "member"))
    assert [member.user for member in teams.show(platform, OWNER, "cardio").members] == ["alice"]
    teams.remove(platform, OWNER, "cardio", "alice")
    with pytest.raises(NotFound):
        teams.remove(platform, OWNER, "cardio", "alice")
    assert users.whoami(platform, Actor("alice")).roles == ("auditor",)


def test_who_reads_the_log_by_an_account_is_in_it(platform: Platform) -> None:
    users.create(platform, OWNER, "alice")
    teams.add(platform, OWNER, "platform", "alice", "auditor")
    alice = Actor("alice")
    for actor in (OWNER, alice):
        views.listing(platform, actor, 10, None)
        exported = b"".join(exporting.export(platform, actor, "jsonl", reveal=False)).splitlines()
    told = [(event["actor"], event["action"]) for event in views.listing(platform, alice, 10, None)["events"][:3]]
    assert told == [("alice", "audit.read"), ("alice", "audit.export"), ("alice", "audit.read")]
    assert json.loads(exported[-1])["action"] == "audit.export", "what is exported tells by whom"


def test_a_project_is_one_teams(platform: Platform) -> None:
    teams.create(platform, OWNER, "cardio")
    teams.create(platform, OWNER, "onco")
    made = projects.create(platform, OWNER, "Étude 1", "cardio")
    assert projects.create(platform, OWNER, "Étude 1", "cardio") == made
    with pytest.raises(Conflict):
        projects.create(platform, OWNER, "Étude 1", "onco")
    with pytest.raises(NotFound):
        projects.create(platform, OWNER, "other", "nowhere")
    assert [(each.name, each.team) for each in projects.listing(platform, OWNER)] == [("Étude 1", "cardio")]


# --- tokens ------------------------------------------------------------------------------------------------------


def test_nobody_gets_secrets_by_making_the_project_that_they_wait_for(platform: Platform) -> None:
    users.create(platform, OWNER, "eve")
    teams.create(platform, OWNER, "blue")
    teams.add(platform, OWNER, "blue", "eve", "owner")
    secrets.put(platform, OWNER, "warehouse", "study", b"word")
    with pytest.raises(Conflict, match="the name is taken"):
        projects.create(platform, Actor("eve"), "study", "blue")
    assert projects.create(platform, Actor("eve"), "other", "blue").team == "blue"
    assert projects.create(platform, OWNER, "study", "blue").team == "blue"


def test_a_token_is_kept_as_a_digest_and_tells_its_use(platform: Platform) -> None:
    users.create(platform, OWNER, "alice", email="a@x.example")
    made = tokens.create(platform, OWNER, "alice", ["run.submit", "run.*"], 3600)
    assert made.token and made.token.startswith("gp_") and len(made.token) >= 43
    actor = tokens.actor_of(platform, made.token, "10.0.0.7")
    assert (actor.name, actor.kind, actor.source, actor.credential) == ("alice", "user", "10.0.0.7", made.id)
    assert actor.scopes == {"run.submit", "run.*"} and actor.email == "a@x.example"
    [listed] = tokens.listing(platform, OWNER)
    assert listed.used_at is not None and listed.token is None
    with platform.database.read() as connection:
        for table in ("tokens", "users", "events"):
            assert made.token not in str(connection.exec_driver_sql(f"SELECT * FROM {table}").all())


def test_a_token_ends_with_its_time_its_user_and_when_it_is_revoked(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    users.create(platform, OWNER, "alice")
    revoked, used = (shown(platform, "alice", lifetime=100) for _ in range(2))
    uid = next(
        token.id
        for token in tokens.listing(platform, OWNER)
        if token.id == tokens.actor_of(platform, revoked, "").credential
    )
    tokens.revoke(platform, Actor("alice"), uid)
    with pytest.raises(Unauthenticated):
        tokens.actor_of(platform, revoked, "")
    users.enable(platform, OWNER, "alice", enabled=False)
    with pytest.raises(Unauthenticated):
        tokens.actor_of(platform, used, "")
    with pytest.raises(Denied):
        tokens.create(platform, OWNER, "alice")
    users.enable(platform, OWNER, "alice", enabled=True)
    with pytest.raises(Unauthenticated):
        tokens.actor_of(platform, used, "")
    old = shown(platform, "alice", lifetime=100)
    assert tokens.actor_of(platform, old, "").name == "alice"
    later(platform, monkeypatch, 101)
    with pytest.raises(Unauthenticated):
        tokens.actor_of(platform, old, "")


def test_anothers_token_is_not_there(platform: Platform) -> None:
    for name in ("alice", "bob"):
        users.create(platform, OWNER, name)
    made = tokens.create(platform, OWNER, "alice")
    assert tokens.listing(platform, Actor("bob")) == []
    messages = []
    for uid in (made.id, "01a221aa-0000-7000-8000-000000000000"):
        with pytest.raises(NotFound) as refused:
            tokens.revoke(platform, Actor("bob"), uid)
        messages.append(refused.value.message.replace(uid, "ID"))
    assert messages[0] == messages[1]


def test_a_token_with_scopes_makes_no_wider_one(platform: Platform) -> None:
    users.create(platform, OWNER, "alice")
    narrow = tokens.actor_of(platform, shown(platform, "alice", scopes=["token.create", "run.see"]), "")
    for scopes in (None, [], ["run.submit"], ["run.*"]):
        with pytest.raises(Denied):
            tokens.create(platform, narrow, scopes=scopes)
    assert tokens.create(platform, narrow, scopes=["run.see"]).scopes == ("run.see",)


@pytest.mark.parametrize(
    "words",
    [
        {"lifetime": 0},
        {"lifetime": -1},
        {"lifetime": 367 * 86400},
        {"scopes": ["run"]},
        {"scopes": ["run.submti"]},
        {"scopes": ["rum.*"]},
        {"scopes": ["run."]},
        {"scopes": ["*"]},
    ],
)
def test_tokens_that_are_none(platform: Platform, words: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        tokens.create(platform, OWNER, **words)


def test_a_token_for_no_time_is_told_so(platform: Platform) -> None:
    for lifetime in (0, float("nan")):
        with pytest.raises(Invalid, match="holds for no time"):
            tokens.create(platform, OWNER, lifetime=lifetime)


def test_a_service_accounts_token_is_short_signed_and_of_this_installation(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users.create(platform, OWNER, "etl", kind="service")
    with pytest.raises(Invalid):
        users.create(platform, OWNER, "other", kind="service", password=WORD)
    with pytest.raises(Invalid):
        tokens.create(platform, OWNER, "etl", lifetime=25 * 3600)
    text = shown(platform, "etl")
    claims = work_tokens.verified(platform, text)
    assert claims["aud"] == work_tokens.audience(platform) and claims["exp"] - claims["iat"] == 3600
    assert tokens.actor_of(platform, text, "").kind == "service"
    elsewhere = Platform(home=tmp_path / "elsewhere", database=platform.database, drivers={})
    elsewhere.home.mkdir()
    assert work_tokens.audience(elsewhere) != work_tokens.audience(platform)
    for wrong in (
        work_tokens.signed(platform, {"sub": "etl"}, 60),  # well signed, but not in the record
        work_tokens.signed(platform, {"sub": "etl", "aud": work_tokens.audience(elsewhere)}, 60),
        work_tokens.signed(platform, {"sub": "etl", "iss": "somebody"}, 60),
        work_tokens.signed(elsewhere, {"sub": "etl"}, 60),
        work_tokens.signed(platform, {"sub": "etl", "exp": int(time.time()) - 120}, 60),
        text[:-2],
        "eyJhbGciOiJub25lIn0." + text.split(".")[1] + ".",
    ):
        with pytest.raises(Unauthenticated):
            tokens.actor_of(platform, wrong, "")
    tokens.revoke(platform, OWNER, claims["jti"])
    with pytest.raises(Unauthenticated):
        tokens.actor_of(platform, text, "")


def test_a_tasks_token_holds_while_its_attempt_is_open(ground: Ground) -> None:
    users.create(ground.platform, OWNER, "tester")  # who starts this ground's runs
    ground.play(a={"delay": 60.0})
    run = ground.submit('[pipelines.p.steps.a]\ncommand = ["/fake/a"]\n')
    ground.until_task(run, "a", "running")
    with ground.platform.database.read() as connection:
        attempt = connection.exec_driver_sql("SELECT uid FROM attempts").scalar_one()
    text = work_tokens.environment(ground.platform, "tester", attempt, ["artifact.see"])["GROUND_TOKEN"]
    actor = tokens.actor_of(ground.platform, text, "10.0.0.9")
    assert (actor.name, actor.credential, actor.scopes) == ("tester", f"attempt:{attempt}", {"artifact.see"})
    users.enable(ground.platform, OWNER, "tester", enabled=False)
    with pytest.raises(Unauthenticated):
        tokens.actor_of(ground.platform, text, "")
    users.enable(ground.platform, OWNER, "tester", enabled=True)
    ground.cancel(run)
    ground.wait(run)
    with pytest.raises(Unauthenticated, match="has ended"):
        tokens.actor_of(ground.platform, text, "")


# --- passwords and sessions --------------------------------------------------------------------------------------


def wrong(platform: Platform, name: str, password: str = "not the password") -> str:
    with pytest.raises(Unauthenticated) as refused:
        sessions.by_password(platform, name, password, "10.0.0.7", themselves)
    return f"{refused.value.code} {refused.value.message} {refused.value.hint}"


def test_a_password_is_kept_by_argon2id_and_lets_in(platform: Platform) -> None:
    users.create(platform, OWNER, "alice", password=WORD)
    with platform.database.read() as connection:
        kept = stored.by_name(connection, "alice")
    assert kept is not None and kept.password.startswith("$argon2id$") and WORD not in str(kept)
    actor = sessions.by_password(platform, "alice", WORD, "10.0.0.7", themselves)
    assert (actor.name, actor.methods) == ("alice", {"pwd"})
    assert sessions.has_password(platform)
    users.set_(platform, OWNER, "alice", password="")
    wrong(platform, "alice", WORD)
    assert not sessions.has_password(platform)


@pytest.mark.parametrize("password", ["", "short", "x" * 1025])
def test_passwords_that_are_none(platform: Platform, password: str) -> None:
    with pytest.raises(Invalid):
        users.create(platform, OWNER, "alice", password=password)


def test_after_some_wrong_passwords_also_the_right_one_is_refused_for_a_while(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    users.create(platform, OWNER, "alice", password=WORD)
    for _ in range(RULES.failures - 1):
        wrong(platform, "alice")
    assert sessions.by_password(platform, "alice", WORD, "", themselves).name == "alice", (
        "one that succeeds begins anew"
    )
    for _ in range(RULES.failures):
        wrong(platform, "alice")
    wrong(platform, "alice", WORD)
    assert users.listing(platform, OWNER)[0].locked_until is not None
    users.enable(platform, OWNER, "alice", enabled=True)
    assert sessions.by_password(platform, "alice", WORD, "", themselves).name == "alice"
    for _ in range(RULES.failures):
        wrong(platform, "alice")
    later(platform, monkeypatch, RULES.lockout + 1)
    assert sessions.by_password(platform, "alice", WORD, "", themselves).name == "alice"


def test_nobody_learns_who_has_an_account(platform: Platform) -> None:
    """The same words, and as long to say them, whether there is one, with a password, disabled, locked, or none."""
    users.create(platform, OWNER, "alice", password=WORD)
    users.create(platform, OWNER, "without")
    users.create(platform, OWNER, "gone", password=WORD)
    users.enable(platform, OWNER, "gone", enabled=False)
    users.create(platform, OWNER, "locked", password=WORD)
    for _ in range(RULES.failures):
        wrong(platform, "locked")
    platform.logins = replace(RULES, failures=1000)
    words, times = set(), {}
    for name in ("alice", "without", "gone", "locked", "nobody"):
        taken = []
        for _ in range(7):
            began = time.perf_counter()
            words.add(wrong(platform, name, WORD if name in ("gone", "locked") else "not the password"))
            taken.append(time.perf_counter() - began)
        times[name] = statistics.median(taken)
    assert len(words) == 1
    assert max(times.values()) < 3 * min(times.values()), times  # a hash that is left out would be a factor of 20


def test_failed_logins_are_events_without_what_was_typed(platform: Platform) -> None:
    users.create(platform, OWNER, "alice", password=WORD)
    wrong(platform, "alice", "guess-of-a-password")
    wrong(platform, "typed-the-password-as-name", "x")
    rows = views.listing(platform, OWNER, 10, None)["events"]
    assert [(row["action"], row["object"], row["outcome"]) for row in rows[:2]] == [
        ("session.create", "unknown", "denied"), ("session.create", "alice", "denied")]  # fmt: skip
    assert "guess-of" not in str(rows) and "typed-the" not in str(rows)


def test_a_session_ends_idle_at_last_and_with_its_user(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    platform.logins = LoginRules(idle=900, longest=3600)
    users.create(platform, OWNER, "alice")
    alice = Actor("alice", methods=frozenset({"pwd", "otp"}), level="mfa")
    text = session(platform, alice)
    found = sessions.find(platform, text, "10.0.0.7")
    assert found is not None and (found.actor.name, found.actor.methods, found.actor.level) == (
        "alice", {"pwd", "otp"}, "mfa")  # fmt: skip
    assert found.actor.source == "10.0.0.7" and text not in found.actor.credential
    began = time.time()
    for minute in (10, 20, 30, 40, 50):  # used again and again it goes on
        later(platform, monkeypatch, began + 60 * minute - time.time())
        assert sessions.find(platform, text, "") is not None, minute
    later(platform, monkeypatch, began + 3601 - time.time())
    assert sessions.find(platform, text, "") is None, "but not for ever"
    monkeypatch.undo()
    text = session(platform, alice)
    later(platform, monkeypatch, 905)
    assert sessions.find(platform, text, "") is None, "not used it ends"
    monkeypatch.undo()
    text = session(platform, alice)
    users.enable(platform, OWNER, "alice", enabled=False)
    assert sessions.find(platform, text, "") is None
    with pytest.raises(Denied):
        session(platform, alice)
    users.enable(platform, OWNER, "alice", enabled=True)
    sessions.end(platform, text, "")
    assert sessions.find(platform, text, "") is None
    assert sessions.find(platform, "made-up", "") is None


def test_what_ended_long_ago_is_forgotten(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    users.create(ground.platform, OWNER, "alice")
    session(ground.platform, Actor("alice"))
    tokens.create(ground.platform, OWNER, "alice", lifetime=60)
    kept = tokens.create(ground.platform, OWNER, "alice", lifetime=360 * 86400)
    Housekeeping(ground.platform).once()

    def counts() -> list[int]:
        with ground.platform.database.read() as connection:
            return [
                connection.exec_driver_sql(f"SELECT count(*) FROM {t}").scalar_one() for t in ("sessions", "tokens")
            ]

    assert counts() == [1, 2]
    later(ground.platform, monkeypatch, 40 * 86400)
    Housekeeping(ground.platform).once()
    assert counts() == [0, 1]
    assert [token.id for token in tokens.listing(ground.platform, OWNER)] == [kept.id]


# --- whom a provider sends ---------------------------------------------------------------------------------------


def claims(subject: str, name: str, **words: Any) -> Claims:
    plain = {
        "full_name": "",
        "email": "",
        "email_verified": False,
        "groups": (),
        "methods": frozenset[str](),
        "level": "",
    }
    return Claims("https://login.example", subject, (name, subject), **{**plain, **words})


def test_whom_a_provider_sends_gets_an_account_and_keeps_it(platform: Platform) -> None:
    first = identities.logged_in(platform, claims("1", "alice", email="a@x.example"), "", themselves)
    again = identities.logged_in(platform, claims("1", "renamed", full_name="Alice"), "", themselves)
    assert (first.name, again.name) == ("alice", "alice")
    assert users.whoami(platform, again).name == "Alice"


def test_an_account_made_beforehand_is_whose_name_and_address_it_has(platform: Platform) -> None:
    users.create(platform, OWNER, "alice", email="a@x.example")
    for words in ({}, {"email": "a@x.example"}, {"email": "b@x.example", "email_verified": True}):
        with pytest.raises(Denied) as refused:
            identities.logged_in(platform, claims("1", "alice", **words), "", themselves)
        assert refused.value.code == "account_taken"
    right = claims("1", "alice", email="A@x.example", email_verified=True)
    assert identities.logged_in(platform, right, "", themselves).name == "alice"
    with pytest.raises(Denied):
        identities.logged_in(platform, claims("2", "alice", email="a@x.example", email_verified=True), "", themselves)


def test_a_provider_takes_over_no_password_no_program_and_no_reserved_name(platform: Platform) -> None:
    users.create(platform, OWNER, "admin", password=WORD)
    users.create(platform, OWNER, "etl", kind="service")
    for name in ("admin", "etl"):
        with pytest.raises(Denied):
            identities.logged_in(platform, claims("9", name), "", themselves)
    for name in ("groundplane", "token", users.owner_name(), "a b", ""):
        assert identities.logged_in(platform, claims("7", name), "", themselves).name == "7"
    assert identities.logged_in(platform, claims("a b", "c d"), "", themselves).name.startswith("oidc-")


def test_groups_are_the_teams_of_that_name_but_the_root(platform: Platform) -> None:
    for name in ("cardio", "onco", "echo"):
        teams.create(platform, OWNER, name)
    teams.add(
        platform, OWNER, "platform", identities.logged_in(platform, claims("2", "bob"), "", themselves).name, "viewer"
    )
    actor = identities.logged_in(
        platform, claims("1", "alice", groups=("cardio", "/onco", "nowhere", "platform")), "", themselves
    )
    assert users.whoami(platform, actor).teams == ("cardio", "onco")
    teams.add(platform, OWNER, "echo", "alice", "viewer")
    identities.logged_in(platform, claims("1", "alice", groups=("onco",)), "", themselves)
    assert users.whoami(platform, actor).teams == ("echo", "onco"), "what was given here stays"
    identities.logged_in(platform, claims("1", "alice", groups=("onco",)), "", themselves)
    events = [
        (row["action"], row["object"], row["details"]["user"])
        for row in reversed(views.listing(platform, OWNER, 50, None)["events"])
        if row["details"].get("origin") == "oidc"
    ]
    changes = [("team.add", "cardio"), ("team.add", "onco"), ("team.remove", "cardio")]
    assert events == [(*change, "alice") for change in changes], "what changes nothing is no event"


def test_the_dummy_hash_is_one_of_the_same_cost(platform: Platform) -> None:
    assert not passwords.holds(None, WORD)
    assert not passwords.holds("no hash at all", WORD)
