"""The agent's own life: two starters, kill -9, an upgrade in place, a full disk, a torn log."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from groundplane.drivers.agent_channel import connect
from groundplane.drivers.local import LocalDriver
from groundplane.model.errors import Unavailable
from groundplane.model.resources import Resources
from groundplane.spi import agent as protocol
from groundplane.spi import layout, segments
from groundplane.spi.launch import Phase
from tests.conformance.driver_bench import launch
from tests.integration.agent_bench import AgentBench, agent_bench, agents_of, alive, eventually
from tests.parts import require


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[AgentBench]:
    with agent_bench(tmp_path / "home") as made:
        yield made


def test_two_starters_get_one_agent(tmp_path: Path) -> None:
    home = tmp_path / "home"
    drivers = [LocalDriver(home) for _ in range(4)]
    pids: list[str] = []
    threads = [threading.Thread(target=lambda d=d: pids.append(d.check().facts["agent_pid"])) for d in drivers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 4
    assert len(set(pids)) == 1
    eventually(lambda: agents_of(home) == [int(pids[0])])  # those that came second are on their way out
    drivers[0].shutdown(end_work=True)
    for driver in drivers:
        driver.close()
    eventually(lambda: not agents_of(home))


def test_the_agent_outlives_its_starter(tmp_path: Path) -> None:
    home = tmp_path / "home"
    code = "import sys; from pathlib import Path; from groundplane.drivers.local import LocalDriver\n"
    code += "print(LocalDriver(Path(sys.argv[1])).check().facts['agent_pid'])"
    done = subprocess.run([sys.executable, "-I", "-c", code, str(home)], capture_output=True, text=True, check=True)
    with agent_bench(home) as bench:
        assert bench.agent_pid == int(done.stdout)
        assert os.getsid(bench.agent_pid) != os.getsid(0)


def test_sockets_and_folders_are_private(bench: AgentBench) -> None:
    bench.driver.check()
    path = layout.agent_socket(bench.home)
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_another_user_is_refused() -> None:
    require("root")
    base = Path(tempfile.mkdtemp())
    try:
        with agent_bench(base / "home") as bench:
            assert bench.driver.check().ok
            path = layout.agent_socket(bench.home)
            for each in (base, bench.home, path.parent, path):  # as careless as can be: the agent still looks who it is
                each.chmod(0o777)
            code = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.recv(1))"
            argv = ["/usr/bin/python3", "-I", "-c", code, str(path)]
            done = subprocess.run(argv, capture_output=True, text=True, check=False, user=65534)
            assert done.stdout == "b''\n", done
            path.parent.chmod(0o700)
    finally:
        shutil.rmtree(base)


def test_a_line_that_is_no_message_is_answered(bench: AgentBench) -> None:
    bench.driver.check()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(layout.agent_socket(bench.home)))
        sock.sendall(b'nonsense\n{"id": 7, "kind": "unheard-of", "body": {}}\n')
        text = b""
        while text.count(b"\n") < 2:
            text += sock.recv(4096)
    assert all(isinstance(protocol.decode(line)[1], protocol.Failed) for line in text.splitlines())
    assert bench.driver.check().ok


def test_a_submit_that_comes_too_late_is_refused(bench: AgentBench) -> None:
    bench.driver.check()
    late = replace(launch("true"), deadline=5.0)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(layout.agent_socket(bench.home)))
        sock.sendall(protocol.encode(1, protocol.Submit((late,), time.monotonic() - 6.0)))
        _, answer = protocol.decode(sock.makefile("rb").readline())
    assert isinstance(answer, protocol.Submitted)
    assert answer.submissions[0].refused is not None
    assert answer.submissions[0].refused.code == "stale"


def test_what_was_alive_is_ended_and_lost_when_the_agent_is_killed(bench: AgentBench, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    ended, unknown = launch("echo done"), None
    told = bench.run(ended)
    cores = len(os.sched_getaffinity(0))
    script = f"echo $$ >> {pids}; (setsid sleep 100 & echo $! >> {pids}); env -i sleep 101 & echo $! >> {pids}; "
    script += "echo up; wait"
    running = launch(script, resources=Resources(cpus=cores))
    unknown = launch("echo never")
    bench.submit(running, unknown)
    eventually(lambda: bench.output(running) == b"up\n")
    before = bench.kill_agent()
    lost, kept, forgotten = bench.driver.observe([running.attempt, ended.attempt, unknown.attempt])
    assert bench.agent_pid != before
    assert not any(alive(int(pid)) for pid in pids.read_text().split())
    assert lost.phase is Phase.LOST
    assert lost.reason is not None
    assert lost.reason.fault == "platform"
    assert kept == told
    assert forgotten.phase is Phase.UNKNOWN
    assert bench.output(running) == b"up\n"
    bench.submit(unknown)
    bench.until(unknown.attempt, Phase.ENDED)


def test_followers_hear_of_lost_work_from_the_next_agent(bench: AgentBench) -> None:
    running = launch("sleep 100")
    bench.submit(running)
    bench.until(running.attempt, Phase.RUNNING)
    bench.kill_agent()
    assert bench.until(running.attempt, Phase.LOST).attempt == running.attempt


def test_a_cleaned_up_attempt_is_stale_for_the_next_agent_too(bench: AgentBench) -> None:
    wanted = launch("true")
    bench.run(wanted)
    bench.driver.cleanup([wanted.attempt])
    bench.kill_agent()
    (answer,) = bench.driver.submit([wanted])
    assert answer.refused is not None
    assert answer.refused.code == "stale"


def test_a_pid_that_is_somebody_elses_is_left_alone(bench: AgentBench) -> None:
    bench.driver.check()
    bench.kill_agent()
    stranger = subprocess.Popen(["sleep", "100"], start_new_session=True)
    try:
        journal = bench.home / "agent" / "journal.jsonl"
        with journal.open("a") as file:
            for line in (
                {"t": "accepted", "attempt": "old", "epoch": 1, "run": "run"},
                {"t": "starting", "attempt": "old"},
                {"t": "started", "attempt": "old", "pid": stranger.pid, "ticks": 1},
            ):
                file.write(json.dumps(line) + "\n")
            file.write('{"t":"ended","att')
        assert bench.driver.observe(["old"])[0].phase is Phase.LOST
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_torn_record_is_cut_before_more_is_written(bench: AgentBench) -> None:
    first = launch("echo first; sleep 100")
    bench.submit(first)
    eventually(lambda: bench.output(first) == b"first\n")
    bench.kill_agent()
    (path,) = layout.segments(bench.home, "run").glob("*.seg")
    whole = path.stat().st_size
    with path.open("ab") as file:
        file.write(segments.encode(segments.Record("task", first.attempt, 0, 1, b"torn\n"))[:-2])
    second = launch("echo second")
    bench.run(second)
    assert bench.output(first) == b"first\n"
    assert bench.output(second) == b"second\n"
    assert path.read_bytes()[:whole] == path.read_bytes()[:whole]


def test_a_newer_version_takes_over_in_place_and_work_runs_on(bench: AgentBench, tmp_path: Path) -> None:
    go = tmp_path / "go"
    cores = len(os.sched_getaffinity(0))
    script = f"echo one; printf half; while [ ! -e {go} ]; do sleep 0.02; done; echo -line; echo two; exit 5"
    running = launch(script, resources=Resources(cpus=cores), env={"X": "1"})
    waiting = launch("echo waited")
    bench.submit(running, waiting)
    eventually(lambda: bench.output(running) == b"one\nhalf")
    pid = bench.agent_pid
    log = bench.home / "agent" / "agent.log"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(layout.agent_socket(bench.home)))
        sock.sendall(protocol.encode(1, protocol.Hello(protocol.PROTOCOL, "99.0", sys.executable)))
        _, answer = protocol.decode(sock.makefile("rb").readline())
        assert isinstance(answer, protocol.Welcome)
        assert answer.handing_over
        eventually(lambda: log.read_text().count(" serves ") == 2)
    assert bench.agent_pid == pid
    assert [told.phase for told in bench.driver.observe([running.attempt, waiting.attempt])] == [
        Phase.RUNNING,
        Phase.ACCEPTED,
    ]
    go.touch()
    told = bench.until(running.attempt, Phase.ENDED)
    assert (told.exit_code, told.stdout) == (5, "one\nhalf-line\ntwo\n")
    assert bench.output(running) == b"one\nhalf-line\ntwo\n"
    assert bench.until(waiting.attempt, Phase.ENDED).stdout == "waited\n"
    assert agents_of(bench.home) == [pid]


def test_a_successor_that_cannot_be_started_changes_nothing(bench: AgentBench) -> None:
    bench.driver.check()
    pid = bench.agent_pid
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(layout.agent_socket(bench.home)))
        sock.sendall(protocol.encode(1, protocol.Hello(protocol.PROTOCOL, "99.0", "/no/such/python")))
        sock.makefile("rb").readline()
    assert bench.run(launch("true")).exit_code == 0
    assert bench.agent_pid == pid


def test_shutdown_ends_the_work_and_its_results_wait_for_the_next(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with agent_bench(home) as bench:
        running = launch("sleep 100")
        bench.submit(running)
        bench.until(running.attempt, Phase.RUNNING)
        ending = LocalDriver(home)
        ending.shutdown(end_work=True)
        eventually(lambda: not agents_of(home))
        with pytest.raises(Unavailable, match="told to end"):  # who ended it does not start another
            ending.check()
        ending.close()
        (told,) = bench.driver.observe([running.attempt])
        assert told.reason is not None
        assert (told.phase, told.reason.code) == (Phase.ENDED, "lost")


def test_a_driver_that_closes_starts_no_agent(tmp_path: Path) -> None:
    home = tmp_path / "home"
    driver = LocalDriver(home)
    driver.check()
    (pid,) = agents_of(home)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not alive(pid))
    driver.close()
    with pytest.raises(Unavailable, match="closed"):
        driver.changes("", 0.1)
    with pytest.raises(Unavailable, match="none is started"):
        connect(home, lambda: False)
    assert agents_of(home) == []


def test_an_idle_agent_ends_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUND_IDLE", "0.3")
    home = tmp_path / "home"
    driver = LocalDriver(home)
    assert driver.check().ok
    (pid,) = agents_of(home)
    driver.close()
    eventually(lambda: not alive(pid))
    assert not layout.agent_socket(home).exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    require("root")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_ends_work_with_a_reason_and_recovers(small_disk: Path) -> None:
    with agent_bench(small_disk / "home") as bench:
        assert bench.driver.check().ok
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(40 << 20))
        wanted = launch("cat /dev/zero")
        bench.submit(wanted)
        eventually(lambda: shutil.disk_usage(small_disk).free < 1 << 20)
        (answer,) = bench.driver.submit([launch("true")])
        assert answer.refused is not None
        assert answer.refused.code == "no_space"
        ballast.unlink()
        told = bench.until(wanted.attempt, Phase.ENDED)
        assert told.reason is not None
        assert (told.reason.code, told.reason.fault) == ("no_space", "platform")
        assert len(bench.output(wanted)) > 20 << 20  # whole records up to there
        again = launch("echo on")
        bench.run(again)
        assert bench.output(again) == b"on\n"


def test_an_output_that_has_no_room_is_no_space(small_disk: Path, tmp_path: Path) -> None:
    with agent_bench(small_disk / "home") as bench:
        script = "head -c 43000000 /dev/zero > a; ln a b"
        told = bench.run(launch(script, outputs=("a",)))
        assert told.reason is not None
        assert (told.reason.code, told.reason.fault) == ("no_space", "platform")
        assert told.outputs == ()
        bench.driver.cleanup([told.attempt])
        eventually(lambda: shutil.disk_usage(small_disk).free > 60 << 20)
        assert bench.run(launch("echo x > a", outputs=("a",))).reason is None


def test_signals_for_the_agent_do_not_reach_the_work(bench: AgentBench) -> None:
    told = bench.run(launch("grep SigIgn /proc/self/status"))
    ignored = int(told.stdout.split()[1], 16)
    assert ignored & 0x7FFFFFFF == 0  # what is above is the C library's own
