"""What lets somebody in ends: with the password, the account, the person behind it, and nothing renews itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from groundplane.model.errors import Denied, GroundError, Unauthenticated
from groundplane.model.ids import new_id
from groundplane.services import gate, identities, projects, quotas, runs, sessions, teams, tokens, users, work_tokens
from groundplane.services.access import Actor
from groundplane.services.audit import erasing, views
from groundplane.services.login_rules import LoginRules
from groundplane.services.oidc import Claims
from groundplane.services.platform import Platform
from groundplane.store import users as stored
from groundplane.store.database import Database
from tests.integration import accounts
from tests.planes import Ground

OWNER = Actor("me", "owner", source="socket")
WORD, OTHER = "correct horse battery staple", "another horse battery staple"
STEP = '[pipelines.p.steps.a]\ncommand = ["/fake/a"]\n'


@pytest.fixture
def platform(tmp_path: Path, database_url: str) -> Iterator[Platform]:
    made = Platform(home=tmp_path, database=Database(database_url), drivers={}, logins=LoginRules())
    yield made
    made.database.close()


def token(platform: Platform, user: str, actor: Actor = OWNER, **words: Any) -> str:
    made = tokens.create(platform, actor, user, **words).token
    assert made is not None
    return made


def working(ground: Ground) -> tuple[str, str]:
    """A run and its attempt, which goes on until it is cancelled."""
    ground.play(a={"delay": 60.0})
    run = ground.submit(STEP)
    ground.until_task(run, "a", "running")
    with ground.platform.database.read() as connection:
        return run, connection.exec_driver_sql("SELECT uid FROM attempts").scalar_one()


def holds(platform: Platform, text: str) -> bool:
    """Whether that token or cookie still lets in."""
    try:
        tokens.actor_of(platform, text, "")
    except Unauthenticated:
        return sessions.find(platform, text, "") is not None
    return True


class Logins:
    """What an account with a password may have been let in by: two browsers, a command line, what it made there, and
    what an administrator gave it."""

    def __init__(self, platform: Platform, name: str) -> None:
        who = sessions.by_password(platform, name, WORD, "", accounts.themselves)
        self.browsers = [accounts.session(platform, who) for _ in range(2)]
        self.command_line = sessions.by_password(platform, name, WORD, "", tokens.of_login).token or ""
        self.made_there = token(platform, name, tokens.actor_of(platform, self.command_line, ""))
        self.given = token(platform, name)

    def all(self) -> list[str]:
        return [*self.browsers, self.command_line, self.made_there, self.given]


def test_anothers_new_password_ends_all_that_the_account_was_let_in_by(platform: Platform) -> None:
    for name in ("alice", "bob"):
        users.create(platform, OWNER, name, password=WORD)
    hers, his = (Logins(platform, name) for name in ("alice", "bob"))
    users.set_(platform, OWNER, "alice", email="a@x.example", attributes={"clearance": "phi"})
    assert all(holds(platform, text) for text in hers.all()), "what is no password ends nothing"
    users.set_(platform, OWNER, "alice", password=OTHER)
    assert not any(holds(platform, text) for text in hers.all())
    assert all(holds(platform, text) for text in his.all())
    users.set_(platform, OWNER, "bob", password="")
    assert not any(holds(platform, text) for text in his.all()), "and so does none any more"


@pytest.mark.parametrize("by", ["browser", "command line"])
def test_ones_own_new_password_ends_what_the_old_one_gave_but_that_by_which_one_asks(
    platform: Platform, by: str
) -> None:
    users.create(platform, OWNER, "root-ish", password=WORD)
    teams.add(platform, OWNER, "platform", "root-ish", "owner")
    logins = Logins(platform, "root-ish")
    if by == "browser":
        session = sessions.find(platform, logins.browsers[0], "")
        assert session is not None
        asked, actor = logins.browsers[0], session.actor
    else:
        asked, actor = logins.command_line, tokens.actor_of(platform, logins.command_line, "")
    users.set_(platform, actor, "root-ish", password=OTHER)
    assert [text for text in logins.all() if holds(platform, text)] == [asked, logins.given]


def test_a_password_that_is_changed_while_it_is_checked_lets_nobody_in(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    users.create(platform, OWNER, "alice", password=WORD)
    checked = sessions.passwords.holds

    def and_meanwhile(kept: str | None, password: str) -> bool:
        found = checked(kept, password)
        users.set_(platform, OWNER, "alice", password=OTHER)
        return found

    monkeypatch.setattr(sessions.passwords, "holds", and_meanwhile)
    with pytest.raises(Unauthenticated):
        sessions.by_password(platform, "alice", WORD, "", accounts.themselves)


@pytest.mark.parametrize("gives", ["a session", "a token"])
def test_a_password_that_is_changed_once_it_was_right_ends_what_it_gives(platform: Platform, gives: str) -> None:
    users.create(platform, OWNER, "alice", password=WORD)
    meanwhile = threading.Thread(target=users.set_, args=(platform, OWNER, "alice"), kwargs={"password": OTHER})

    def let_in(platform: Platform, connection: Connection, actor: Actor) -> str:
        meanwhile.start()
        time.sleep(0.3)
        if gives == "a session":
            return sessions.opened(platform, connection, actor)
        return tokens.of_login(platform, connection, actor).token or ""

    given = sessions.by_password(platform, "alice", WORD, "", let_in)
    meanwhile.join()
    assert not holds(platform, given)


def test_what_a_disabled_account_was_let_in_by_has_ended_for_good(platform: Platform) -> None:
    users.create(platform, OWNER, "alice", password=WORD)
    logins = Logins(platform, "alice")
    users.enable(platform, OWNER, "alice", enabled=False)
    users.enable(platform, OWNER, "alice", enabled=True)
    assert not any(holds(platform, text) for text in logins.all())
    assert holds(platform, Logins(platform, "alice").given), "and it may be let in anew"


# --- whom a provider sends ---------------------------------------------------------------------------------------


def claims(subject: str, name: str, groups: tuple[str, ...] = ()) -> Claims:
    return Claims("https://login.example", subject, (name, subject), "", "", False, groups, frozenset({"mfa"}), "")


def test_an_account_that_becomes_a_persons_keeps_nothing_that_others_were_given(platform: Platform) -> None:
    users.create(platform, OWNER, "alice")
    before = token(platform, "alice")
    actor = identities.logged_in(platform, claims("1", "alice"), "", accounts.themselves)
    assert not holds(platform, before)
    kept = [token(platform, "alice"), accounts.session(platform, actor)]
    identities.logged_in(platform, claims("1", "alice"), "", accounts.themselves)
    assert all(holds(platform, text) for text in kept), "his next login ends nothing"


@pytest.mark.parametrize("made_before", [False, True], ids=["new account", "account made beforehand"])
@pytest.mark.parametrize("subjects", [("1", "1"), ("1", "2")], ids=["one person", "two of one name"])
def test_first_logins_at_the_same_time(
    tmp_path: Path, postgres: Any, monkeypatch: pytest.MonkeyPatch, subjects: tuple[str, str], made_before: bool
) -> None:
    """On PostgreSQL, where two control planes may be asked: both have seen that nobody is known yet."""
    url = postgres.create()
    planes = [Platform(home=tmp_path, database=Database(url), drivers={}) for _ in subjects]
    teams.create(planes[0], OWNER, "cardio")
    if made_before:
        users.create(planes[0], OWNER, "alice")
    both, by_subject = threading.Barrier(2, timeout=20), stored.by_subject
    first = threading.local()

    def together(connection: Any, issuer: str, subject: str) -> Any:
        found = by_subject(connection, issuer, subject)
        if not getattr(first, "done", False):
            first.done = True
            both.wait()
        return found

    monkeypatch.setattr(stored, "by_subject", together)
    ended: list[Any] = []

    def log_in(plane: Platform, subject: str) -> None:
        try:
            ended.append(
                identities.logged_in(plane, claims(subject, "alice", ("cardio",)), "", accounts.themselves).name
            )
        except (GroundError, DBAPIError) as error:
            ended.append(error)

    threads = [threading.Thread(target=log_in, args=each) for each in zip(planes, subjects, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    try:
        names = [each for each in ended if isinstance(each, str)]
        refused = [each for each in ended if not isinstance(each, str)]
        assert names == ["alice"] * (2 if subjects == ("1", "1") else 1), ended
        assert all(isinstance(each, Denied) and each.code == "account_taken" for each in refused), ended
        assert [member.user for member in teams.show(planes[0], OWNER, "cardio").members] == ["alice"]
    finally:
        for plane in planes:
            plane.database.close()


# --- tokens make no tokens without end ---------------------------------------------------------------------------


def test_a_program_makes_itself_no_next_token_whatever_its_roles(platform: Platform) -> None:
    for name in ("etl", "other"):
        users.create(platform, OWNER, name, kind="service")
    users.create(platform, OWNER, "alice")
    for roles in ((), ("maintainer", "owner")):
        for role in roles:
            teams.add(platform, OWNER, "platform", "etl", role)
        program = tokens.actor_of(platform, token(platform, "etl"), "")
        for whose in (None, "etl", "other", "alice"):
            with pytest.raises(Denied, match=r"programs-make-no-tokens|no rule permits it"):
                tokens.create(platform, program, whose)
    told = views.listing(platform, OWNER, 1, None)["events"][0]
    assert (told["actor"], told["action"], told["outcome"]) == ("etl", "token.create", "denied")
    teams.add(platform, OWNER, "platform", "alice", "owner")
    assert token(platform, "etl", Actor("alice")).count(".") == 2, "whoever looks after it makes them"


def test_the_work_of_an_attempt_makes_no_tokens(ground: Ground) -> None:
    platform = ground.platform
    users.create(platform, OWNER, "tester")
    teams.add(platform, OWNER, "platform", "tester", "owner")
    run, attempt = working(ground)
    for scope in ("token.create", "token.*", "own", "govern"):
        text = work_tokens.environment(platform, "tester", attempt, [scope])["GROUND_TOKEN"]
        with pytest.raises(Denied, match="the work of an attempt makes no tokens"):
            tokens.create(platform, tokens.actor_of(platform, text, ""), None, [scope])
    told = views.listing(platform, OWNER, 1, None)["events"][0]
    assert (told["actor"], told["action"], told["outcome"]) == ("tester", "token.create", "denied")
    ground.cancel(run)


@pytest.mark.parametrize("how", ["disabled and enabled", "another password by an owner"])
def test_what_ended_for_the_work_of_an_attempt_does_not_come_back(ground: Ground, how: str) -> None:
    platform = ground.platform
    users.create(platform, OWNER, "tester")
    run, attempt = working(ground)
    text = work_tokens.environment(platform, "tester", attempt, ["run.see"])["GROUND_TOKEN"]
    assert holds(platform, text)
    if how == "disabled and enabled":
        users.enable(platform, OWNER, "tester", enabled=False)
        users.enable(platform, OWNER, "tester", enabled=True)
    else:
        users.set_(platform, OWNER, "tester", password=WORD)
    assert not holds(platform, text)
    time.sleep(1.0 - time.time() % 1.0)  # a token's time is in seconds
    assert holds(platform, work_tokens.environment(platform, "tester", attempt, ["run.see"])["GROUND_TOKEN"])
    ground.cancel(run)


def test_the_work_of_somebody_forgotten_does_not_act_for_the_next_of_that_name(ground: Ground) -> None:
    platform = ground.platform
    users.create(platform, OWNER, "tester")
    run, attempt = working(ground)
    text = work_tokens.environment(platform, "tester", attempt, ["run.see"])["GROUND_TOKEN"]
    assert holds(platform, text)
    users.enable(platform, OWNER, "tester", enabled=False)
    erasing.forget(platform, OWNER, "tester")
    users.create(platform, OWNER, "tester")
    assert not holds(platform, text)
    ground.cancel(run)


def test_a_token_with_scopes_makes_none_that_holds_longer(platform: Platform) -> None:
    users.create(platform, OWNER, "alice")
    narrow = tokens.actor_of(platform, token(platform, "alice", scopes=["token.create"], lifetime=3600), "")
    ends = {each.id: each.expires_at for each in tokens.listing(platform, OWNER)}[narrow.credential]
    with pytest.raises(Denied, match="holds longer"):
        tokens.create(platform, narrow, None, ["token.create"], 3700)
    made = tokens.create(platform, narrow, None, ["token.create"])
    assert made.expires_at is not None and ends is not None and made.expires_at <= ends
    assert tokens.create(platform, narrow, None, ["token.create"], 60).expires_at is not None


# --- what is under way -------------------------------------------------------------------------------------------


def test_what_a_disabled_account_has_under_way_goes_on_and_nothing_new_begins(ground: Ground) -> None:
    platform = ground.platform
    with platform.database.write() as connection:
        accounts.project(connection, "trial", "research")
        ana, ben = (accounts.user(connection, name, ("research", "member")) for name in ("ana", "ben"))
    ground.play(a={"delay": 0.5})
    two = f'{STEP}[pipelines.p.steps.b]\ncommand = ["/fake/b"]\nafter = ["a"]\n'
    begun = runs.submit(platform, ana, new_id(), ground.request(two)).id
    ground.until_task(begun, "a", "running")
    quotas.put(platform, OWNER, "project:trial", {"runs": 1}, None)
    hers, his = (runs.submit(platform, actor, new_id(), ground.request(STEP)).id for actor in (ana, ben))
    users.enable(platform, OWNER, "ana", enabled=False)
    shown = ground.show(hers)
    assert (shown.state, [task.state for task in shown.tasks]) == ("cancelled", ["cancelled"])
    assert shown.tasks[0].reason is not None and "was disabled" in shown.tasks[0].reason.message
    assert ground.wait(begun).state == "succeeded", "also its next step"
    assert ground.wait(his).state == "succeeded"
    with pytest.raises(Denied):
        runs.submit(platform, ana, new_id(), ground.request(STEP))


def test_what_was_submitted_is_decided_and_goes_on_when_its_submitter_leaves_the_team(ground: Ground) -> None:
    platform = ground.platform
    with platform.database.write() as connection:
        accounts.project(connection, "trial", "research")
        ana = accounts.user(connection, "ana", ("research", "member"))
    ground.play(a={"delay": 0.3})
    first, waiting = (runs.submit(platform, ana, new_id(), ground.request(STEP)).id for _ in range(2))
    teams.remove(platform, OWNER, "research", "ana")
    assert [ground.wait(run).state for run in (first, waiting)] == ["succeeded"] * 2
    with pytest.raises(Denied):
        runs.submit(platform, ana, new_id(), ground.request(STEP))


MADE: dict[str, Callable[[Platform], object]] = {
    "user": lambda plane: users.create(plane, OWNER, "alice"),
    "team": lambda plane: teams.create(plane, OWNER, "cardio"),
    "project": lambda plane: projects.create(plane, OWNER, "trial", "platform"),
}


@pytest.mark.parametrize("what", MADE)
def test_of_two_who_make_the_same_at_once_one_is_told(
    tmp_path: Path, postgres: Any, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    url = postgres.create()
    planes = [Platform(home=tmp_path, database=Database(url), drivers={}) for _ in range(2)]
    both, change = threading.Barrier(2, timeout=20), gate.change

    def together(*words: Any, **facts: Any) -> Any:
        both.wait()  # each has seen that there is none yet
        return change(*words, **facts)

    monkeypatch.setattr(gate, "change", together)
    ended: list[str] = []

    def make(plane: Platform) -> None:
        try:
            MADE[what](plane)
            ended.append("made")
        except (GroundError, DBAPIError) as error:
            ended.append(type(error).__name__)

    threads = [threading.Thread(target=make, args=[plane]) for plane in planes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for plane in planes:
        plane.database.close()
    assert sorted(ended) == ["Conflict", "made"]
