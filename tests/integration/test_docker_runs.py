"""Work in containers of a real engine, as a user sees it."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docker_drill import Daemon, daemon, tiny_image
from tests.e2e.cli_ground import Ground, until


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("docker")) as running:
        yield running


@pytest.fixture(scope="module")
def home(engine: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """One control plane for all of them."""
    made = Ground(tmp_path_factory.mktemp("ground"), DOCKER_HOST=engine.url)
    tiny_image(made.home)
    yield made
    made.close()


@pytest.fixture
def ground(home: Ground, engine: Daemon, tmp_path: Path) -> Iterator[Ground]:
    """A folder of one's own; no container is left behind."""
    home.work = tmp_path / "work"
    home.work.mkdir()
    yield home
    engine.ended()


def script(ground: Ground, text: str, *words: str, code: int = 0, name: str = "do.sh") -> Any:
    """Runs a script in a container; the run's document."""
    ground.write(name, text)
    return ground.json("run", name, "--on", "docker", "--fresh", *words, code=code)


def printed(ground: Ground, text: str, *words: str, code: int = 0) -> str:
    """What a script prints that runs in a container."""
    ground.write("do.sh", text)
    return ground("run", "do.sh", "--on", "docker", "--fresh", *words, code=code).stdout


def pipeline(ground: Ground, steps: str, more: str = "", *words: str, code: int = 0) -> Any:
    """Runs a pipeline of steps whose environment is the shell's; its document."""
    ground.write(
        "ground.toml",
        f'[project]\nname = "trial"\nenvironment = "sh"\n{more}\n[environments.sh]\ntoolchain = "shell"\n'
        f"[pipelines.p]\n{steps}",
    )
    return ground.json("run", "p", "--fresh", *words, code=code)


def step(name: str, text: str, more: str = "") -> str:
    return f"[pipelines.p.steps.{name}]\ncommand = ['sh', '-c', '''{text}''']\n{more}\n"


# --- how it ends ----------------------------------------------------------------------------------------------------


def test_exit_codes_and_signals_are_as_anywhere(ground: Ground) -> None:
    run = script(ground, "echo fine")
    assert (run["state"], run["tasks"][0]["exit_code"], run["backend"]) == ("succeeded", 0, "docker")
    for text, code in (("exit 3", 3), ("kill -TERM $$", 143), ("kill -KILL $$", 137), ("no-such-program", 127)):
        run = script(ground, text, code=1)
        (task,) = run["tasks"]
        assert (run["state"], task["exit_code"], task["attempts"]) == ("failed", code, 1), (text, task)
        assert (task["reason"]["code"], task["reason"]["fault"]) == ("error", "user"), task["reason"]


def test_a_program_that_the_image_lacks_is_named(ground: Ground) -> None:
    run = pipeline(ground, '[pipelines.p.steps.a]\ncommand = ["Rscript", "x.R"]\n', 'on = "docker"', code=1)
    assert run["tasks"][0]["reason"]["code"] == "missing_engine"
    assert "Rscript" in run["tasks"][0]["reason"]["message"]


# --- what it prints -------------------------------------------------------------------------------------------------


def test_streams_arrive_apart_byte_for_byte_and_to_the_last(ground: Ground) -> None:
    ground.write("do.sh", r"printf 'one\n\377\376\r\ntwo'; printf 'three\n\nfour' >&2")
    out, err = ground.start("run", "do.sh", "--on", "docker", "--fresh").communicate(timeout=60)
    assert out == b"one\n\xff\xfe\r\ntwo"
    assert b"three\n\nfour" in err


def test_lines_arrive_while_it_runs(ground: Ground) -> None:
    ground.write("do.sh", "for i in 1 2 3; do echo line $i; sleep 0.6; done; printf almost; sleep 0.6; echo ' done'")
    with ground.start("run", "do.sh", "--on", "docker", "--fresh") as running:
        assert running.stdout is not None
        at = [time.monotonic() for _ in range(4) if running.stdout.readline()]
    assert running.returncode == 0
    gaps = [later - earlier for earlier, later in itertools.pairwise(at)]
    assert all(0.3 < gap < 1.5 for gap in gaps), gaps


