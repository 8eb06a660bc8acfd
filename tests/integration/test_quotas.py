"""Quotas: taken with an attempt and given back with it, waited for or denied, counted over teams and projects."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from groundplane.model.documents import QuotaDocument
from groundplane.model.errors import Denied, GroundError, Invalid, NotFound
from groundplane.model.ids import new_id
from groundplane.model.reasons import Reason
from groundplane.model.resources import Resources
from groundplane.services import backends, forecasts, licences, quotas, runs
from groundplane.services.access import Actor
from groundplane.services.audit import views
from groundplane.services.platform import now
from groundplane.store import teams, users
from groundplane.store.account_tables import projects
from groundplane.store.database import sqlite_url
from tests.integration.agent_bench import agents_of
from tests.planes import HOWEVER_IT_ENDS, ME, Ground, Shared, claims_within, task

FIT = '[pipelines.p.steps.fit]\ncommand = ["/fake/fit"]\nresources = { gpus = %d }\n'
FAN = FIT + "for_each = { n = [%s] }\n"
PLAIN = '[pipelines.p.steps.plain]\ncommand = ["/fake/plain"]\n'


def fit(gpus: int = 1) -> str:
    return FIT % gpus


def fan(count: int, gpus: int = 1) -> str:
    return FAN % (gpus, ", ".join(f'"{n}"' for n in range(count)))


@pytest.fixture(autouse=True)
def gpus(request: pytest.FixtureRequest) -> None:
    """The scripted backend has more GPUs than any quota here."""
    if "ground" in request.fixturenames:
        ground: Ground = request.getfixturevalue("ground")
        assert ground.backend
        ground.backend.gpus, ground.backend.gpu_count = None, 100


def put(ground: Ground, name: str = "trial", over: str | None = None, **limits: float) -> QuotaDocument:
    found = quotas.put(ground.platform, ME, name, limits, over)
    return next(each for each in found if each.resource in limits)


def quota(ground: Ground, resource: str = "gpus", name: str = "trial") -> QuotaDocument:
    return next(each for each in quotas.listing(ground.platform, ME) if (each.name, each.resource) == (name, resource))


def team(ground: Ground, name: str, parent: str | None = None) -> None:
    with ground.platform.database.write() as connection:
        above = teams.by_name(connection, parent) if parent else None
        teams.add(connection, name, above.id if above else None, now())


def own(ground: Ground, project: str, by: str) -> None:
    """The project is that team's."""
    with ground.platform.database.write() as connection:
        key = teams.by_name(connection, by).id  # type: ignore[union-attr]
        connection.execute(insert(projects).values(name=project, team_id=key, created_at=now()))


def submit(ground: Ground, steps: str, project: str = "trial") -> str:
    request = ground.request(steps)
    spec = (request.spec or "").replace('name = "trial"', f'name = "{project}"')
    return runs.submit(ground.platform, ME, new_id(), replace(request, spec=spec)).id


def waiting(ground: Ground, ref: str, name: str = "fit") -> Reason | None:
    return task(ground.show(ref), name).waiting


def until_waiting(ground: Ground, ref: str, text: str, name: str = "fit") -> Reason:
    return ground.until(
        lambda: (found := waiting(ground, ref, name)) and text in found.message and found, lambda: str(ground.show(ref))
    )


def most_gpus_at_once(ground: Ground) -> int:
    """How many GPUs attempts ever had together, by their times."""
    with ground.platform.database.read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT a.started_at, a.finished_at, t.gpus FROM attempts a JOIN tasks t ON t.id = a.task_id"
        ).all()
    moves = sorted([(start, n) for start, _, n in rows] + [(end, -n) for _, end, n in rows])
    held = most = 0
    for _, amount in moves:
        held += amount
        most = max(most, held)
    return most


# --- one control plane -------------------------------------------------------------------------------------------


def test_no_more_gpus_at_once_than_the_quota(ground: Ground) -> None:
    put(ground, gpus=4)
    ground.play(fit={"delay": 0.2})
    run = ground.run(fan(12))
    assert run.state == "succeeded"
    assert most_gpus_at_once(ground) == 4
    assert (quota(ground).used, quota(ground).waiting) == (0, 0)


