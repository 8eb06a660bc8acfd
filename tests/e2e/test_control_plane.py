"""The control plane's process: when it ends, when it comes back, and that there is never a second one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli_ground import Ground, alive, until
from tests.integration.agent_bench import agents_of


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    made = Ground(tmp_path)
    yield made
    made.close()


def bootstrap(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A control plane that is expected not to come up."""
    argv = [sys.executable, "-m", "groundplane.bootstrap", *words]
    return subprocess.run(argv, env={**os.environ, **env}, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("what", ["run/control.sock", "run"])
def test_one_that_nobody_can_reach_comes_back_with_its_options(ground: Ground, what: str) -> None:
    ground("up", "--port", "0")
    before = ground.json("status")
    gone = ground.home / what
    if gone.is_dir():
        shutil.rmtree(gone)
    else:
        gone.unlink()
    until(
        lambda: (ground.home / "run" / "control.json").exists() and (ground.home / "run" / "control.sock").exists(), ""
    )
    after = ground.json("status")
    assert after["pid"] == before["pid"]  # it became itself again, in the same process
    assert after["url"] is not None
    assert ground.json("run", str(ground.write("a.sh", "echo hello")))["state"] == "succeeded"


def test_one_whose_socket_was_replaced_takes_it_back(ground: Ground) -> None:
    pid = ground.pid()
    path = ground.home / "run" / "control.sock"
    path.unlink()
    path.touch()
    until(path.is_socket, "the socket to be back")
    assert ground.json("status")["pid"] == pid


def test_one_whose_home_was_deleted_ends(ground: Ground) -> None:
    status = ground.json("status")
    pid, agent = status["pid"], status["agent_pid"]
    shutil.rmtree(ground.home, ignore_errors=True)
    until(lambda: not alive(pid) and not alive(agent), "both to end")
    assert not (ground.home / "control.lock").exists()  # it did not make a new one
    assert ground.pid() != pid


def test_a_private_one_ends_when_there_is_nothing_to_do_and_its_agent_too(tmp_path: Path) -> None:
    ground = Ground(tmp_path, GROUND_IDLE="1")
    ground.write("nap.sh", "sleep 2.5")
    ground("run", "nap.sh", "--detach")
    found = ground.json("status")
    pids = [found["pid"], found["agent_pid"]]
    time.sleep(1.8)
    assert alive(pids[0])  # it has work, though nobody asks
    until(lambda: not any(alive(pid) for pid in pids), "both to end")
    assert not (ground.home / "run" / "control.sock").exists()
    assert ground.json("runs", "show", "latest")["state"] == "succeeded"
    ground.close()


def test_one_that_was_started_by_hand_does_not_end_by_itself(tmp_path: Path) -> None:
    ground = Ground(tmp_path, GROUND_IDLE="0.5")
    ground("up", "--port", "0")
    pid = ground.pid()
    time.sleep(1.5)
    assert alive(pid)
    ground.close()


def test_a_second_one_in_the_same_home_is_refused_at_once(ground: Ground) -> None:
    ground.pid()
    began = time.monotonic()
    done = bootstrap("--home", str(ground.home), "--port", "0")
    assert done.returncode == 3
    assert "another control plane has" in done.stderr
    assert "hint: " in done.stderr
    assert time.monotonic() - began < 10


def test_a_second_one_on_the_same_sqlite_file_is_refused(ground: Ground, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shared.db"
    ground("up", "--port", "0", "--database", url)
    done = bootstrap("--home", str(tmp_path / "other"), "--port", "0", "--database", url)
    assert done.returncode == 3
    assert f"another control plane has {tmp_path}/shared.db" in done.stderr


def test_a_next_one_waits_for_one_that_is_ending(ground: Ground) -> None:
    """Its socket is gone or answers nobody, its lock is still held."""
    ground.pid()
    ground("down")
    script = (
        "import fcntl, os, sys, time\n"
        f"lock = os.open({str(ground.home / 'control.lock')!r}, os.O_RDWR)\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\nprint('held', flush=True)\ntime.sleep(3)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        holder.stdout.readline()
        assert ground.json("status")["pid"] != holder.pid


def test_with_the_work_its_agent_ends_though_other_backends_use_it(ground: Ground) -> None:
    """They follow it too, and start it again where it has ended by itself."""
    ground("up", "--port", "0")
    ground("backends", "add", "large", "--driver", "fake")
    ground("run", str(ground.write("a.sh", "true")), "--on", "large")
    assert agents_of(ground.home)
    ground("down", "--stop")
    until(lambda: not agents_of(ground.home), "the agent to end")


def test_a_home_with_a_long_name(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    ground = Ground(tmp_path / ("long" * 30), XDG_RUNTIME_DIR=str(tmp_path_factory.mktemp("r")))
    assert ground("run", str(ground.write("a.sh", "echo hello"))).stdout == "hello\n"
    pid = ground.pid()
    assert ground.pid() == pid
    assert not (ground.home / "run").exists()
    ground.close()


def test_sigterm_ends_it_in_good_order(ground: Ground) -> None:
    pid = ground.pid()
    os.kill(pid, signal.SIGTERM)
    until(lambda: not alive(pid), "it to end")
    assert not (ground.home / "run" / "control.sock").exists()
    log = (ground.home / "control.log").read_text()
    assert "control plane ended" in log
    assert "Traceback" not in log