def test_much_output_loses_nothing_and_is_never_held(ground: Ground) -> None:
    size = 60_000_000
    ground.write("do.sh", f"yes 0123456789abcdef0123456789abcde | head -c {size}")
    got, peak, looked = 0, 0, 0.0
    with ground.start("run", "do.sh", "--on", "docker", "--fresh") as running:
        assert isinstance(running.stdout, io.BufferedReader)
        while piece := running.stdout.read1(1 << 20):
            got += len(piece)
            if time.monotonic() - looked > 0.5:
                looked = time.monotonic()
                peak = max(peak, *(resident(pid) for pid in followers(ground)), 0)
    assert running.returncode == 0
    assert got == size
    assert 0 < peak < 80 << 20, f"{peak >> 20} MiB"


def followers(ground: Ground) -> list[int]:
    """The processes that stand for containers, or wait for one: children of the agent."""
    agent = ground.json("status")["agent_pid"]
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
            parent = int(re.search(r"PPid:\s+(\d+)", (folder / "status").read_text())[1])  # type: ignore[index]
        except OSError:
            continue
        if parent == agent and b"docker_container" in words:
            found.append(int(folder.name))
    return found


def resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    except OSError:
        return 0


# --- what it is given -----------------------------------------------------------------------------------------------

ODD = {"PLAIN": "1", "SPACED": " a  b ", "LINES": "one\ntwo\n", "QUOTES": "'\"`$HOME\\", "LETTERS": "é 漢", "EMPTY": ""}


def test_parameters_and_variables_reach_it_as_they_are(ground: Ground) -> None:
    words = [f"-e{name}={value}" for name, value in ODD.items()]
    words += [f"-p{name.lower()}={value}" for name, value in ODD.items()]
    show = "".join(f'printf "%s|" "${name}" "$GROUND_PARAM_{name}"; ' for name in ODD)
    assert printed(ground, show, *words) == "".join(f"{value}|{value}|" for value in ODD.values())


def test_nothing_of_this_machine_is_inside(ground: Ground) -> None:
    said = printed(ground, "env", "-eGIVEN=1").splitlines()
    names = {line.partition("=")[0] for line in said if "=" in line}
    assert names == {
        "GIVEN", "GROUND_ATTEMPT", "GROUND_RUN", "GROUND_TASK", "HOME", "HOSTNAME", "LANG", "LC_ALL", "PATH", "PWD",
        "TMPDIR", "TZ",
    }  # fmt: skip
    assert "PATH=/usr/bin:/bin" in said
    assert not [line for line in said if str(ground.home) in line]


