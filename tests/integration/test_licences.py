"""Licence seats: taken and given back with an attempt, waited for without holding up anybody else."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from groundplane.model.documents import LicenceDocument, RunDocument
from groundplane.model.errors import Denied, Invalid, NotFound
from groundplane.model.reasons import Reason
from groundplane.services import claims, forecasts, licences, policies
from groundplane.services.audit import views
from groundplane.services.platform import Platform
from groundplane.spi.launch import Launch
from groundplane.store import licences as pools
from groundplane.store.database import Database
from tests.planes import HOWEVER_IT_ENDS, ME, Ground, Shared, claims_within, states, task
from tests.postgres import Postgres

FIT = '[pipelines.p.steps.fit]\ncommand = ["/fake/fit"]\n'
FAN = FIT + "for_each = { n = [%s] }\n"
OTHER = '[pipelines.p.steps.other]\ncommand = ["/fake/other"]\n'


def fan(count: int) -> str:
    return FAN % ", ".join(f'"{n}"' for n in range(count))


def seats(ground: Ground, count: int, name: str = "fit", server: str | None = None) -> LicenceDocument:
    return licences.put(ground.platform, ME, name, count, server)


def pool(ground: Ground, name: str = "fit") -> LicenceDocument:
    return licences.show(ground.platform, ME, name)


def waiting(ground: Ground, ref: str, name: str = "fit") -> Reason | None:
    return task(ground.show(ref), name).waiting


def until_waiting(ground: Ground, ref: str, text: str, name: str = "fit") -> Reason:
    return ground.until(
        lambda: (found := waiting(ground, ref, name)) and text in found.message and found, lambda: str(ground.show(ref))
    )


def most_at_once(ground: Ground) -> int:
    """How many attempts were ever open together, by their times."""
    with ground.platform.database.read() as connection:
        rows = connection.exec_driver_sql("SELECT started_at, finished_at FROM attempts WHERE licence = 'fit'").all()
    moves = sorted(
        [(start, 1) for start, _ in rows] + [(end, -1) for _, end in rows], key=lambda move: (move[0], move[1])
    )
    now = most = 0
    for _, by in moves:
        now += by
        most = max(most, now)
    return most


def open_attempts(ground: Ground) -> int:
    with ground.platform.database.read() as connection:
        return pools.taken(connection, ["fit"]).get("fit", 0)


# --- one control plane ------------------------------------------------------------------------------------------


def test_no_more_run_at_once_than_there_are_seats(ground: Ground) -> None:
    seats(ground, 2)
    ground.play(fit={"delay": 0.02})
    run = ground.run(fan(20))
    assert run.state == "succeeded"
    assert most_at_once(ground) == 2
    assert pool(ground).free == 2


def test_without_a_pool_nothing_is_counted(ground: Ground) -> None:
    ground.play(fit={"delay": 0.3})
    ground.run(fan(3))
    assert most_at_once(ground) == 3


def test_what_waits_says_behind_whom(ground: Ground) -> None:
    seats(ground, 2)
    ground.play(fit={"delay": 60})
    first, second = ground.submit(fan(2)), ground.submit(FIT)
    reason = until_waiting(ground, second, "2 of 2 taken")
    assert reason.message == f"waits for a seat of fit: 2 of 2 taken by run {first} (steps fit[0], fit[1])"
    assert reason.code == "no_licence_seat"
    assert "ground licences list" in reason.hint
    run = ground.show(second)
    assert (run.state, run.reason) == ("queued", reason)
    found = pool(ground)
    assert (found.seats, found.used, found.free, found.waiting) == (2, 2, 0, 1)
    assert [(held.run, held.task) for held in found.holders] == [(first, "fit[0]"), (first, "fit[1]")]
    ground.cancel(first)
    ground.until_task(second, "fit", "running")
    run = ground.show(second)
    assert (run.reason, task(run, "fit").waiting) == (None, None)
    third = ground.submit(FIT)
    fourth = ground.submit(FIT)
    until_waiting(ground, fourth, f"run {second} (step fit), run {third} (step fit)")
    ground.cancel(fourth)
    ended = ground.wait(fourth)
    assert (ended.state, task(ended, "fit").waiting) == ("cancelled", None)


def test_those_that_wait_start_in_order(ground: Ground) -> None:
    seats(ground, 1)
    ground.play(fit={"delay": 0.05})
    ids = [ground.submit(FIT) for _ in range(6)]
    for each in ids:
        ground.wait(each)
    assert ground.backend
    assert [name.partition(".")[0] for name in ground.backend.starts] == ids


def test_those_that_wait_hold_up_nobody_and_cost_no_turns(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    seats(ground, 1)
    ground.play(fit={"delay": 60}, other={})
    first = ground.submit(FIT)
    ground.until_task(first, "fit", "running")
    crowd = ground.submit(fan(100))
    after = ground.run(OTHER)
    assert after.state == "succeeded"
    ground.until(lambda: pool(ground).waiting == 100, lambda: str(pool(ground)))
    until_waiting(ground, crowd, f"1 of 1 taken by run {first}", "fit[99]")
    assert claims_within(0.8, monkeypatch) < 10
    ground.cancel(crowd)
    ground.cancel(first)


@pytest.mark.parametrize("script", HOWEVER_IT_ENDS.values(), ids=HOWEVER_IT_ENDS)
def test_however_an_attempt_ends_its_seat_is_free(ground: Ground, script: dict[str, Any]) -> None:
    seats(ground, 1)
    ground.play(fit=script)
    run = ground.run(FIT + "rerun = false\n")
    assert run.state in ("failed", "lost")
    ground.play(fit={})
    assert ground.run(FIT).state == "succeeded"
    assert pool(ground).used == 0


def test_a_retry_waits_in_line_again(ground: Ground) -> None:
    seats(ground, 1)
    ground.play(fit={"delay": 0.02, "exit": [1, 0]})
    run = ground.run(fan(4).replace("for_each", "retries = 1\nfor_each"))
    assert (run.state, [each.attempts for each in run.tasks]) == ("succeeded", [2] * 4)
    assert most_at_once(ground) == 1


def test_a_control_plane_that_is_killed_keeps_the_seats_of_what_runs_on(short_leases: None, ground: Ground) -> None:
    seats(ground, 1)
    ground.play(fit={"delay": 0.5})
    first, second = ground.submit(FIT), ground.submit(FIT)
    until_waiting(ground, second, first)
    ground.again()
    assert pool(ground).used == 1
    until_waiting(ground, second, first)
    assert ground.wait(second).state == "succeeded"
    assert ground.starts(first) == ["0.0.1"]
    assert most_at_once(ground) == 1


def test_a_pool_counts_what_ran_before_it_was_one(ground: Ground) -> None:
    ground.play(fit={"delay": 60})
    first = ground.submit(fan(2))
    ground.until_task(first, "fit[1]", "running")
    assert seats(ground, 2).used == 2
    second = ground.submit(FIT)
    until_waiting(ground, second, f"2 of 2 taken by run {first}")
    ground.cancel(first)
    ground.cancel(second)


def test_more_seats_or_no_pool_let_waiting_work_start(ground: Ground) -> None:
    seats(ground, 1)
    ground.play(fit={"delay": 60})
    ids = [ground.submit(FIT) for _ in range(3)]
    until_waiting(ground, ids[2], ids[0])
    seats(ground, 2)
    ground.until_task(ids[1], "fit", "running")
    until_waiting(ground, ids[2], ids[1])
    licences.remove(ground.platform, ME, "fit")
    ground.until_task(ids[2], "fit", "running")
    for each in ids:
        ground.cancel(each)


def test_what_is_reused_needs_no_seat(ground: Ground) -> None:
    step = FIT + 'outputs = ["a.csv"]\n'
    ground.play(fit={"outputs": {"a.csv": "1\n"}}, hold={"delay": 60})
    ground.run(step)
    seats(ground, 1)
    ground.play(fit={"delay": 60})
    holder = ground.submit(FIT)
    ground.until_task(holder, "fit", "running")
    assert [each.reused for each in ground.run(step).tasks] == [True]
    plan = forecasts.plan(ground.platform, ME, ground.request(step))
    assert (plan.steps[0].reuse, plan.steps[0].waiting) == ("would be reused", None)
    ground.cancel(holder)


def test_a_limit_on_a_step_and_seats_both_hold(ground: Ground) -> None:
    seats(ground, 2)
    ground.play(fit={"delay": 0.02})
    narrow = (
        '[pipelines.p.steps.narrow]\ncommand = ["/fake/fit"]\nfor_each = { n = ["1", "2", "3"], max_parallel = 1 }\n'
    )
    run = ground.run(narrow + fan(8))
    assert run.state == "succeeded"
    assert most_at_once(ground) <= 2
    spans = sorted((each.started_at or "", each.finished_at or "") for each in run.tasks if each.step == "narrow")
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_seats_are_one_pool_for_all_backends(ground: Ground) -> None:
    second = Shared(ground.home)
    second.script("/fake/fit", {"delay": 60})
    ground.platform.drivers = {**ground.platform.drivers, "docker": second}
    seats(ground, 1)
    ground.play(fit={"delay": 60})
    here = ground.submit(FIT, backend="local")
    ground.until_task(here, "fit", "running")
    there = ground.submit(FIT, backend="docker")
    until_waiting(ground, there, here)
    assert not second.starts
    ground.cancel(here)
    ground.until_task(there, "fit", "running")
    assert pool(ground).holders[0].backend == "docker"
    ground.cancel(there)


def test_a_pool_without_seats_refuses_before_anything_starts(ground: Ground) -> None:
    seats(ground, 1)
    ground.play(fit={"delay": 60})
    first, second = ground.submit(FIT), ground.submit(FIT)
    until_waiting(ground, second, first)
    seats(ground, 0)
    for ask in (lambda: ground.submit(FIT), lambda: forecasts.plan(ground.platform, ME, ground.request(FIT))):
        with pytest.raises(Invalid) as refused:
            ask()
        assert refused.value.code == "never_fits"
        assert "step 'fit' needs a seat of fit" in refused.value.message
    until_waiting(ground, second, "its pool has none")
    for each in (first, second):
        ground.cancel(each)


def test_a_plan_says_what_it_would_wait_for(ground: Ground) -> None:
    seats(ground, 1)
    ground.play(fit={"delay": 60})
    assert forecasts.plan(ground.platform, ME, ground.request(FIT)).steps[0].waiting is None
    first = ground.submit(FIT)
    ground.until_task(first, "fit", "running")
    told = forecasts.plan(ground.platform, ME, ground.request(FIT)).steps[0].waiting
    assert told is not None
    assert first in told.message
    ground.cancel(first)


def test_a_refusal_of_the_licence_manager_is_waited_out(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    seats(ground, 2)
    ground.play(fit={"reason": ["no_licence_seat", "all in use", "", "backend"]})
    uid = ground.submit(FIT)
    reason = until_waiting(ground, uid, "the licence manager refused one at ")
    assert reason.code == "no_licence_seat"
    assert len(ground.starts(uid)) == 1, "it is not tried again at once"
    other = ground.submit(FIT)
    until_waiting(ground, other, "refused one at")
    ground.play(fit={})
    monkeypatch.setattr(licences, "REFUSED", 0.0)
    ground.submit(OTHER)  # the engine looks again
    run = ground.wait(uid)
    assert (run.state, task(run, "fit").attempts) == ("succeeded", 2)
    assert ground.wait(other).state == "succeeded"


def test_after_a_refusal_the_seats_that_were_ours_are_still_given(ground: Ground) -> None:
    seats(ground, 2)
    ground.play(fit={"delay": 60})
    holder = ground.submit(FIT)
    ground.until_task(holder, "fit", "running")
    ground.play(fit={"reason": ["no_licence_seat", "all in use", "", "backend"]})
    refused = ground.submit(FIT)
    until_waiting(ground, refused, f"1 of 2 taken by run {holder} (step fit); the licence manager refused one more at ")
    ground.play(fit={"delay": 60})
    ground.cancel(holder)
    ground.until_task(refused, "fit", "running")
    last = ground.submit(FIT)
    until_waiting(ground, last, refused)
    for each in (refused, last):
        ground.cancel(each)


# --- what is said ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "count", "server"),
    [
        ("../x", 1, None),
        ("", 1, None),
        ("fit", -1, None),
        ("fit", 1, "licences"),
        ("fit", 1, "27000@a b"),
        ("fit", 1, "-c"),
    ],
)
def test_what_is_no_pool(ground: Ground, name: str, count: int, server: str | None) -> None:
    with pytest.raises(Invalid) as refused:
        seats(ground, count, name, server)
    assert refused.value.hint


def test_what_an_engine_is_attested_with(ground: Ground, server: Server) -> None:
    assert licences.pool_of(ground.platform, "fit") == ("", 0)
    seats(ground, 2)
    assert licences.pool_of(ground.platform, "fit") == ("", 2)
    seats(ground, 3, server="27000@licences")
    assert licences.pool_of(ground.platform, "fit") == ("27000@licences", 3)
    seats(ground, 4)
    assert licences.pool_of(ground.platform, "fit") == ("27000@licences", 4), "the server stays as it was"
    assert seats(ground, 4, server="").server is None


def test_changes_pass_the_gate(ground: Ground) -> None:
    seats(ground, 2)
    licences.remove(ground.platform, ME, "fit")
    with pytest.raises(NotFound, match="no pool 'fit'"):
        licences.remove(ground.platform, ME, "fit")
    told = views.listing(ground.platform, ME, 10, None)["events"]
    assert [(each["action"], each["object"]) for each in told] == [("licence.remove", "fit"), ("licence.set", "fit")]
    assert told[1]["details"] == {"actor": {"kind": ME.kind}, "seats": 2, "server": None}

    policies.add(
        ground.platform, ME, "mine", '@id("frozen") forbid (principal, action == Action::"licence.set", resource);'
    )
    with pytest.raises(Denied, match="'frozen'"):
        seats(ground, 3)
    assert licences.listing(ground.platform, ME) == []


# --- a licence server (recorded answers: no real one was ever met) -------------------------------------------------


class Server:
    """An `lmutil` that is none: it prints what the test says, and notes that it was asked."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder.mkdir()
        self.answer, self.asked = folder / "answer", folder / "asked"
        program = folder / "lmutil"
        program.write_text(f'#!/bin/sh\necho "$@" >> {self.asked}\ncat {self.answer}\n')
        program.chmod(0o755)
        monkeypatch.setenv("LMUTIL", str(program))
        self.says(5, 0)

    def says(self, issued: int, used: int) -> None:
        lines = "".join(
            f"    somebody elsewhere{n} /dev/pts/0 (v1) (h/27000 1{n}), start Mon 11/23 9:15\n" for n in range(used)
        )
        self.says_text(
            f"Users of fit:  (Total of {issued} licenses issued;  Total of {used} licenses in use)\n\n{lines}"
        )

    def says_text(self, text: str) -> None:
        fresh = self.answer.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.answer)

    @property
    def times(self) -> int:
        return len(self.asked.read_text().splitlines()) if self.asked.exists() else 0


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(licences, "FRESH", 0.3)
    return Server(tmp_path / "server", monkeypatch)


