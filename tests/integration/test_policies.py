"""Policies: a firm's own files, what they decide, and what is told of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from groundplane.drivers.docker import DockerDriver
from groundplane.model.errors import Conflict, Denied, Invalid, NotFound
from groundplane.model.ids import new_id
from groundplane.services import (
    backends,
    callers,
    forecasts,
    policies,
    policy_trials,
    projects,
    runs,
    teams,
    tokens,
    users,
)
from groundplane.services.access import Actor
from groundplane.services.audit import views
from groundplane.store.database import sqlite_url
from tests.integration import accounts
from tests.planes import ME, Ground, Shared

STEP = '[pipelines.p.steps.a]\ncommand = ["/fake/a"]\n'
TWO = f'{STEP}[pipelines.p.steps.b]\ncommand = ["/fake/b"]\nresources = {{ gpus = 3 }}\n'
FEW_GPUS = """@id("few-gpus")
forbid (principal, action == Action::"run.submit", resource)
when { resource.gpus > 2 };
"""


@pytest.fixture
def plane(tmp_path: Path) -> Any:
    """On SQLite alone: what is asked here does not depend on the database."""
    home = tmp_path / "home"
    made = Ground(home, tmp_path / "project", sqlite_url(tmp_path / "ground.db"), with_gpus(Shared(home)).seat())
    yield made.start()
    made.close()


def with_gpus(backend: Shared) -> Shared:
    backend.gpus, backend.gpu_count = None, 8
    return backend


def add(ground: Ground, text: str, name: str = "mine") -> None:
    policies.add(ground.platform, ME, name, text)


def member(ground: Ground, name: str = "ana", role: str = "member", team: str = "research", **words: str) -> Actor:
    with ground.platform.database.write() as connection:
        if not accounts.names(connection):
            accounts.project(connection, "trial", "research")
        return accounts.user(connection, name, (team, role), **words)


def newest(ground: Ground) -> dict[str, Any]:
    return views.listing(ground.platform, ME, 1, None)["events"][0]


# --- what is decided ----------------------------------------------------------------------------------------------


def test_a_rule_keeps_a_step_from_starting_and_is_named_everywhere(ground: Ground) -> None:
    assert ground.backend
    with_gpus(ground.backend)
    add(ground, FEW_GPUS)
    plan = forecasts.plan(ground.platform, ME, ground.request(TWO))
    assert [(step.decision, step.rule) for step in plan.steps] == [("allow", "local-owner"), ("deny", "few-gpus")]
    assert (plan.decision, plan.rule) == ("deny", "few-gpus")
    uid = new_id()
    with pytest.raises(Denied, match=r"step 'b' of project 'trial'.*'few-gpus'") as denied:
        ground.submit(TWO, uid=uid)
    assert denied.value.exit_code == 4
    assert runs.listing(ground.platform, ME, None, 10, None).runs == ()
    event = newest(ground)
    assert (event["action"], event["object"], event["outcome"]) == ("run.submit", uid, "denied")
    assert (event["details"]["rule"], event["details"]["step"], event["details"]["project"]) == (
        "few-gpus",
        "b",
        "trial",
    )
    for ref in (uid, str(event["id"])):
        found = policies.explain(ground.platform, ME, ref)
        assert found["outcome"] == "denied"
        assert [(each["steps"], each["rule"], each["outcome"]) for each in found["steps"]] == [
            (["a"], "local-owner", "allowed"),
            (["b"], "few-gpus", "denied"),
        ]
        assert found["steps"][1]["resource"]["gpus"] == 3
    policies.remove(ground.platform, ME, "mine")
    assert ground.run(TWO, uid=uid).state == "succeeded"
    assert policies.explain(ground.platform, ME, uid)["outcome"] == "allowed"
    found = policies.explain(ground.platform, ME, str(event["id"]))
    assert (found["outcome"], found["steps"][0]["rule"]) == ("denied", "few-gpus"), "what was decided then"


def test_one_decision_for_all_tasks_of_a_fan_out(plane: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    add(plane, FEW_GPUS)
    asked: list[Any] = []
    rules = plane.platform.in_force.alone(list)
    before = rules.decide
    monkeypatch.setattr(rules, "decide", lambda *of: asked.append(of[1]) or before(*of))
    items = ", ".join(f'"{n}"' for n in range(40))
    uid = plane.submit(f"{STEP}for_each = {{ n = [{items}] }}\n")
    assert plane.wait(uid).task_count == 40
    assert asked.count("run.submit") == 1


def test_a_launch_has_all_that_policies_may_speak_of(plane: Ground, tmp_path: Path) -> None:
    with plane.platform.database.write() as connection:
        accounts.project(connection, "trial", "research", "phi")
    backends.add(
        plane.platform, ME, "far", "docker", {"host": "tcp://127.0.0.1:9"}, region="eu-central-1", encrypted=True
    )
    shown = backends.check(plane.platform, ME, "far")
    assert (shown.region, shown.encrypted) == ("eu-central-1", True)
    with pytest.raises(Conflict):
        backends.add(plane.platform, ME, "far", "docker", {"host": "tcp://127.0.0.1:9"}, region="elsewhere")
    assert isinstance(plane.platform.drivers["far"], DockerDriver)
    spec = (
        '[pipelines.p.steps.a]\ncommand = ["/fake/a"]\non = "far"\nenvironment = "e"\nresources = { cpus = 1.5 }\n'
        '[environments.e]\nimage = "registry.example/python:3.13"\n'
    )
    forbid = '@id("all-of-it") forbid (principal, action == Action::"run.submit", resource) when { '
    said = (
        'resource.team == "research" && resource.project == "trial" && resource.labels == ["phi"] && '
        'resource.backend == "far" && resource.region == "eu-central-1" && resource.encrypted && '
        'resource.image == "registry.example/python:3.13" && resource.gpus == 0 && resource.cpus == 2 && '
        'resource.cost == decimal("0.0") && resource.licence == "" };'
    )
    add(plane, forbid + said)
    plan = forecasts.plan(plane.platform, ME, plane.request(spec))
    assert (plan.steps[0].decision, plan.steps[0].rule) == ("deny", "all-of-it")


def test_what_a_person_may_depends_on_training_clearance_and_login(plane: Ground) -> None:
    add(
        plane,
        """@id("trained") forbid (principal, action == Action::"run.submit", resource)
           unless { principal.training.contains("hipaa") };
           @id("cleared") forbid (principal, action == Action::"run.submit", resource)
           unless { principal.clearance.containsAll(resource.labels) };
           @id("two-factors") forbid (principal, action == Action::"run.submit", resource)
           unless { principal.methods.contains("mfa") || principal.level == "high" };
           @id("ours") forbid (principal, action == Action::"run.submit", resource)
           unless { principal.hasTag("site") && principal.getTag("site") == "here" };""",
    )
    with plane.platform.database.write() as connection:
        accounts.project(connection, "trial", "research", "phi")
        made = {
            "ok": {"training": "gcp, hipaa@2999-01-01", "clearance": "phi pan", "site": "here"},
            "late": {"training": "hipaa@2020-01-01", "clearance": "phi", "site": "here"},
            "blunt": {"training": "hipaa", "site": "here"},
            "away": {"training": "hipaa", "clearance": "phi"},
        }
        for name, words in made.items():
            accounts.user(connection, name, ("research", "member"), **words)

    def rule(name: str, **login: Any) -> str:
        plan = forecasts.plan(plane.platform, Actor(name, "user", **login), plane.request(STEP))
        return plan.rule

    second = {"methods": frozenset({"pwd", "mfa"})}
    assert rule("ok", **second) == "role-member"
    assert rule("ok", level="high") == "role-member"
    assert rule("ok") == "two-factors"
    assert rule("late", **second) == "trained"
    assert rule("blunt", **second) == "cleared"
    assert rule("away", **second) == "ours"


def test_a_token_does_only_what_its_scopes_say(plane: Ground) -> None:
    member(plane)
    uid = plane.submit(STEP)
    token = Actor("ana", "user", scopes=frozenset({"run.see", "log.*"}))
    assert runs.find(plane.platform, token, uid, "log.read") == uid
    for action in ("run.cancel", "artifact.read"):
        with pytest.raises(Denied, match="'token-scope'"):
            if action == "run.cancel":
                runs.cancel(plane.platform, token, uid)
            else:
                runs.find(plane.platform, token, uid, action)
    own = Actor("tester", "owner", scopes=frozenset({"run.see"}))
    with pytest.raises(Denied, match="'token-scope'"):
        runs.cancel(plane.platform, own, uid)


def test_a_disabled_account_may_nothing(plane: Ground) -> None:
    ana = member(plane)
    uid = plane.submit(STEP)
    assert runs.show(plane.platform, ana, uid).id == uid
    with plane.platform.database.write() as connection:
        accounts.disable(connection, "ana")
    with pytest.raises(NotFound):
        runs.show(plane.platform, ana, uid)


def test_an_answer_that_is_not_clean_is_a_denial(plane: Ground) -> None:
    """A rule that fails while it is evaluated would be skipped by Cedar."""
    add(
        plane,
        '@id("breaks") forbid (principal, action == Action::"run.submit", resource) '
        "when { resource.cpus + 9223372036854775807 > 0 };",
    )
    with pytest.raises(Denied, match="no clean answer"):
        plane.submit(STEP)


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_wrong_file_is_told_by_line_and_word_and_is_not_in_force(plane: Ground) -> None:
    wrong = (
        FEW_GPUS
        + '\n@id("b")\nforbid (principal, action == Action::"run.submit", resource)\nwhen {\n  resource.encryptd\n};\n'
    )
    with pytest.raises(Invalid, match=r"mine\.cedar:8: .*`encryptd`.*`encrypted`"):
        add(plane, wrong)
    assert [file["name"] for file in policies.listing(plane.platform, ME)] == ["roles"]
    plane.submit(TWO)


def test_each_mistake_is_told_in_its_own_line_by_where_it_is(plane: Ground) -> None:
    wrong = """// a comment
