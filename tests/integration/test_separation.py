"""What somebody of another team tries: to see, guess or infer runs that are not his."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from groundplane.model.ids import new_id
from groundplane.services import licences, policies, runs
from groundplane.services.access import Actor
from groundplane.services.audit import views
from groundplane.store.database import sqlite_url
from tests.integration import accounts
from tests.integration.accounts import OpenApi
from tests.planes import ME, Ground, Shared

STEP = '[pipelines.p.steps.a]\ncommand = ["/fake/a"]\noutputs = ["out.csv"]\n'
MINE = f'[project]\nname = "trial"\n[pipelines.p]\n{STEP}'
THEIRS = f'[project]\nname = "ledger"\n[pipelines.p]\n{STEP}'
NOWHERE = f'[project]\nname = "nowhere"\n[pipelines.p]\n{STEP}'


class World:
    """Ana's run of project `trial` (team research), Fay of team finance who has `ledger`, Olga who operates all."""

    def __init__(self, ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ground = ground
        self.api = OpenApi(ground.platform, monkeypatch)
        with ground.platform.database.write() as connection:
            accounts.project(connection, "trial", "research")
            accounts.project(connection, "ledger", "finance")
            accounts.team(connection, "lab", "research")
            accounts.project(connection, "assay", "lab")
            self.ana = accounts.user(connection, "ana", ("research", "member"))
            self.lars = accounts.user(connection, "lars", ("lab", "member"))
            self.fay = accounts.user(connection, "fay", ("finance", "owner"))
            self.olga = accounts.user(connection, "olga", ("platform", "operator"))
        ground.play(a={"outputs": {"out.csv": "secret\n1\n"}, "stdout": "secret\n"})

    def request(self, spec: str) -> dict[str, Any]:
        folder = str(self.ground.project)
        return {"target": "p", "folder": folder, "context": {"folder": folder, "variables": {}}, "spec": spec}

    def start(self, actor: Actor, spec: str = MINE, uid: str = "") -> str:
        answer = self.api.of(actor, "PUT", f"/runs/{uid or new_id()}", self.request(spec))
        assert answer.status == 201, answer.body
        found: str = answer.json()["id"]
        self.ground.wait(found)
        return found


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    home = tmp_path / "home"
    ground = Ground(home, tmp_path / "project", sqlite_url(tmp_path / "ground.db"), Shared(home).seat()).start()
    yield World(ground, monkeypatch)
    ground.close()


WAYS = ("", "/follow", "/logs", "/logs?task=a", "/artifacts", "/artifacts/a/out.csv", "/artifacts/a/none")


@pytest.mark.parametrize("way", WAYS)
def test_an_id_or_its_beginning_tells_nothing(world: World, way: str) -> None:
    run, absent = world.start(world.ana), new_id()
    for ref, other in ((run, absent), (run[:20], absent[:20])):
        there = world.api.of(world.fay, "GET", f"/runs/{ref}{way}")
        nowhere = world.api.of(world.fay, "GET", f"/runs/{other}{way}")
        assert there.status == nowhere.status == 404
        assert there.json()["detail"].replace(ref, "X") == nowhere.json()["detail"].replace(other, "X")
        assert {**there.json(), "detail": ""} == {**nowhere.json(), "detail": ""}
    assert world.api.of(world.ana, "GET", f"/runs/{run}{way}").status == (404 if way.endswith("none") else 200)


@pytest.mark.parametrize("way", ["/cancel", "/reruns"])
def test_nor_does_a_change(world: World, way: str) -> None:
    run, absent = world.start(world.ana), new_id()
    body = {"id": new_id(), "context": {"folder": "/", "variables": {}}} if way == "/reruns" else None
    answers = [world.api.of(world.fay, "POST", f"/runs/{ref}{way}", body) for ref in (run, absent)]
    assert [answer.status for answer in answers] == [404, 404]
    assert answers[0].body.replace(run.encode(), b"") == answers[1].body.replace(absent.encode(), b"")


def test_latest_and_lists_know_only_what_one_may_see(world: World) -> None:
    hers, his = world.start(world.fay, THEIRS), [world.start(world.ana) for _ in range(3)]
    assert world.api.of(world.fay, "GET", "/runs/latest").json()["id"] == hers
    assert world.api.of(world.ana, "GET", "/runs/latest").json()["id"] == his[-1]
    assert world.api.of(world.lars, "GET", "/runs/latest").status == 404
    page = world.api.of(world.fay, "GET", "/runs?limit=1").json()
    assert ([run["id"] for run in page["runs"]], page["next"]) == ([hers], None), "and no page more"
    assert [run["id"] for run in world.api.of(world.olga, "GET", "/runs").json()["runs"]] == [*his[::-1], hers]
    assert world.api.of(world.lars, "GET", "/status").json()["open_runs"] == 0


def test_a_role_holds_below_its_team_and_not_above(world: World) -> None:
    spec = MINE.replace("trial", "assay")
    below = world.start(world.lars, spec)
    assert world.api.of(world.ana, "GET", f"/runs/{below}").status == 200
    above = world.start(world.ana)
    assert world.api.of(world.lars, "GET", f"/runs/{above}").status == 404


def test_pages_go_on_past_what_is_not_seen(world: World) -> None:
    found = [world.start(world.ana) for _ in range(2)]
    for _ in range(2):
        world.start(world.fay, THEIRS)
    found += [world.start(world.ana)]
    policies.add(
        world.ground.platform, ME, "own",
        '@id("own-runs") forbid (principal, action == Action::"run.see", resource) '
        'when { principal.name == "ana" && resource.owner != "ana" };',
    )  # fmt: skip
    with world.ground.platform.database.write() as connection:
        ben = accounts.user(connection, "ben", ("research", "member"))
    world.start(ben)
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = runs.listing(world.ground.platform, world.ana, None, 1, cursor or None)
        seen += [run.id for run in page.runs]
        cursor = page.next
    assert seen == found[::-1]
    for theirs in (world.start(world.fay, THEIRS), "01800000-0000-7000-8000-000000000000", "1", ""):
        answer = world.api.of(world.ana, "GET", f"/runs?limit=1&cursor={theirs}")
        assert (answer.status, answer.json()["code"]) == (422, "invalid"), "others' and nobody's alike"
        assert answer.json()["detail"] == f"{theirs!r} is no cursor"
    assert world.api.of(world.ana, "GET", "/runs/latest").json()["id"] == found[-1]


def test_an_id_that_somebody_has_taken(world: World) -> None:
    run = world.start(world.ana)
    assert world.api.of(world.ana, "PUT", f"/runs/{run}", world.request(MINE)).json()["id"] == run
    old = "01800000-0000-7000-8000-000000000000"
    for uid in (run, old, "x"):
        answer = world.api.of(world.fay, "PUT", f"/runs/{uid}", world.request(THEIRS))
        assert (answer.status, answer.json()["code"]) == (422, "invalid")
        assert answer.json()["detail"] == f"{uid!r} is no id for a new run"


def test_a_project_that_one_may_not_see_is_one_that_is_not_there(world: World) -> None:
    for actor, seen in ((world.fay, MINE), (world.ana, THEIRS)):
        for method, path in (("PUT", f"/runs/{new_id()}"), ("POST", "/plans")):
            answers = [world.api.of(actor, method, path, world.request(spec)) for spec in (seen, NOWHERE)]
            assert [answer.status for answer in answers] == [403, 403]
            details = [answer.json()["detail"].replace(name, "X") for answer, name in
                       zip(answers, ("trial" if seen is MINE else "ledger", "nowhere"), strict=True)]  # fmt: skip
            assert details[0] == details[1] == "there is no project 'X' that you may use"
    for action in ("lock", "list", "show", "build"):
        bodies = [world.request(spec + '[environments.e]\nimage = "x"\n') for spec in (MINE, NOWHERE)]
        for body in bodies:
            del body["target"]
        answers = [world.api.of(world.fay, "POST", f"/environments/{action}", body) for body in bodies]
        assert [answer.status for answer in answers] == [403, 403]
        texts = [answer.json()["detail"] for answer in answers]
        assert texts[0].replace("trial", "X") == texts[1].replace("nowhere", "X")


def test_attempts_are_events_whether_it_is_there_or_not(world: World) -> None:
    run, absent = world.start(world.ana), new_id()
    for ref in (run, absent):
        world.api.of(world.fay, "GET", f"/runs/{ref}")
    told = views.listing(world.ground.platform, ME, 2, None)["events"]
    assert [(e["actor"], e["action"], e["object"], e["outcome"]) for e in told] == [
        ("fay", "run.see", absent, "denied"), ("fay", "run.see", run, "denied"),
    ]  # fmt: skip
    assert told[0]["details"] == told[1]["details"]


def test_errors_take_as_long_for_what_is_there_as_for_what_is_not(world: World) -> None:
    run = world.start(world.ana)
    took: dict[bool, list[float]] = {True: [], False: []}
    for number in range(120):
        there = bool(number % 2)
        ref = run if there else new_id()
        started = time.perf_counter()
        world.api.of(world.fay, "GET", f"/runs/{ref}")
        took[there].append(time.perf_counter() - started)
    one, other = (statistics.median(took[key][10:]) for key in (True, False))
    assert max(one, other) < 1.5 * min(one, other), (one, other)


def test_an_operator_sees_that_it_runs_and_no_data(world: World) -> None:
    run = world.start(world.ana)
    shown = world.api.of(world.olga, "GET", f"/runs/{run}").json()
    assert shown["state"] == "succeeded" and shown["tasks"][0]["outputs"] == []
    assert world.api.of(world.ana, "GET", f"/runs/{run}").json()["tasks"][0]["outputs"]
    for way in WAYS[1:]:
        answer = world.api.of(world.olga, "GET", f"/runs/{run}{way}")
        assert (answer.status, answer.json()["code"]) == (403, "denied")
    assert world.api.of(world.olga, "GET", f"/runs/{run}/follow?logs=false").status == 200


def test_the_same_work_of_another_team_is_not_reused(world: World) -> None:
    world.start(world.ana)
    again = world.api.of(world.ana, "POST", "/plans", world.request(MINE)).json()
    assert again["steps"][0]["reuse"] == "would be reused"
    other = world.api.of(world.fay, "POST", "/plans", world.request(THEIRS)).json()
    assert other["steps"][0]["reuse"] == "no earlier run"
    mine = world.start(world.fay, THEIRS)
    assert world.api.of(world.fay, "GET", f"/runs/{mine}").json()["tasks"][0]["reused"] is False


def test_who_has_a_seat_is_told_to_whom_may_know(world: World) -> None:
    ground = world.ground
    ground.play(a={"delay": 20.0, "stop_takes": 0.0})
    licences.put(ground.platform, ME, "a", 1, None)
    uid = new_id()
    world.api.of(world.ana, "PUT", f"/runs/{uid}", world.request(MINE))
    ground.until_task(uid, "a", "running")
    for actor, knows in ((world.ana, True), (world.olga, True), (world.fay, False)):
        pool = world.api.of(actor, "GET", "/licences").json()[0]
        assert pool["used"] == 1 and bool(pool["holders"]) == knows
    answer = world.api.of(world.fay, "POST", "/plans", world.request(THEIRS)).json()
    waiting = answer["steps"][0]["waiting"]["message"]
    assert "1 of 1 taken" in waiting and uid not in waiting
    assert (
        uid in world.api.of(world.ana, "POST", "/plans", world.request(MINE)).json()["steps"][0]["waiting"]["message"]
    )
    ground.cancel(uid)


def test_labelled_data_that_is_read_is_an_event(world: World) -> None:
    with world.ground.platform.database.write() as connection:
        accounts.project(connection, "patients", "research", "phi")
    run = world.start(world.ana, MINE.replace("trial", "patients"))
    world.api.of(world.ana, "GET", f"/runs/{run}/artifacts/a/out.csv")
    event = views.listing(world.ground.platform, ME, 1, None)["events"][0]
    told = tuple(event[key] for key in ("actor", "action", "object", "outcome"))
    assert told == ("ana", "artifact.read", f"{run}/a/out.csv", "done")
    assert event["details"] == {"actor": {"kind": "user"}, "labels": ["phi"]}