def test_a_secret_is_in_no_file_of_ours_and_in_no_argument(ground: Ground, engine: Daemon) -> None:
    secret = "swordfish-8841"
    ground.write("do.sh", "echo $API_TOKEN; sleep 1.5")
    running = ground.start("run", "do.sh", "--on", "docker", "--fresh", "-e", f"API_TOKEN={secret}")
    until(engine.running, "it runs")
    time.sleep(0.3)
    (found,) = engine.containers()
    inspected = engine.call("GET", f"/containers/{found['Id']}/json")
    whole = json.dumps({name: value for name, value in inspected["Config"].items() if name != "Env"})
    argv = [path.read_bytes() for pid in followers(ground) for path in [Path(f"/proc/{pid}/cmdline")]]
    files = [path for path in ground.home.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    out, _ = running.communicate(timeout=30)
    assert running.returncode == 0
    assert secret.encode() not in out
    assert argv
    assert secret not in whole
    assert not [words for words in argv if secret.encode() in words]
    assert not files


def test_the_container_is_closed(ground: Ground) -> None:
    said = printed(
        ground,
        "id -u; touch /file 2>&1; touch /tmp/a $TMPDIR/b here && echo written; "
        "cp /bin/true /tmp/program && /tmp/program && echo runs; "
        "grep -E 'CapEff|NoNewPrivs' /proc/self/status; ls /sys/class/net",
    )
    lines = said.splitlines()
    assert lines[0] == "1000"
    assert "Read-only file system" in lines[1]
    assert lines[2:4] == ["written", "runs"]
    assert re.search(r"CapEff:\s+0000000000000000\nNoNewPrivs:\s+1\nlo\n", said)


def test_a_network_is_there_where_it_is_asked_for(ground: Ground) -> None:
    run = pipeline(
        ground,
        step("closed", "ls /sys/class/net") + step("open", "ls /sys/class/net", 'after = ["closed"]\nnetwork = true'),
        'on = "docker"',
    )
    assert run["state"] == "succeeded", run["reason"]
    said = ground("runs", "logs", run["id"]).stdout
    assert Counter(re.findall(r"\b(lo|eth0)\b", said)) == {"lo": 2, "eth0": 1}


def test_without_a_network_it_reaches_itself_and_nobody_else(ground: Ground) -> None:
    said = printed(
        ground,
        "cat /etc/hosts\n"
        "for host in localhost ::1 192.0.2.1; do bash -c ': < /dev/tcp/'$host/9 2>&1; done\n"
        "echo x 2>&1 > /etc/hosts || echo closed",
    )
    assert "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" in said
    # Nobody listens there, which only a loopback that is up can tell.
    assert re.findall(r"(\S+)/9: (.+)", said) == [
        ("/dev/tcp/localhost", "Connection refused"),
        ("/dev/tcp/::1", "Connection refused"),
        ("/dev/tcp/192.0.2.1", "Network is unreachable"),
    ]
    assert said.endswith("closed\n")


# --- what it leaves -------------------------------------------------------------------------------------------------


def test_outputs_are_the_callers(ground: Ground) -> None:
    ground.write("data.csv", "x\n1\n")
    run = script(
        ground, "echo 2 >> data.csv; mkdir -p deep/er; echo 1 > deep/er/a.txt; umask 077; echo 2 > 'é b.txt'",
        "--out", "got",
    )  # fmt: skip
    assert {o["name"] for o in run["tasks"][0]["outputs"]} == {"data.csv", "deep/er/a.txt", "é b.txt"}
    for path in (*ground.work.joinpath("got").rglob("*"), *ground.home.joinpath("blobs").rglob("*")):
        assert path.stat().st_uid == os.geteuid(), path
    assert (ground.work / "data.csv").read_text() == "x\n1\n"
    assert not (ground.work / "deep").exists()


def test_declared_outputs_globs_and_a_missing_one(ground: Ground) -> None:
    run = pipeline(
        ground, step("a", "echo 1 > a.csv; echo 2 > b.csv; echo 3 > c.txt", 'outputs = ["*.csv"]'), 'on = "docker"'
    )
    assert {o["name"] for o in run["tasks"][0]["outputs"]} == {"a.csv", "b.csv"}
    run = pipeline(ground, step("a", "echo 1 > a.csv", 'outputs = ["a.csv", "no.csv"]'), 'on = "docker"', code=1)
    assert run["tasks"][0]["reason"]["code"] == "missing_output"


def test_a_step_changes_its_own_copy_of_an_input(ground: Ground) -> None:
    change = "echo more >> in.txt; rm -f gone.txt; cp in.txt out.txt"
    reads = 'inputs = {"in.txt" = "make/made.txt", "gone.txt" = "raw.txt"}\noutputs = ["out.txt"]'
    ground.write("raw.txt", "raw\n")
    run = pipeline(
        ground,
        step("make", "echo 1 > made.txt", 'outputs = ["made.txt"]')
        + step("one", change, reads)
        + step("two", change, reads),
        'on = "docker"',
        "--out",
        "got",
    )
    assert run["state"] == "succeeded", run["reason"]
    assert (ground.work / "got/one/out.txt").read_text() == (ground.work / "got/two/out.txt").read_text() == "1\nmore\n"
    assert (ground.work / "got/make/made.txt").read_text() == "1\n"
    assert (ground.work / "raw.txt").read_text() == "raw\n"


def test_a_large_project_is_not_taken_for_outputs(ground: Ground) -> None:
    for n in range(60):
        ground.write(f"many/{n}.txt", f"{n}\n" * 20_000)
    ground.write("large.bin", bytes(66 << 20))
    tool = ground.write("tool", "#!/bin/sh\necho tool >&2\n")
    tool.chmod(0o755)
    run = script(
        ground,
        "./tool; cat many/* > /dev/null; wc -c < large.bin; echo x >> many/7.txt; rm many/8.txt; touch -c many/9.txt; "
        "chmod 600 many/10.txt; mv many/11.txt many/moved.txt; mkdir -p new/folder; echo y > new/folder/z",
    )
    assert run["state"] == "succeeded", run["reason"]
    names = {o["name"] for o in run["tasks"][0]["outputs"]}
    assert names - {"many/9.txt", "many/10.txt"} == {"many/7.txt", "many/moved.txt", "new/folder/z"}
    assert len(list((ground.work / "many").iterdir())) == 60


def test_a_table_is_converted_at_the_edge(ground: Ground) -> None:
    ground.write("t.csv", "a,b\n1,x\n2,y\n")
    run = pipeline(
        ground,
        step("a", "head -c 4 t.parquet; cp t.parquet u.parquet",
             'inputs = {"t.parquet" = "t.csv"}\noutputs = ["u.parquet"]')
        + step("b", "cat u.csv", 'inputs = {"u.csv" = "a/u.parquet"}'),
        'on = "docker"',
    )  # fmt: skip
    assert run["state"] == "succeeded", run["reason"]
    said = ground("runs", "logs", run["id"]).stdout
    assert "PAR1" in said
    assert re.search(r"2,\"?y", said)


def test_what_did_not_change_is_not_computed_again(ground: Ground) -> None:
    ground.write(
        "ground.toml",
        '[project]\nname = "trial"\nenvironment = "sh"\non = "docker"\n[environments.sh]\ntoolchain = "shell"\n'
        "[pipelines.p]\n" + step("a", "echo $RANDOM > a.txt", 'outputs = ["a.txt"]'),
    )
    runs = [ground.json("run", "p", *words) for words in ([], [], ["--fresh"])]
    assert [run["tasks"][0]["reused"] for run in runs] == [False, True, False]


def test_a_pipeline_here_and_there(ground: Ground) -> None:
    ground.write("here.sh", "echo here > a.txt; id -u")
    ground.write("there.sh", "cat a.txt; id -u; echo there > b.txt")
    ground.write(
        "ground.toml",
        '[project]\nname = "trial"\n[pipelines.p]\n'
        '[pipelines.p.steps.one]\nrun = "here.sh"\noutputs = ["a.txt"]\n'
        '[pipelines.p.steps.two]\nrun = "there.sh"\non = "docker"\ninputs = {"a.txt" = "one/a.txt"}\n'
        'outputs = ["b.txt"]\n'
        '[pipelines.p.steps.three]\nrun = "here.sh"\ninputs = {"b.txt" = "two/b.txt"}\noutputs = ["b.txt"]\n',
    )
    run = ground.json("run", "p", "--fresh")
    assert run["state"] == "succeeded", run["reason"]
    said = ground("runs", "logs", run["id"]).stdout
    assert re.findall(r"\b(0|1000)\b", said) == [str(os.geteuid()), "1000", str(os.geteuid())]


def test_a_step_that_names_none_has_the_projects_environment_for_its_toolchain(ground: Ground) -> None:
    ground.write("a.sh", "id -u")
    project = '[project]\nname = "trial"\n[pipelines.p.steps.a]\nrun = "a.sh"\n'
    ground.write("ground.toml", f'{project}[environments.r]\ntoolchain = "r"\n[environments.sh]\ntoolchain = "shell"\n')
    for words, where in ((["p"], "sh"), (["a.sh"], "sh")):
        assert ground.json("plan", *words, "--on", "docker")["steps"][0]["runs_in"] == where
    here, there = (ground("run", "p", "--on", on, "--fresh") for on in ("local", "docker"))
    assert (here.stdout.strip(), there.stdout.strip()) == (str(os.geteuid()), "1000")
    assert "environment 'sh' is not in ground.lock" in there.stderr and "ground.lock" not in here.stderr

    ground.write("ground.toml", f'{project}[environments.a]\ntoolchain = "sh"\n[environments.b]\ntoolchain = "shell"\n')
    said = ground("run", "p", "--on", "docker", code=2).stderr
    assert "step 'a' says no environment, and ground.toml has 2 for shell" in said
    assert "--env: a, b" in said
    assert ground.json("plan", "p", "--on", "docker", "--env", "b")["steps"][0]["runs_in"] == "b"
    ground("run", "p", "--on", "local")


# --- limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["dd if=/dev/zero of=/dev/null bs=300M count=1", "head -c 300M /dev/zero > /tmp/x"])
def test_too_much_memory_is_said(ground: Ground, text: str) -> None:
    run = script(ground, f"({text}) & wait $! || exit 9", "--memory", "64MiB", code=1)
    (task,) = run["tasks"]
    assert (task["reason"]["code"], task["reason"]["fault"], task["attempts"]) == ("out_of_memory", "user", 1), task


def test_cpus_are_a_limit_and_usage_is_told(ground: Ground) -> None:
    busy = "dd if=/dev/zero of=/dev/null bs=50M count=1; i=0; while [ $i -lt 600000 ]; do i=$((i+1)); done"
    run = script(ground, busy, "--cpus", "0.5")
    usage = run["tasks"][0]["usage"]
    assert usage["wall_seconds"] > 0.3
    assert 0.2 < usage["cpu_seconds"] < usage["wall_seconds"] * 0.7, usage
    assert 40 << 20 < usage["memory_bytes"] < 200 << 20, usage


def test_what_short_work_uses_is_told(ground: Ground) -> None:
    run = script(ground, "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; times")
    minutes = re.findall(r"(\d+)m([\d.]+)s", ground("runs", "logs", run["id"]).stdout.splitlines()[0])
    itself = sum(60 * int(whole) + float(rest) for whole, rest in minutes)
    assert run["tasks"][0]["usage"]["cpu_seconds"] > itself - 0.08, "the last look is too old"


def test_a_timeout_ends_it(ground: Ground, engine: Daemon) -> None:
    run = script(ground, "sleep 60", "--timeout", "1", code=1)
    assert run["tasks"][0]["reason"]["code"] == "timeout"


def test_cancelling_ends_the_container(ground: Ground, engine: Daemon) -> None:
    ground.write("do.sh", "trap 'echo told; exit 0' TERM; echo ready; while :; do sleep 0.1; done")
    with ground.start("run", "do.sh", "--on", "docker", "--fresh") as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        running.send_signal(signal.SIGINT)
        assert running.stdout.read() == b"told\n"
    assert running.returncode == 130
    run = ground.json("runs", "show", "latest")
    assert run["state"] == "cancelled"
    assert not engine.running()


def test_cancelling_ends_what_does_not_listen(ground: Ground, engine: Daemon) -> None:
    ground.write("do.sh", "trap '' TERM; while :; do sleep 0.1; done")
    run = ground.json("run", "do.sh", "--on", "docker", "--fresh", "--detach")
    until(engine.running, "it runs")
    began = time.monotonic()
    ground("runs", "cancel", run["id"])
    until(lambda: ground.json("runs", "show", run["id"])["state"] == "cancelled", "it is cancelled")
    assert time.monotonic() - began < 9
    assert not engine.running()


def test_one_that_is_cancelled_at_once_never_stays(ground: Ground, engine: Daemon) -> None:
    ground.write("do.sh", "sleep 60")
    for n in range(6):
        run = ground.json("run", "do.sh", "--on", "docker", "--fresh", "--detach")
        time.sleep(n * 0.06)
        ground("runs", "cancel", run["id"])
        until(lambda: ground.json("runs", "show", run["id"])["state"] == "cancelled", "it is cancelled")  # noqa: B023
        assert not engine.running()


def test_twenty_at_once(ground: Ground) -> None:
    ground.write("items.txt", "")
    run = pipeline(
        ground,
        step("cut", "mkdir p; for i in $(seq 20); do echo $i > p/$i.txt; done", 'outputs = ["p/*.txt"]')
        + step("each", "cat in.txt; sleep 8; cp in.txt out.txt",
               'for_each = {p = "cut/p/*.txt"}\ninputs = {"in.txt" = "{p}"}\noutputs = ["out.txt"]\n'
               "resources = {cpus = 0.1}"),
        'on = "docker"',
    )  # fmt: skip
    assert run["state"] == "succeeded", run["reason"]
    tasks = [task for task in run["tasks"] if task["step"] == "each"]
    assert len(tasks) == 20
    assert {task["attempts"] for task in tasks} == {1}
    assert max(task["started_at"] for task in tasks) < min(task["finished_at"] for task in tasks), "not all at once"
    said = ground("runs", "logs", run["id"]).stdout
    assert sorted(int(n) for n in re.findall(r"(\d+)$", said, re.MULTILINE)) == list(range(1, 21))