def test_without_a_quota_nothing_waits(ground: Ground) -> None:
    ground.play(fit={"delay": 0.3})
    ground.run(fan(6))
    assert most_gpus_at_once(ground) == 6


def test_what_waits_says_for_what(ground: Ground) -> None:
    put(ground, gpus=2)
    ground.play(fit={"delay": 60})
    first, second = ground.submit(fan(2)), ground.submit(fit())
    reason = until_waiting(ground, second, "2 of 2")
    assert reason.code == "quota_exceeded"
    assert reason.message == "waits for the quota of project 'trial': 2 of 2 GPUs in use, it asks for 1"
    assert "ground quotas list" in reason.hint
    run = ground.show(second)
    assert (run.state, run.reason) == ("queued", reason)
    assert quota(ground) == QuotaDocument("trial", "project", "gpus", 2, 2, "queue", 1)
    ground.cancel(first)
    ground.until_task(second, "fit", "running")
    assert waiting(ground, second) is None
    ground.cancel(second)


def test_what_needs_none_passes_and_nobody_overtakes_who_asks_for_much(ground: Ground) -> None:
    put(ground, gpus=4)
    ground.play(fit={"delay": 60}, plain={})
    three = ground.submit(fit(3))
    ground.until_task(three, "fit", "running")
    four, one = ground.submit(fit(4)), ground.submit(fit(1))
    until_waiting(ground, four, "3 of 4 GPUs in use, it asks for 4")
    assert ground.run(PLAIN).state == "succeeded"
    until_waiting(ground, one, "3 of 4 GPUs in use, it asks for 1, and others wait before it")
    assert task(ground.show(one), "fit").state == "queued"
    ground.cancel(three)
    ground.until_task(four, "fit", "running")
    until_waiting(ground, one, "4 of 4")
    ground.cancel(four)
    ground.until_task(one, "fit", "running")
    ground.cancel(one)