def test_the_servers_count_is_believed_over_ours(ground: Ground, server: Server) -> None:
    server.says(3, 2)
    found = seats(ground, 2, server="27000@licences")
    assert (found.free, found.elsewhere, found.message) == (1, 2, "27000@licences: 3 issued, 2 in use by others")
    assert server.asked.read_text().splitlines()[0] == "lmstat -a -c 27000@licences"
    ground.play(fit={"delay": 60})
    first, second = ground.submit(FIT), ground.submit(FIT)
    ground.until_task(first, "fit", "running")
    until_waiting(
        ground, second, f"1 of 2 taken by run {first} (step fit); 27000@licences has 3, 2 of them in use by others"
    )
    server.says(3, 1)
    ground.until_task(second, "fit", "running")
    third = ground.submit(FIT)
    server.says(9, 0)
    until_waiting(ground, third, "2 of 2 taken")  # never more than --seats
    for each in (first, second, third):
        ground.cancel(each)


@pytest.mark.parametrize("text", ["Error getting status: Cannot connect to license server system. (-15,570:115)\n", ""])
def test_a_server_that_does_not_answer_leaves_the_count_to_us(ground: Ground, server: Server, text: str) -> None:
    server.says_text(text)
    found = seats(ground, 1, server="27000@licences")
    assert (found.free, found.used) == (1, 0)
    assert "our own count goes on" in found.message
    asked = server.times
    ground.play(fit={"delay": 0.05})
    assert ground.run(fan(3)).state == "succeeded"
    assert most_at_once(ground) == 1

    def asked_again() -> bool:
        ground.run(FIT)
        return server.times > asked

    ground.until(asked_again)


