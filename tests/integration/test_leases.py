"""Several control planes on one PostgreSQL share the work; one that is gone loses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from groundplane.client import Client
from groundplane.engine.errands import Errands
from groundplane.model.reasons import Reason
from groundplane.services import fetching, leases
from groundplane.services.platform import Platform
from groundplane.spi.launch import Launch
from groundplane.store import attempts, tasks
from groundplane.store.tables import control_planes
from tests.integration.conftest import end_agents
from tests.parts import require
from tests.planes import PATIENCE, Ground, Seat, Shared, task
from tests.postgres import Postgres

FAN = """
[pipelines.p.steps.a]
command = ["/fake/a"]
for_each = { n = [%s] }
[pipelines.p.steps.b]
command = ["/fake/b"]
after = ["a"]
"""


@pytest.fixture
def pair(short_leases: None, tmp_path: Path, postgres: Postgres) -> Iterator[tuple[Ground, Ground]]:
    """Two control planes of one home, one backend and one database."""
    backend = Shared(tmp_path / "home")
    url = postgres.create()
    made = [Ground(tmp_path / "home", tmp_path / "project", url, backend.seat()).start() for _ in range(2)]
    yield made[0], made[1]
    for each in made:
        each.close()


def test_one_that_is_killed_is_followed_by_the_other(pair: tuple[Ground, Ground]) -> None:
    first, second = pair
    second.play(a={"delay": 1.0}, b={"delay": 0.1})
    uid = first.submit(FAN % ", ".join(f'"{n}"' for n in range(6)))
    first.until_task(uid, "a[5]", "running")
    first.close(killed=True)
    run = second.wait(uid)
    assert run.state == "succeeded"
    assert [each.attempts for each in run.tasks] == [1] * 7
    assert Counter(second.starts(uid)) == Counter([*(f"0.{n}.1" for n in range(6)), "1.0.1"])


def test_one_that_ends_in_good_order_is_followed_at_once(pair: tuple[Ground, Ground]) -> None:
    first, second = pair
    second.play(a={"delay": 0.5})
    uid = first.submit(FAN % '"x"')
    first.until_task(uid, "a[0]", "running")
    first.close()
    assert second.wait(uid).state == "succeeded"
    assert len(second.starts(uid)) == 2


def test_a_lease_that_is_being_renewed_meanwhile_is_left_all_the_same(
    pair: tuple[Ground, Ground], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = pair
    begun, renewed = threading.Event(), threading.Event()
    renew = leases.renew

    def slowly(platform: Platform, site: str) -> bool:
        if platform is not first.platform:
            return renew(platform, site)
        begun.set()
        time.sleep(0.5)
        try:
            return renew(platform, site)
        finally:
            renewed.set()

    monkeypatch.setattr(leases, "renew", slowly)
    assert begun.wait(PATIENCE)
    first.close()
    assert renewed.wait(PATIENCE)
    with second.platform.database.read() as connection:
        known = select(control_planes.c.expires_at).where(control_planes.c.id == first.platform.holder)
        assert connection.execute(known).scalar_one_or_none() in (0, None)  # None: the second has cleared it away


def test_a_cancel_reaches_the_one_that_follows_the_work(pair: tuple[Ground, Ground]) -> None:
    first, second = pair
    first.play(a={"delay": 60})
    for here, there in ((first, second), (second, first)):
        uid = here.submit(FAN % '"x"')
        here.until_task(uid, "a[0]", "running")
        there.cancel(uid)
        assert here.wait(uid).state == "cancelled"


def test_a_lost_network_hands_the_work_over_and_the_old_holder_changes_nothing(pair: tuple[Ground, Ground]) -> None:
    first, second = pair
    assert first.backend
    first.play(a={"delay": 0.2, "exit": [1, 0]})
    second.driver.cut = True  # type: ignore[union-attr]
    uid = first.submit(FAN % '"x"')
    run = first.wait(uid)
    assert run.state == "failed"
    second.driver.cut = False  # type: ignore[union-attr]
    time.sleep(0.5)  # the second hears of what has long ended
    assert second.show(uid) == run


def test_a_holder_without_a_row_is_gone_too(pair: tuple[Ground, Ground]) -> None:
    """As when it was held up until its row was taken, claimed once more, and was killed."""
    first, second = pair
    second.play(a={"delay": 0.5})
    uid = first.submit(FAN % '"x"')
    first.until_task(uid, "a[0]", "running")
    first.close(killed=True)
    with second.platform.database.write() as connection:
        connection.exec_driver_sql("UPDATE attempts SET holder = 'nobody' WHERE state = 'running'")
        connection.exec_driver_sql(f"DELETE FROM control_planes WHERE id != '{second.platform.holder}'")
    assert second.wait(uid).state == "succeeded"
    assert second.starts(uid) == ["0.0.1", "1.0.1"]


def test_a_submit_of_a_former_holder_is_refused(pair: tuple[Ground, Ground]) -> None:
    first, second = pair
    second.play(a={"delay": 5.0})
    launched: list[Launch] = []
    assert second.backend
    accept = second.backend.submit

    def noting(launches: list[Launch]) -> object:
        launched.extend(launches)
        return accept(launches)

    second.backend.submit = noting  # type: ignore[method-assign, assignment]
    uid = first.submit(FAN % '"x"')
    first.until_task(uid, "a[0]", "running")
    holder = first if leases.held(first.platform) else second
    other = second if holder is first else first
    holder.close(killed=True)
    other.until(lambda: leases.held(other.platform))
    (row,) = leases.held(other.platform)
    assert row.epoch == 2
    # The backend hears of the new epoch with the first submit that repeats the attempt.
    assert accept([replace(launched[0], epoch=2)])[0].refused is None
    refused = accept([launched[0]])[0].refused
    assert isinstance(refused, Reason)
    assert refused.code == "stale"
    assert other.wait(uid).state == "succeeded"
    assert other.starts(uid) == ["0.0.1", "1.0.1"]


def test_urls_that_a_gone_one_was_fetching_are_fetched(
    pair: tuple[Ground, Ground], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = pair
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(Errands, "add", lambda self, errands: None)
        uid = first.submit('[pipelines.p.steps.a]\ncommand = ["/fake/a"]\ninputs = { "x" = "http://127.0.0.1:9/x" }\n')
        with first.platform.database.read() as connection:
            first.until(lambda: tasks.with_ready(connection, 2, ""))
        first.close(killed=True)
    run = second.wait(uid)
    assert run.reason is not None
    assert run.reason.code == "missing_input"  # nothing listens there


class Sited(Seat):
    """Its work, snapshots and credentials lie in one home."""

    def __init__(self, backend: Shared, site: str) -> None:
        super().__init__(backend)
        self.site = site


def test_what_lies_in_another_home_is_left_alone(
    tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, project = postgres.create(), tmp_path / "project"
    here, there = (
        Ground(tmp_path / name, project, url, Sited(Shared(tmp_path / name), name)).start()
        for name in ("here", "there")
    )
    here.play(a={"delay": 60})
    running = here.submit('[pipelines.p.steps.a]\ncommand = ["/fake/a"]\n')
    here.until_task(running, "a", "running")
    monkeypatch.setattr(Errands, "add", lambda self, errands: None)
    here.submit('[pipelines.p.steps.b]\ncommand = ["/fake/b"]\ninputs = { "x" = "http://127.0.0.1:9/x" }\n')
    here.until(lambda: fetching.unfinished(here.platform, "here"))
    assert fetching.unfinished(there.platform, "there") == []
    with there.platform.database.write() as connection:
        ever = 2**62
        assert attempts.adopt(connection, there.platform.holder, "there", ever) == 0
        assert tasks.claimable(connection, "local", "there", 9) == []
        assert attempts.adopt(connection, there.platform.holder, "here", ever) == 1
    for each in (here, there):
        each.close()


# --- two processes ------------------------------------------------------------------------------------------------

_PROCESS = """
import sys
from groundplane import bootstrap
from groundplane.services import leases
leases.DURATION = 2.5
sys.exit(bootstrap.main(sys.argv[1:]))
"""


@pytest.fixture
def start(tmp_path: Path, postgres: Postgres) -> Iterator[Callable[[], tuple[subprocess.Popen[bytes], Client]]]:
    """Starts control planes of one home on one PostgreSQL."""
    home, url = tmp_path / "home", postgres.create()
    processes: list[subprocess.Popen[bytes]] = []
    token = tmp_path / "token"
    token.write_text("t" * 40)

    def begin() -> tuple[subprocess.Popen[bytes], Client]:
        log = tmp_path / f"control{len(processes)}.log"
        argv = [sys.executable, "-c", _PROCESS, "--home", str(home), "--database", url, "--port", "0"]
        argv += ["--token-file", str(token)]
        with log.open("wb") as output:
            process = subprocess.Popen(argv, stderr=output, stdin=subprocess.DEVNULL)
        processes.append(process)
        deadline = time.monotonic() + PATIENCE
        while "control plane answers" not in (text := log.read_text()):
            assert process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.02)
        return process, Client(text.partition(" url=")[2].split()[0], token.read_text(), home=home)

    yield begin
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        process.wait(timeout=20)
    end_agents(home)


def test_two_processes_one_killed(start: Callable[[], tuple[subprocess.Popen[bytes], Client]], tmp_path: Path) -> None:
    first, to_first = start()
    _, to_second = start()
    require("bubblewrap")  # over TCP nobody is the socket's owner
    project = tmp_path / "project"
    project.mkdir()
    steps = "".join(
        f"[pipelines.p.steps.s{i}]\ncommand = ['sh', '-c', 'echo begin {i}; sleep 0.2; "
        f"echo end {i}']\n" + (f'after = ["s{i - 2}"]\n' if i > 1 else "")
        for i in range(12)
    )
    ground = Ground(tmp_path / "home", project, "", Shared().seat())
    with to_first, to_second:
        run = to_first.submit(ground.request(steps))
        time.sleep(0.5)
        os.kill(first.pid, signal.SIGKILL)
        done = to_second.wait(run.id)
        lines = Counter((line.task, line.text) for line in to_second.logs(run.id))
    assert done.state == "succeeded", done.reason
    assert all(each.attempts == 1 for each in done.tasks)
    assert lines == Counter((f"s{i}", f"{word} {i}") for i in range(12) for word in ("begin", "end"))
    assert task(done, "s11").exit_code == 0