def test_those_that_wait_cost_no_turns(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    put(ground, gpus=1)
    ground.play(fit={"delay": 60}, plain={})
    first = ground.submit(fit())
    ground.until_task(first, "fit", "running")
    crowd = ground.submit(fan(300))
    assert ground.run(PLAIN).state == "succeeded"
    ground.until(lambda: quota(ground).waiting == 300, lambda: str(quota(ground)))
    assert claims_within(0.8, monkeypatch) < 10
    ground.cancel(crowd)
    ground.cancel(first)


@pytest.mark.parametrize("script", HOWEVER_IT_ENDS.values(), ids=HOWEVER_IT_ENDS)
def test_however_an_attempt_ends_its_part_is_given_back(ground: Ground, script: dict[str, Any]) -> None:
    put(ground, gpus=1, cpus=1, runs=1)
    ground.play(fit=script)
    assert ground.run(fit() + "rerun = false\n").state in ("failed", "lost")
    ground.play(fit={})
    assert ground.run(fit()).state == "succeeded"
    assert {each.used for each in quotas.listing(ground.platform, ME)} == {0}


def test_a_control_plane_that_is_killed_keeps_what_its_work_has(short_leases: None, ground: Ground) -> None:
    put(ground, gpus=1)
    ground.play(fit={"delay": 0.5})
    first, second = ground.submit(fit()), ground.submit(fit())
    until_waiting(ground, second, "1 of 1")
    ground.again()
    assert quota(ground).used == 1
    assert ground.wait(second).state == "succeeded"
    assert ground.starts(first) == ["0.0.1"]
    assert most_gpus_at_once(ground) == 1


def test_a_higher_limit_or_none_lets_waiting_work_start(ground: Ground) -> None:
    put(ground, gpus=1)
    ground.play(fit={"delay": 60})
    ids = [ground.submit(fit()) for _ in range(3)]
    until_waiting(ground, ids[2], "1 of 1")
    put(ground, gpus=2)
    ground.until_task(ids[1], "fit", "running")
    quotas.remove(ground.platform, ME, "trial", ["gpus"])
    ground.until_task(ids[2], "fit", "running")
    for each in ids:
        ground.cancel(each)


def test_a_task_counts_for_one_cpu_where_it_does_not_say(ground: Ground) -> None:
    put(ground, cpus=2.5)
    ground.play(fit={"delay": 60})
    ids = [ground.submit(fit(0)) for _ in range(3)]
    until_waiting(ground, ids[2], "2 of 2.5 CPUs in use, it asks for 1")
    assert (quota(ground, "cpus").used, quota(ground, "cpus").limit) == (2, 2.5)
    for each in ids:
        ground.cancel(each)


def test_what_quotas_count_of_resources() -> None:
    assert Resources(cpus=0.5, gpus=2).counted == (2, 500)
    assert Resources(cpus=0.3334, nodes=3).counted == (0, 3 * 334)
    assert Resources(gpus=8, nodes=2).counted == (16, 2000)


def test_a_quota_of_runs_lets_the_next_begin_when_one_has_ended(ground: Ground) -> None:
    put(ground, runs=1)
    ground.play(fit={"delay": 60}, plain={})
    first, second = ground.submit(fan(3)), ground.submit(fit())
    reason = until_waiting(ground, second, "1 of 1 runs in use")
    assert reason.message == "waits for the quota of project 'trial': 1 of 1 runs in use"
    ground.until_task(first, "fit[2]", "running")
    assert ground.show(second).state == "queued"
    found = quota(ground, "runs")
    assert (found.used, found.waiting) == (1, 1)
    ground.cancel(first)
    ground.until_task(second, "fit", "running")
    ground.cancel(second)
    assert ground.run(PLAIN).state == "succeeded"


def test_a_run_that_lacks_a_gpu_does_not_keep_another_from_beginning(ground: Ground) -> None:
    ground.play(fit={"delay": 60}, plain={"delay": 60})
    holder = submit(ground, fit(), "other")
    ground.until_task(holder, "fit", "running")
    team(ground, "bio")
    quotas.put(ground.platform, ME, "other", {"gpus": 1}, None)
    quotas.put(ground.platform, ME, "platform", {"runs": 2, "gpus": 1}, None)
    waits, passes = ground.submit(fit()), ground.submit(PLAIN)
    ground.until_task(passes, "plain", "running")
    until_waiting(ground, waits, "team 'platform'")
    for each in (holder, waits, passes):
        ground.cancel(each)


def test_a_quota_of_seats_is_for_the_team_what_a_pool_is_for_all(ground: Ground) -> None:
    licences.put(ground.platform, ME, "fit", 3, None)
    put(ground, **{"seats:fit": 1})
    ground.play(fit={"delay": 60})
    first, second = ground.submit(fit(0)), ground.submit(fit(0))
    until_waiting(ground, second, "1 of 1 seats of fit in use")
    other = submit(ground, fit(0), "other")
    ground.until_task(other, "fit", "running")
    for each in (first, second, other):
        ground.cancel(each)


def test_a_teams_quota_counts_all_teams_below(ground: Ground) -> None:
    for name, parent in (("research", None), ("bio", "research"), ("finance", None)):
        team(ground, name, parent)
    for project, by in (("genes", "bio"), ("survey", "research"), ("books", "finance")):
        own(ground, project, by)
    quotas.put(ground.platform, ME, "research", {"gpus": 2}, None)
    ground.play(fit={"delay": 60})
    below, here = submit(ground, fit(), "genes"), submit(ground, fit(), "survey")
    for each in (below, here):
        ground.until_task(each, "fit", "running")
    beyond, elsewhere = submit(ground, fit(), "genes"), submit(ground, fit(2), "books")
    until_waiting(ground, beyond, "team 'research': 2 of 2 GPUs in use")
    ground.until_task(elsewhere, "fit", "running")
    assert quota(ground, name="research").used == 2
    ground.cancel(here)
    ground.until_task(beyond, "fit", "running")
    for each in (below, beyond, elsewhere):
        ground.cancel(each)
    quotas.put(ground.platform, ME, "platform", {"gpus": 1}, "deny")
    with pytest.raises(Denied, match="team 'platform' may never have more than 1 GPUs"):
        submit(ground, fit(2), "nobodys")


def test_what_could_never_start_is_denied_at_once_and_is_an_event(ground: Ground) -> None:
    put(ground, gpus=4)
    for ask in (lambda: ground.submit(fit(5)), lambda: forecasts.plan(ground.platform, ME, ground.request(fit(5)))):
        with pytest.raises(Denied) as refused:
            ask()
        assert (refused.value.code, refused.value.exit_code) == ("quota_exceeded", 4)
        assert refused.value.message == "step 'fit' asks for 5, project 'trial' may never have more than 4 GPUs"
    last = views.listing(ground.platform, ME, 1, None)["events"][0]
    assert (last["action"], last["outcome"]) == ("run.submit", "denied")
    assert "may never have more" in last["details"]["reason"]
    assert runs.listing(ground.platform, ME, None, 10, None).runs == ()


def test_a_quota_that_denies_counts_what_it_has_let_in(ground: Ground) -> None:
    put(ground, gpus=4, over="deny")
    ground.play(fit={"delay": 60})
    first = ground.submit(fit(3))
    with pytest.raises(Denied) as refused:
        ground.submit(fit(2))
    assert refused.value.exit_code == 4
    assert refused.value.message.endswith(
        "step 'fit' asks for 2, project 'trial' has a quota of 4 GPUs, and what runs or waits asks for 3 already"
    )
    second = ground.submit(fit(1))
    with pytest.raises(Denied):
        ground.submit(fit(1))
    ground.cancel(first)
    ground.wait(first)
    third = ground.submit(fit(3))
    for each in (second, third):
        ground.until_task(each, "fit", "running")
        ground.cancel(each)


def test_a_quota_of_runs_that_denies_counts_all_that_have_not_ended(ground: Ground) -> None:
    put(ground, runs=1, over="deny")
    ground.play(fit={"delay": 60})
    first = ground.submit(fit())
    with pytest.raises(Denied, match="has a quota of 1 runs, and what runs or waits asks for 1 already"):
        ground.submit(fit())
    ground.cancel(first)
    ground.wait(first)
    ground.play(fit={})
    assert ground.run(fit()).state == "succeeded"


def test_a_plan_says_what_it_would_wait_for(ground: Ground) -> None:
    put(ground, gpus=1)
    ground.play(fit={"delay": 60})
    assert forecasts.plan(ground.platform, ME, ground.request(fit())).steps[0].waiting is None
    first = ground.submit(fit())
    ground.until_task(first, "fit", "running")
    told = forecasts.plan(ground.platform, ME, ground.request(fit())).steps[0].waiting
    assert told is not None
    assert told.message == "waits for the quota of project 'trial': 1 of 1 GPUs in use, it asks for 1"
    ground.cancel(first)


def test_what_is_reused_needs_nothing_of_a_quota(ground: Ground) -> None:
    step = fit() + 'outputs = ["a.csv"]\n'
    ground.play(fit={"outputs": {"a.csv": "1\n"}})
    ground.run(step)
    put(ground, gpus=1)
    ground.play(fit={"delay": 60})
    holder = ground.submit(fit())
    ground.until_task(holder, "fit", "running")
    assert [each.reused for each in ground.run(step).tasks] == [True]
    ground.cancel(holder)


def test_a_freed_quota_wakes_work_of_another_backend(ground: Ground) -> None:
    second = Shared(ground.home)
    second.gpus, second.gpu_count = None, 100
    second.script("/fake/fit", {"delay": 60})
    ground.platform.drivers = {**ground.platform.drivers, "docker": second}
    put(ground, gpus=1)
    ground.play(fit={"delay": 60})
    here = ground.submit(fit(), backend="local")
    ground.until_task(here, "fit", "running")
    there = ground.submit(fit(), backend="docker")
    until_waiting(ground, there, "1 of 1")
    ground.cancel(here)
    ground.until_task(there, "fit", "running")
    ground.cancel(there)


@pytest.mark.parametrize(
    ("name", "limits", "over"),
    [
        ("trial", {"gpus": -1}, None),
        ("trial", {"gpus": 1.5}, None),
        ("trial", {"gpus": float("nan")}, None),
        ("trial", {"gpus": float("inf")}, None),
        ("trial", {"memory": 1}, None),
        ("trial", {"seats:": 1}, None),
        ("trial", {}, None),
        ("trial", {"gpus": 1}, "wait"),
        ("", {"gpus": 1}, None),
        ("team:nobody", {"gpus": 1}, None),
    ],
)
def test_what_is_no_quota(ground: Ground, name: str, limits: dict[str, float], over: str | None) -> None:
    with pytest.raises(GroundError) as refused:
        quotas.put(ground.platform, ME, name, limits, over)
    assert refused.value.exit_code == 2
    assert refused.value.hint


def test_a_name_that_is_a_teams_and_a_projects_has_to_say_which(ground: Ground) -> None:
    team(ground, "genes")
    own(ground, "genes", "genes")
    with pytest.raises(Invalid, match="is a team and a project") as refused:
        quotas.put(ground.platform, ME, "genes", {"gpus": 1}, None)
    assert "project:genes" in refused.value.hint
    (found,) = quotas.put(ground.platform, ME, "project:genes", {"gpus": 1}, None)
    assert (found.kind, found.name) == ("project", "genes")


def test_changes_pass_the_gate(ground: Ground) -> None:
    put(ground, gpus=2, over="deny")
    assert put(ground, gpus=3).over == "deny", "it stays as it was"
    quotas.remove(ground.platform, ME, "trial", [])
    for resources in ([], ["gpus"]):
        with pytest.raises(NotFound, match="has no quota"):
            quotas.remove(ground.platform, ME, "trial", resources)
    told = views.listing(ground.platform, ME, 10, None)["events"]
    assert [(each["action"], each["object"]) for each in told] == [
        ("quota.remove", "trial"),
        ("quota.set", "trial"),
        ("quota.set", "trial"),
    ]


# --- real processes, several clients, several control planes -------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgres"])
def planes(request: pytest.FixtureRequest, tmp_path: Path, local_on: Callable[[str], Ground]) -> Iterator[list[Ground]]:
    """One control plane on SQLite, two on one PostgreSQL, with a simulated backend that somebody added."""
    sqlite = request.param == "sqlite"
    url = sqlite_url(tmp_path / "ground.db") if sqlite else request.getfixturevalue("postgres").create()
    made = [local_on(url) for _ in range(1 if sqlite else 2)]
    document = backends.add(made[0].platform, ME, "sim", "fake", {})
    assert (document.driver, document.ok) == ("fake", True)
    assert "simulation" in document.message
    for each in made[1:]:
        backends.load(each.platform)
    yield made


HOLD = """
[pipelines.p.steps.hold]
command = ["sh", "-c", "while [ ! -e %s ]; do sleep 0.05; done"]
resources = { gpus = 4 }
"""
WORK = """
[pipelines.p.steps.work]
command = ["sh", "-c", "mkdir %(alive)s/$$; ls %(alive)s | wc -l > %(seen)s/$$; sleep 0.4; rmdir %(alive)s/$$"]
resources = { gpus = 1 }
"""


def test_sixteen_clients_race_for_the_last_four_gpus(planes: list[Ground], tmp_path: Path) -> None:
    alive, seen, end = tmp_path / "alive", tmp_path / "seen", tmp_path / "end"
    alive.mkdir()
    seen.mkdir()
    first = planes[0]
    quotas.put(first.platform, ME, "trial", {"gpus": 8}, None)
    holder = first.submit(HOLD % end, backend="sim")
    first.until_task(holder, "hold", "running")
    together = threading.Barrier(16)
    ids: list[str] = []

    def client(number: int) -> None:
        together.wait()
        ground = planes[number % len(planes)]
        ids.append(ground.submit(WORK % {"alive": alive, "seen": seen}, backend="sim"))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {first.wait(uid).state for uid in ids} == {"succeeded"}
    counts = [int(each.read_text()) for each in seen.iterdir()]
    assert len(counts) == 16
    assert max(counts) == 4, "processes that were there at once"
    end.touch()
    assert first.wait(holder).state == "succeeded"
    assert most_gpus_at_once(first) == 8
    assert quota(first).used == 0


def test_sixteen_clients_race_for_what_a_quota_that_denies_has_left(planes: list[Ground], tmp_path: Path) -> None:
    end = tmp_path / "end"
    quotas.put(planes[0].platform, ME, "trial", {"gpus": 8}, "deny")
    together = threading.Barrier(16)
    let_in: list[str] = []
    refused: list[Denied] = []

    def client(number: int) -> None:
        together.wait()
        try:
            let_in.append(planes[number % len(planes)].submit(HOLD % end, backend="sim"))
        except Denied as denied:
            refused.append(denied)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(let_in), len(refused)) == (2, 14)
    end.touch()
    assert {planes[0].wait(uid).state for uid in let_in} == {"succeeded"}


