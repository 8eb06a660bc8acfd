"""What becomes of work in containers when the engine, its process, the agent or the control plane is killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from groundplane.drivers.docker_usage import processes_of
from tests.cut_socket import cut
from tests.docker_drill import Daemon, daemon, tiny_image
from tests.docker_killing import Killing
from tests.e2e.cli_ground import Ground, until
from tests.integration.agent_bench import agents_of

COUNT = "i=0; while [ $i -lt 70 ]; do i=$((i+1)); echo line $i; printf 'half'; sleep 0.05; echo ' and half'; done"
COUNTED = Counter([f"line {i}" for i in range(1, 71)] + ["half and half"] * 70)


@pytest.fixture
def drill(tmp_path: Path) -> Iterator[Callable[..., tuple[Daemon, Ground]]]:
    """Makes an engine, and a control plane that works with it."""
    with ExitStack() as stack:

        def make(**options: Any) -> tuple[Daemon, Ground]:
            engine = stack.enter_context(daemon(tmp_path / "docker", **options))
            ground = Ground(tmp_path / "ground", DOCKER_HOST=engine.url)
            stack.callback(ground.close)
            tiny_image(ground.home)
            return engine, ground

        yield make


def start(ground: Ground, engine: Daemon, text: str) -> str:
    """Starts a script in a container; the run's id, once it runs."""
    ground.write("do.sh", text)
    run = ground.json("run", "do.sh", "--on", "docker", "--fresh", "--detach")["id"]
    until(engine.running, "its container runs")
    return run


def ended(ground: Ground, run: str, seconds: float = 60) -> Any:
    """The run's document, once it has ended."""
    final = ("succeeded", "failed", "cancelled", "lost")
    until(lambda: ground.json("runs", "show", run)["state"] in final, "it has ended", seconds)
    return ground.json("runs", "show", run)


def lines(ground: Ground, run: str) -> Counter[str]:
    return Counter(ground("runs", "logs", run).stdout.splitlines())


def followers(ground: Ground) -> list[int]:
    """The processes that stand for containers."""
    words = subprocess.run(["pgrep", "-f", f"docker_container.*{ground.home}"], capture_output=True, text=True).stdout
    return [int(pid) for pid in words.split()]


# --- on this side ---------------------------------------------------------------------------------------------------


def test_the_control_plane_is_killed(drill: Callable[..., tuple[Daemon, Ground]]) -> None:
    engine, ground = drill()
    run = start(ground, engine, COUNT)
    os.kill(ground.pid(), signal.SIGKILL)
    time.sleep(0.5)
    found = ended(ground, run)
    assert (found["state"], found["tasks"][0]["attempts"]) == ("succeeded", 1)
    assert lines(ground, run) == COUNTED
    engine.ended()


def test_the_agent_is_killed(drill: Callable[..., tuple[Daemon, Ground]]) -> None:
    engine, ground = drill()
    marks = "echo begun >> /dev/stderr; sleep 3; echo over"
    run = start(ground, engine, marks)
    (agent,) = agents_of(ground.home)
    os.kill(agent, signal.SIGKILL)
    most = 0
    while ground.json("runs", "show", run)["state"] not in ("succeeded", "failed"):
        most = max(most, len(engine.running()))
    found = ground.json("runs", "show", run)
    assert (found["state"], found["tasks"][0]["attempts"]) == ("succeeded", 2)
    assert most == 1, "two attempts ran beside each other"
    assert lines(ground, run)["over"] == 1
    engine.ended()


def test_all_of_this_side_is_killed_and_nobody_comes_back(drill: Callable[..., tuple[Daemon, Ground]]) -> None:
    engine, ground = drill()
    start(ground, engine, "sleep 60")
    pids = [ground.pid(), *agents_of(ground.home)]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not engine.containers(), "no container is left", 5)


def test_the_process_of_a_container_is_killed(drill: Callable[..., tuple[Daemon, Ground]]) -> None:
    engine, ground = drill()
    run = start(ground, engine, "sleep 2; echo over")
    for pid in followers(ground):
        os.kill(pid, signal.SIGKILL)
    found = ended(ground, run)
    assert (found["state"], found["tasks"][0]["attempts"]) == ("succeeded", 2)
    assert lines(ground, run)["over"] == 1
    engine.ended()


# --- by hand --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("rm", "-f"), ("stop", "-t", "1"), ("kill",)])
def test_somebody_ends_its_container(drill: Callable[..., tuple[Daemon, Ground]], words: tuple[str, ...]) -> None:
    engine, ground = drill()
    run = start(ground, engine, "trap 'exit 5' TERM; while :; do sleep 0.1; done")
    subprocess.run(["docker", "-H", engine.url, *words, engine.running()[0]], check=True, capture_output=True)
    found = ended(ground, run)
    reason = found["tasks"][0]["reason"]
    assert (found["state"], found["tasks"][0]["attempts"]) == ("failed", 1)
    assert (reason["code"], reason["fault"]) == ("stopped_outside", "user"), reason
    engine.ended()