@id("owner")
@note("resource.gpus")
forbid (principal, action == Action::"run.submit", resource)
when {
  resource.team == "a && b"  // "
  && (resource.cpus > 3 ||
      !(resource.gpus > "3"))
  && resource.gpus > "3"
  && resource.owner == "ana"
}
unless { principal in Team::"bio" };
@id("b") forbid (principal, action == Action::"run.submti", resource)
when { resource.gpus > 3 };
@id("c") forbid (principal, action == Action::"run.see", resource)
when { true && resource.gpus > 3 };
"""
    with pytest.raises(Invalid) as refused:
        add(plane, wrong)
    summary, *lines = refused.value.message.split("\n")
    assert summary == "6 mistakes in mine.cedar"
    long = 'unexpected type: expected Long but saw String: resource.gpus > "3"'
    on_launch, on_object = "attribute `owner` on entity type `Launch`", "attribute `gpus` on entity type `Object`"
    types = "there are Action, Launch, Object, User; teams, roles and labels are text"
    other = "launches do not have it: write `resource is Object && …`, or name other actions"
    launches = 'only launches have it: write `action == Action::"run.submit"`'
    assert lines == [
        f"mine.cedar:8: {long}",
        f"mine.cedar:9: {long}",
        f"mine.cedar:10: {on_launch} not found ({other})",
        f"mine.cedar:12: unrecognized entity type `Team`: {types}",
        'mine.cedar:13: unrecognized action `Action::"run.submti"`: did you mean `run.submit`?',
        f"mine.cedar:16: {on_object} not found ({launches})",
    ]


@pytest.mark.parametrize("name", ["", "a b", "../x", "x" * 101, "é"])
def test_a_wrong_name(plane: Ground, name: str) -> None:
    with pytest.raises(Invalid):
        add(plane, FEW_GPUS, name)


def test_nobody_can_lock_everybody_out(plane: Ground) -> None:
    with pytest.raises(Conflict, match="nobody could change policies"):
        add(plane, "forbid (principal, action, resource);")
    with pytest.raises(Conflict, match="ships"):
        add(plane, FEW_GPUS, "roles")
    with pytest.raises(NotFound, match="no policy file 'mine'"):
        policies.remove(plane.platform, ME, "mine")


def test_files_are_listed_with_their_rules_and_replaced_by_name(plane: Ground) -> None:
    add(plane, FEW_GPUS)
    add(plane, FEW_GPUS.replace('@id("few-gpus")\n', "// no name\n"))
    ships, mine = policies.listing(plane.platform, ME)
    assert "role-member" in [rule["name"] for rule in ships["rules"]]
    assert (mine["rules"], mine["actor"]) == ([{"name": "mine.cedar:2", "effect": "forbid"}], "tester")
    with pytest.raises(Denied, match=r"'mine\.cedar:2'"):
        plane.submit(TWO)


def test_a_change_holds_at_once_on_every_control_plane(tmp_path: Path, postgres: Any) -> None:
    url, backend = postgres.create(), with_gpus(Shared(tmp_path / "home"))
    here, there = (Ground(tmp_path / "home", tmp_path / "project", url, backend.seat()).start() for _ in range(2))
    try:
        assert here.run(TWO).state == there.run(TWO).state == "succeeded"
        add(here, FEW_GPUS)
        for ground in (here, there):
            with pytest.raises(Denied, match="'few-gpus'"):
                ground.submit(TWO)
        policies.remove(there.platform, ME, "mine")
        for ground in (here, there):
            assert ground.run(TWO).state == "succeeded"
    finally:
        here.close()
        there.close()


# --- tried ----------------------------------------------------------------------------------------------------------


def test_last_month_is_decided_again(plane: Ground) -> None:
    ana = member(plane)
    small, large = plane.run(STEP), plane.run(TWO)
    hers = runs.submit(plane.platform, ana, new_id(), plane.request(TWO))
    found = policy_trials.simulate(plane.platform, ME, "mine", FEW_GPUS)
    assert found["run_ids"] == [hers.id, large.id] and found["runs"] == 3
    assert small.id not in found["run_ids"]
    assert found["denied"][0] == {
        "run": hers.id, "step": "b", "project": "trial", "actor": "ana", "rule": "few-gpus",
        "why": "rule 'few-gpus' forbids it",
    }  # fmt: skip
    only = FEW_GPUS.replace("resource.gpus > 2", 'principal.name == "ana"')
    assert policy_trials.simulate(plane.platform, ME, "mine", only)["run_ids"] == [hers.id]
    plane.submit(TWO)  # nothing is in force by it
    with pytest.raises(Denied):
        policy_trials.simulate(plane.platform, ana, "mine", FEW_GPUS)


CASE = {"principal": {"roles": ["member"]}, "action": "run.submit", "resource": {"gpus": 3}}


@pytest.mark.parametrize(
    ("case", "ok"),
    [
        ({**CASE, "expect": "deny"}, True),
        ({**CASE, "expect": "deny", "rule": "few-gpus"}, True),
        ({**CASE, "expect": "deny", "rule": "other"}, False),
        ({**CASE, "expect": "allow"}, False),
        ({**CASE, "expect": "allow", "resource": {"gpus": 2, "labels": ["phi"], "encrypted": True}}, True),
        ({"action": "backend.add", "expect": "deny"}, True),
        (
            {"action": "backend.add", "expect": "allow", "principal": {"roles": "operator"}, "rule": "role-operator"},
            True,
        ),
    ],
)
def test_cases(plane: Ground, case: dict[str, Any], ok: bool) -> None:
    files = [{"name": "mine", "text": FEW_GPUS}]
    found = policy_trials.test(plane.platform, ME, [case], files)
    assert (found["passed"], found["failed"]) == ((1, 0) if ok else (0, 1))


@pytest.mark.parametrize(
    ("case", "named"),
    [
        ({"action": "run.submt", "expect": "deny"}, "run.submt"),
        ({"action": "run.submit", "expect": "maybe"}, "maybe"),
        ({"action": "run.submit", "expect": "deny", "resource": {"gpuz": 1}}, "gpuz"),
        ({"action": "run.submit", "expect": "deny", "resource": {"gpus": "1"}}, "gpus"),
        ({"action": "run.submit", "expect": "deny", "resource": {"encrypted": 1}}, "encrypted"),
        ({"action": "run.submit", "expect": "deny", "resource": 7}, "resource"),
        ({"action": "run.submit", "expect": "deny", "wanted": 7}, "wanted"),
        ({"action": ["x"], "expect": "deny"}, "x"),
    ],
)
def test_a_wrong_case_is_named(plane: Ground, case: dict[str, Any], named: str) -> None:
    with pytest.raises(Invalid, match=named):
        policy_trials.test(plane.platform, ME, [case], None)


def test_what_somebody_could_do_is_explained(plane: Ground) -> None:
    member(plane, "ana", "viewer")
    member(plane, "audrey", "auditor")
    explain: Callable[..., dict[str, Any]] = policies.explain_for
    found = explain(plane.platform, ME, "ana", "run.submit", "trial")
    assert (found["outcome"], found["rule"]) == ("denied", "")
    assert found["principal"]["roles"] == ["viewer"] and found["resource"]["team"] == "research"
    found = explain(plane.platform, ME, "ana", "run.see", plane.run(STEP).id)
    assert (found["outcome"], found["rule"]) == ("allowed", "role-viewer")
    found = explain(plane.platform, Actor("audrey", "user"), "ana", "run.submit", "trial")
    assert found["outcome"] == "denied"
    with pytest.raises(NotFound, match="no user 'bob'"):
        explain(plane.platform, ME, "bob", "run.submit", "trial")
    with pytest.raises(Denied):
        explain(plane.platform, Actor("ana", "user"), "audrey", "run.submit", "trial")
    with pytest.raises(Invalid, match="nothing"):
        explain(plane.platform, ME, "ana", "run.nothing", "trial")
    json.dumps(found)


def test_a_folder_whose_name_is_no_utf8_is_a_project_as_any_other(plane: Ground) -> None:
    plane.project = plane.project / "caf\udce9"
    plane.write({"a.sh": "#!/bin/sh\n"})
    found = forecasts.plan(plane.platform, ME, plane.request(script="a.sh"))
    assert (found.project, found.decision) == ("caf\udce9", "allow")
    for ref in ("\0", "\udce9", "caf\udce9"):
        with pytest.raises(NotFound):
            policies.explain(plane.platform, ME, ref)
        with pytest.raises(NotFound):
            runs.show(plane.platform, ME, ref)
        with pytest.raises(Invalid):
            plane.submit(STEP, uid=ref)


# --- what is told of others -----------------------------------------------------------------------------------------


def of_several_teams(ground: Ground) -> tuple[Actor, Actor, Actor]:
    """Kim, who owns team research; Max of that team, who is in two more and about whom much is known; Otto, who owns
    the platform."""
    with ground.platform.database.write() as connection:
        accounts.team(connection, "lab", "research")
        accounts.project(connection, "trial", "lab")
        accounts.project(connection, "ledger", "finance")
        kim = accounts.user(connection, "kim", ("research", "owner"))
        max_ = accounts.user(
            connection, "max", ("research", "member"), ("lab", "viewer"), ("finance", "auditor"),
            training="hipaa", clearance="phi", site="north",
        )  # fmt: skip
        otto = accounts.user(connection, "otto", ("platform", "owner"))
    return kim, replace(max_, methods=frozenset({"mfa"}), level="high"), otto


def test_a_teams_owner_is_told_of_a_mate_what_counts_there_and_nothing_else(plane: Ground) -> None:
    kim, max_, otto = of_several_teams(plane)
    run = runs.submit(plane.platform, max_, new_id(), plane.request(STEP)).id
    ways: list[Callable[[Actor], dict[str, Any]]] = [
        lambda who: policies.explain_for(plane.platform, who, "max", "run.submit", "trial")["principal"],
        lambda who: policies.explain(plane.platform, who, run)["principal"],
    ]
    for way in ways:
        told = way(kim)
        assert (told["name"], told["roles"], told["teams"]) == ("max", ["member", "viewer"], ["lab", "research"])
        assert not any(told[name] for name in ("training", "clearance", "attributes", "methods", "level"))
        assert "finance" not in json.dumps(told) and "hipaa" not in json.dumps(told)
        told = way(otto)
        assert told["teams"] == ["finance", "lab", "research"] and told["clearance"] == ["phi"]
        assert [list(each) for each in told["attributes"]] == [["site", "north"]]
    assert policies.explain(plane.platform, max_, run)["principal"]["training"] == ["hipaa"], "one's own is one's own"


def test_what_one_may_not_see_is_explained_as_what_is_not_there(plane: Ground) -> None:
    kim, max_, _ = of_several_teams(plane)
    hers = runs.submit(plane.platform, max_, new_id(), plane.request(STEP)).id
    with plane.platform.database.write() as connection:
        fay = accounts.user(connection, "fay", ("finance", "owner"))
    asked = {
        "run.submit": ("trial", "nothing"),
        "project.see": ("trial", "nothing"),
        "team.see": ("research", "nothing"),
        "run.see": (hers, new_id()),
    }
    for user in ("max", "nobody"):
        for action, names in asked.items():
            said = []
            for name in names:
                with pytest.raises((Denied, NotFound)) as refused:
                    policies.explain_for(plane.platform, fay, user, action, name)
                event = newest(plane)
                event = {key: event[key] for key in ("actor", "action", "object", "outcome", "details")}
                said.append((refused.value.message.replace(name, "X"), refused.value.code, event))
            assert said[0] == said[1], action
    policies.add(
        plane.platform, ME, "hidden", '@id("hidden") forbid (principal, action == Action::"project.see", resource) '
        'when { principal.name == "kim" && resource.project == "trial" };',
    )  # fmt: skip
    said = []
    for name in ("trial", "nothing"):
        with pytest.raises(Denied) as refused:
            policies.explain_for(plane.platform, kim, "max", "run.submit", name)
        said.append(refused.value.message)
    assert said[0] == said[1], "also where he may explain, and it is hidden from him by a rule"


def test_lists_tell_a_teams_owner_of_his_teams_and_himself_alone(plane: Ground) -> None:
    kim, _, otto = of_several_teams(plane)
    platform = plane.platform
    for name in ("kim", "max"):
        tokens.create(platform, ME, name)
    with pytest.raises(Denied):
        users.listing(platform, kim)
    assert [user.name for user in users.listing(platform, otto)] == ["kim", "max", "otto"]
    assert {token.user for token in tokens.listing(platform, kim)} == {"kim"}
    assert {project.name for project in projects.listing(platform, kim)} == {"trial"}
    seen = teams.listing(platform, kim)
    assert [team.name for team in seen] == ["lab", "research"]
    assert {field.name for field in fields(seen[0].members[0])} == {"user", "role", "origin"}
    made = teams.add(platform, kim, "lab", "otto", "viewer")
    assert {member.user for member in made.members} == {"max", "otto"} and "hipaa" not in str(made)


# --- what is asked before a launch ----------------------------------------------------------------------------------

TO_BOB = '@id("bob-too") permit (principal, action in [%s], resource) when { principal.name == "bob" };'


def test_a_launch_is_explained_as_it_is_answered(plane: Ground) -> None:
    member(plane)
    bob = member(plane, "bob", "member", "elsewhere")

    def told() -> tuple[str, str, str]:
        found = policies.explain_for(plane.platform, ME, "bob", "run.submit", "trial")
        return found["outcome"], found["asked"], found["rule"]

    def answered(uid: str) -> str:
        try:
            return runs.submit(plane.platform, bob, uid, plane.request(STEP)).actor
        except Denied as denied:
            return denied.message

    first, second = new_id(), new_id()
    assert (told(), answered(first)) == (("denied", "project.see", ""), "there is no project 'trial' that you may use")
    add(plane, TO_BOB % 'Action::"run.submit"')
    assert (told(), answered(second)) == (("denied", "project.see", ""), "there is no project 'trial' that you may use")
    event = newest(plane)
    for ref in (second, str(event["id"])):
        found = policies.explain(plane.platform, ME, ref)
        [step] = found["steps"]
        assert (found["outcome"], found["actor"], step["outcome"]) == ("denied", "bob", "denied")
        assert (step["action"], step["object"], step["rule"]) == ("project.see", "trial", "")
    assert "research" not in json.dumps(policies.explain(plane.platform, bob, second)), "whose it is stays hidden"
    add(plane, TO_BOB % 'Action::"run.submit", Action::"project.see"')
    assert (told(), answered(second)) == (("allowed", "run.submit", "bob-too"), "bob")
    assert policies.explain(plane.platform, ME, str(event["id"]))["outcome"] == "denied", "it was, then"


def test_who_may_send_no_folder_could_launch_nothing(plane: Ground) -> None:
    member(plane)
    with plane.platform.database.write() as connection:
        accounts.user(connection, "kim")
    add(plane, '@id("all") permit (principal, action in [Action::"run.submit", Action::"project.see"], resource);')
    found = policies.explain_for(plane.platform, ME, "kim", "run.submit", "trial")
    assert (found["outcome"], found["asked"]) == ("denied", "folder.send")


def test_what_is_done_to_a_run_needs_that_it_is_seen(plane: Ground) -> None:
    member(plane)
    member(plane, "bob", "member", "elsewhere")
    add(plane, TO_BOB % 'Action::"log.read"')
    found = policies.explain_for(plane.platform, ME, "bob", "log.read", plane.run(STEP).id)
    assert (found["outcome"], found["asked"]) == ("denied", "run.see")


def test_whose_role_counts_elsewhere_is_told_where_it_would(plane: Ground) -> None:
    aud = member(plane, "aud", "auditor")
    member(plane, "max", "member")
    at = "this takes auditor in team `platform`: ground teams add platform aud --role auditor"
    with pytest.raises(Denied) as refused:
        views.listing(plane.platform, aud, 1, None)
    assert at in refused.value.hint
    with pytest.raises(Denied) as refused:
        users.create(plane.platform, aud, "eve")
    assert refused.value.hint == "`ground whoami` shows your roles", "an auditor of the platform may not either"
    explain = policies.explain_for
    assert at in explain(plane.platform, ME, "aud", "audit.read", "log")["hint"]
    assert explain(plane.platform, ME, "max", "audit.read", "log")["hint"] == ""


# --- tokens with scopes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scopes", [{"run.submit"}, {"run.submit", "team.see"}, {"work"}])
def test_who_may_launch_may_follow_and_end_his_own_runs_alone(plane: Ground, scopes: set[str]) -> None:
    member(plane)
    max_ = member(plane, "max", "member")
    token = Actor("ana", "user", scopes=frozenset(scopes))
    others = [runs.submit(plane.platform, max_, new_id(), plane.request(STEP)).id, plane.submit(STEP)]
    callers.admit(plane.platform, token, "trial")
    plane.play(a={"delay": 60})
    own = runs.submit(plane.platform, token, new_id(), plane.request(STEP)).id
    more = runs.submit(plane.platform, max_, new_id(), plane.request(STEP)).id
    for action in ("run.see", "log.read", "run.cancel"):
        assert runs.find(plane.platform, token, own, action) == own
    assert runs.find(plane.platform, token, "latest") == own
    assert [run.id for run in runs.listing(plane.platform, token, None, 1, None).runs] == [own]
    assert runs.listing(plane.platform, token, None, 1, None).next is None
    assert {run.id for run in runs.listing(plane.platform, Actor("ana"), None, 9, None).runs} == {*others, own, more}
    for other in (*others, more):
        with pytest.raises(NotFound):
            runs.show(plane.platform, token, other)
        with pytest.raises(NotFound):
            runs.cancel(plane.platform, token, other)
    with pytest.raises(Denied, match="'token-scope'"):
        runs.find(plane.platform, token, own, "artifact.read")
    shown = runs.document(plane.platform, own, token)
    assert shown.parameters == {} and shown.metrics == {} and not shown.tasks[0].outputs
    for each in (own, more):
        runs.cancel(plane.platform, ME, each)


def test_a_scope_of_the_owners_own_token_is_as_narrow(plane: Ground) -> None:
    ana = member(plane)
    other = runs.submit(plane.platform, ana, new_id(), plane.request(STEP)).id
    own = plane.submit(STEP)
    token = Actor("tester", "owner", scopes=frozenset({"run.submit"}))
    assert runs.find(plane.platform, token, "latest", "log.read") == own
    with pytest.raises(NotFound):
        runs.find(plane.platform, token, other)


def test_a_token_gives_on_what_its_scopes_cover_and_no_more(plane: Ground) -> None:
    member(plane)

    def gives(scopes: set[str], wanted: str) -> bool:
        actor = Actor("ana", "user", scopes=frozenset({*scopes, "token.create"}))
        try:
            tokens.create(plane.platform, actor, scopes=[wanted])
        except Denied:
            return False
        return True

    assert gives({"run.*"}, "run.submit") and gives({"run.*"}, "run.see") and gives({"work"}, "run.submit")
    assert gives({"run.submit"}, "folder.send") and gives({"see"}, "run.see")
    assert not gives({"run.submit"}, "run.see") and not gives({"run.submit"}, "run.*"), "others' runs are not covered"
    assert not gives({"run.submit"}, "log.read") and not gives({"run.*"}, "see")