def test_an_agent_that_dies_gives_back_what_its_work_had(local: Ground, tmp_path: Path) -> None:
    backends.add(local.platform, ME, "sim", "fake", {})
    quotas.put(local.platform, ME, "trial", {"gpus": 4}, None)
    lost = HOLD % (tmp_path / "never") + "rerun = false\n"
    first = local.submit(lost, backend="sim")
    local.until_task(first, "hold", "running")
    second = local.submit(HOLD % (tmp_path / "end"), backend="sim")
    until_waiting(local, second, "4 of 4", "hold")
    for pid in agents_of(local.home):
        os.kill(pid, signal.SIGKILL)
    assert local.wait(first).state == "lost"
    local.until_task(second, "hold", "running")
    (tmp_path / "end").touch()
    assert local.wait(second).state == "succeeded"
    assert quota(local).used == 0


def test_what_a_simulation_gives(local: Ground) -> None:
    backends.add(local.platform, ME, "sim", "fake", {})
    step = '[pipelines.p.steps.s]\ncommand = ["sh", "-c", "echo gpus=$CUDA_VISIBLE_DEVICES."]\nresources = { %s }\n'
    run = local.run(step % 'gpus = 500, cpus = 900, memory = "9000GiB"', backend="sim")
    assert (run.state, task(run, "s").backend) == ("succeeded", "sim")
    assert local.lines(run.id) == ["stdout s: gpus=."]
    assert any("a simulation grants as many as are asked for" in each for each in run.warnings)
    with pytest.raises(Invalid, match="knows no host"):
        backends.add(local.platform, ME, "other", "fake", {"host": "x"})