# --- the engine -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_engine_whose_containers_outlive_it(
    drill: Callable[..., tuple[Daemon, Ground]], number: signal.Signals
) -> None:
    engine, ground = drill(live_restore=True)
    run = start(ground, engine, COUNT)
    time.sleep(0.7)
    engine.kill(number)
    time.sleep(0.5)
    engine.start()
    found = ended(ground, run)
    assert (found["state"], found["tasks"][0]["attempts"]) == ("succeeded", 1), found["tasks"][0]
    assert lines(ground, run) == COUNTED
    engine.ended()


def test_an_engine_that_is_killed_again_and_again(drill: Callable[..., tuple[Daemon, Ground]]) -> None:
    engine, ground = drill(live_restore=True)
    run = start(ground, engine, COUNT.replace("-lt 70", "-lt 120").replace("printf 'half'", "echo half"))
    for _ in range(4):
        time.sleep(0.6)
        engine.kill()
        time.sleep(0.1)
        engine.start()
    found = ended(ground, run)
    assert (found["state"], found["tasks"][0]["attempts"]) == ("succeeded", 1), found["tasks"][0]
    assert lines(ground, run) == Counter([f"line {i}" for i in range(1, 121)] + ["half", " and half"] * 120)


def test_work_that_ends_while_the_engine_is_away(drill: Callable[..., tuple[Daemon, Ground]]) -> None:
    code = 7
    engine, ground = drill(live_restore=True)
    run = start(ground, engine, f"echo begun; sleep 1; echo over; exit {code}")
    time.sleep(0.3)
    engine.kill()
    time.sleep(1.5)
    engine.start()
    found = ended(ground, run)
    assert (found["tasks"][0]["exit_code"], found["tasks"][0]["attempts"]) == (code, 1), found["tasks"][0]
    said = ground("runs", "logs", run)
    assert said.stdout.count("begun") == 1
    # An engine drops what was printed while it was away by what has ended since.
    assert "over" in said.stdout or "its last lines may be missing" in said.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, 0), (signal.SIGTERM, 0), (signal.SIGTERM, 1)])
def test_an_engine_that_takes_its_containers_along(
    drill: Callable[..., tuple[Daemon, Ground]], number: signal.Signals, code: int
) -> None:
    engine, ground = drill()
    run = start(
        ground,
        engine,
        f"trap 'echo told; exit {code}' TERM; i=0; while [ $i -lt 20 ]; do i=$((i+1)); sleep 0.1; done; echo over",
    )
    time.sleep(0.3)
    engine.kill(number)
    time.sleep(0.5)
    engine.start()
    found = ended(ground, run)
    assert (found["state"], found["tasks"][0]["attempts"]) == ("succeeded", 2), found["tasks"][0]
    assert lines(ground, run)["over"] == 1
    engine.ended()


@pytest.mark.parametrize("reaches", [False, True])
@pytest.mark.parametrize("request_line", [b"/create?", b"/attach?", b"/start "])
def test_an_engine_that_does_not_say_what_it_did(tmp_path: Path, request_line: bytes, reaches: bool) -> None:
    with ExitStack() as stack:
        engine = stack.enter_context(daemon(tmp_path / "docker", live_restore=True))
        before = engine.socket.with_name("cut.sock")
        lossy = stack.enter_context(cut(before, engine.socket, request_line, reaches=reaches))
        ground = Ground(tmp_path / "ground", DOCKER_HOST=f"unix://{before}")
        stack.callback(ground.close)
        tiny_image(ground.home)
        ground.write("do.sh", "echo begun; sleep 1; printf over")
        run = ground.json("run", "do.sh", "--on", "docker", "--fresh")
        assert (run["state"], run["tasks"][0]["attempts"]) == ("succeeded", 1), run["reason"]
        assert lines(ground, run["id"]) == Counter(["begun", "over"])
        assert lossy.cuts == 1
        engine.ended()


def test_what_was_copied_is_not_copied_again_when_the_engine_is_late_to_tell_its_time(tmp_path: Path) -> None:
    with ExitStack() as stack:
        engine = stack.enter_context(daemon(tmp_path / "docker", live_restore=True))
        before = engine.socket.with_name("cut.sock")
        late = stack.enter_context(cut(before, engine.socket, b"/info", late=0.4))
        ground = Ground(tmp_path / "ground", DOCKER_HOST=f"unix://{before}")
        stack.callback(ground.close)
        tiny_image(ground.home)
        run = start(ground, engine, COUNT)
        time.sleep(0.7)
        asked = late.cuts
        engine.kill()
        engine.start()
        found = ended(ground, run)
        assert (found["state"], found["tasks"][0]["attempts"]) == ("succeeded", 1), found["tasks"][0]
        assert late.cuts > asked
        assert lines(ground, run) == COUNTED
        engine.ended()