def test_a_server_is_asked_no_more_often_than_its_answer_is_old(
    ground: Ground, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(licences, "FRESH", 60.0)
    seats(ground, 1, server="27000@licences")
    ground.play(fit={"delay": 0.01})
    ground.run(fan(10))
    pool(ground)
    assert server.times == 1
    seats(ground, 1, server="27001@licences")
    assert server.times == 2, "another server's count says nothing"


def test_the_work_finds_the_server_unless_its_caller_has_said_another(ground: Ground, server: Server) -> None:
    launched: list[Launch] = []
    assert ground.backend
    accept = ground.backend.submit

    def noting(launches: Sequence[Launch]) -> Any:
        launched.extend(launches)
        return accept(launches)

    ground.backend.submit = noting  # type: ignore[method-assign]
    server.says_text("Users of MATLAB:  (Total of 5 licenses issued;  Total of 0 licenses in use)\n"
                     "Users of sas:  (Total of 5 licenses issued;  Total of 0 licenses in use)\n")  # fmt: skip
    for name in ("matlab", "sas"):
        seats(ground, 5, name, server="27000@licences")
    steps = "".join(f'[pipelines.p.steps.{name}]\ncommand = ["/fake/{name}"]\n' for name in ("matlab", "sas", "other"))
    ground.run(steps)
    ground.run(steps, context=ground.context(LM_LICENSE_FILE="1@mine"))
    names = ("MLM_LICENSE_FILE", "LM_LICENSE_FILE")
    told = [(each.task, {name: each.env[name] for name in names if name in each.env}) for each in launched]
    # Which of a run's tasks comes first depends on when its server has answered.
    assert sorted(told[:3], key=lambda each: each[0]) == [
        ("matlab", {"MLM_LICENSE_FILE": "27000@licences"}),
        ("other", {}),
        ("sas", {"LM_LICENSE_FILE": "27000@licences"}),
    ]
    assert sorted(told[3:], key=lambda each: each[0]) == [
        (name, {"LM_LICENSE_FILE": "1@mine"}) for name in ("matlab", "other", "sas")
    ]


# --- several control planes ----------------------------------------------------------------------------------------


@pytest.fixture
def pair(short_leases: None, tmp_path: Path, postgres: Postgres) -> Iterator[tuple[Ground, Ground]]:
    """Two control planes of one home, one backend and one database."""
    backend = Shared(tmp_path / "home")
    url = postgres.create()
    made = [Ground(tmp_path / "home", tmp_path / "project", url, backend.seat()).start() for _ in range(2)]
    yield made[0], made[1]
    for each in made:
        each.close()


def test_two_control_planes_never_give_more_seats_than_there_are(pair: tuple[Ground, Ground]) -> None:
    first, second = pair
    seats(first, 2)
    first.play(fit={"delay": 0.01})
    ids = [plane.submit(fan(25)) for plane in pair]
    found: list[int] = []

    def all_ended() -> bool:
        found.append(open_attempts(second))
        return all(second.show(each).state == "succeeded" for each in ids)

    second.until(all_ended)
    assert max(found) <= 2
    assert most_at_once(first) == 2


def test_two_that_claim_at_once_share_the_seats(
    tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, backend = postgres.create(), Shared(tmp_path / "home")
    planes = [Ground(tmp_path / "home", tmp_path / "project", url, backend.seat()) for _ in range(2)]
    for each in planes:  # no engine: the test claims
        each.platform = Platform(home=each.home, database=Database(url), drivers={"local": each.driver})
    seats(planes[0], 3)
    for _ in range(10):
        planes[0].submit(FIT)
    taken = pools.taken

    def slowly(*of: Any) -> dict[str, int]:
        found = taken(*of)
        threading.Event().wait(0.2)  # the other counts meanwhile, if nothing keeps it
        return found

    monkeypatch.setattr(pools, "taken", slowly)
    begin = threading.Barrier(2)
    counts: list[int] = []

    def claim(ground: Ground) -> None:
        with ground.platform.database.write() as connection:
            begin.wait()
            # Fewer than there are, so that neither leaves the other none to look at.
            counts.append(len(claims.claim(ground.platform, connection, "local", 4, 60.0).launches))

    threads = [threading.Thread(target=claim, args=(each,)) for each in planes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 3, counts
    for each in planes:
        each.platform.database.close()


def test_a_seat_that_another_control_plane_gives_back_is_taken(pair: tuple[Ground, Ground]) -> None:
    first, second = pair
    seats(first, 1)
    first.play(fit={"delay": 0.3})
    ids = [plane.submit(FIT) for plane in (first, second, first, second)]
    runs_: list[RunDocument] = [second.wait(each) for each in ids]
    assert [states(run) for run in runs_] == [{"fit": "succeeded"}] * 4
    spans = sorted((task(run, "fit").started_at or "", task(run, "fit").finished_at or "") for run in runs_)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_what_a_killed_control_plane_held_is_given_back(pair: tuple[Ground, Ground]) -> None:
    first, second = pair
    seats(first, 1)
    first.play(fit={"delay": 0.5})
    ids = [first.submit(FIT) for _ in range(3)]
    first.until(lambda: open_attempts(second) == 1)
    first.close(killed=True)
    for each in ids:
        assert second.wait(each).state == "succeeded"
    assert pool(second).used == 0
    assert most_at_once(second) == 1