def test_a_team_sees_its_own_quotas_and_only_who_runs_machines_sets_them(ground: Ground) -> None:
    for name in ("bio", "finance"):
        team(ground, name)
        quotas.put(ground.platform, ME, name, {"gpus": 2}, None)
    own(ground, "genes", "bio")
    quotas.put(ground.platform, ME, "genes", {"runs": 3}, None)
    quotas.put(ground.platform, ME, "nobodys", {"runs": 3}, None)
    with ground.platform.database.write() as connection:
        users.add(connection, "ada", "user", now())
        key = users.locked(connection, "ada").id
        teams.add_member(connection, teams.by_name(connection, "bio").id, key, "maintainer", "local")  # type: ignore[union-attr]
    ada = Actor("ada", "user")
    assert {each.name for each in quotas.listing(ground.platform, ada)} == {"bio", "genes"}
    for ask in (
        lambda: quotas.put(ground.platform, ada, "bio", {"gpus": 200}, None),
        lambda: quotas.put(ground.platform, ada, "bio", {"gpus": -1}, None),
        lambda: quotas.remove(ground.platform, ada, "genes", []),
    ):
        with pytest.raises(Denied) as refused:
            ask()
        assert refused.value.exit_code == 4
    assert quota(ground, name="bio").limit == 2