def test_the_processes_of_a_container_are_found(drill: Callable[..., tuple[Daemon, Ground]]) -> None:
    engine, ground = drill()
    run = start(ground, engine, "sleep 60 & sleep 60")
    (found,) = engine.containers()
    top = engine.call("GET", f"/containers/{found['Id']}/top", {"ps_args": "-eo pid"})
    assert sorted(processes_of(found["Id"])) == sorted(int(pid) for (pid,) in top["Processes"])
    assert not processes_of("0" * 64)
    ground("runs", "cancel", run)
    engine.ended()


def test_an_engine_that_is_away_is_said_at_once(drill: Callable[..., tuple[Daemon, Ground]]) -> None:
    engine, ground = drill()
    ground.write("do.sh", "true")
    ground("status")
    engine.kill()
    began = time.monotonic()
    run = ground.json("run", "do.sh", "--on", "docker", code=3)
    assert time.monotonic() - began < 5
    assert (run["state"], run["reason"]["code"], run["reason"]["fault"]) == ("failed", "backend_unavailable", "backend")
    assert ground.json("runs", "show", "latest")["id"] == run["id"]


def test_an_engine_that_hangs_is_said_soon(drill: Callable[..., tuple[Daemon, Ground]]) -> None:
    engine, ground = drill()
    ground.write("do.sh", "true")
    ground("status")
    os.kill(engine.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        run = ground.json("run", "do.sh", "--on", "docker", code=3)
        assert time.monotonic() - began < 8
        assert run["reason"]["code"] == "backend_unavailable"
    finally:
        os.kill(engine.pid, signal.SIGCONT)


def test_an_engine_that_goes_away_between_two_steps_is_waited_for(drill: Callable[..., tuple[Daemon, Ground]]) -> None:
    engine, ground = drill()
    ground.write("one.sh", "echo 1 > one.txt")
    ground.write("wait.sh", "while [ ! -e %s/go ]; do sleep 0.1; done; cp one.txt two.txt" % ground.work)  # noqa: UP031
    ground.write("two.sh", "cat two.txt")
    ground.write(
        "ground.toml",
        '[project]\nname = "trial"\n[pipelines.p]\n'
        '[pipelines.p.steps.one]\nrun = "one.sh"\non = "docker"\noutputs = ["one.txt"]\n'
        '[pipelines.p.steps.wait]\nrun = "wait.sh"\ninputs = {"one.txt" = "one/one.txt"}\noutputs = ["two.txt"]\n'
        '[pipelines.p.steps.two]\nrun = "two.sh"\non = "docker"\ninputs = {"two.txt" = "wait/two.txt"}\n',
    )
    run = ground.json("run", "p", "--fresh", "--detach")["id"]
    until(lambda: ground.json("runs", "show", run)["tasks"][1]["state"] == "running", "the second step runs")
    engine.kill()
    ground.write("go", "")
    until(lambda: ground.json("runs", "show", run)["tasks"][1]["state"] == "succeeded", "the second step is over")
    time.sleep(2)
    engine.start()
    found = ended(ground, run)
    assert found["state"] == "succeeded", found["reason"]


def test_an_image_that_somebody_removed_is_brought_again(drill: Callable[..., tuple[Daemon, Ground]]) -> None:
    engine, ground = drill()
    ground.write("do.sh", "true")
    ground("run", "do.sh", "--on", "docker", "--fresh")
    engine.ended()
    subprocess.run(["docker", "-H", engine.url, "image", "prune", "-af"], check=True, capture_output=True)
    assert not engine.call("GET", "/images/json")
    run = ground.json("run", "do.sh", "--on", "docker", "--fresh")
    assert run["state"] == "succeeded", run["reason"]
    assert run["tasks"][0]["attempts"] <= 2


def test_an_engine_whose_disk_is_full_says_so(drill: Callable[..., tuple[Daemon, Ground]], tmp_path: Path) -> None:
    data = tmp_path / "docker" / "data"
    data.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", str(data)], check=True)
    _, ground = drill()
    ground.write("do.sh", "true")
    run = ground.json("run", "do.sh", "--on", "docker", "--fresh", code=3)
    assert run["reason"]["code"] == "no_space", run["reason"]
    assert "space" in run["reason"]["message"]


def test_killed_at_random_instants(tmp_path: Path) -> None:
    killing = Killing(tmp_path, seed=random.randrange(10**6))
    try:
        for _ in range(3):
            killing.round(most=4)
        assert sum(killing.kills.values()) >= 6
    finally:
        killing.close()
