"""What the work of strangers reaches of the platform that runs it: nothing. Attacks from inside of a task."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from groundplane.model.resources import Resources
from groundplane.spi import confining, layout
from groundplane.spi.launch import Phase
from groundplane.spi.shell_exports import SHELLS_OWN
from groundplane.spi.toolchain import Command
from tests.conformance.driver_bench import launch
from tests.integration.agent_bench import AgentBench, agent_bench, eventually
from tests.parts import require


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[AgentBench]:
    require("bubblewrap")
    with agent_bench(tmp_path / "home") as made:
        yield made


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "data.csv").write_text("a,b\n1,2\n")
    return folder


def said(bench: AgentBench, project: Path, script: str) -> str:
    """What a stranger's script prints, on both streams."""
    wanted = launch(f"exec 2>&1; {script}", snapshot=bench.snapshot(project), confined=True)
    return bench.run(wanted).stdout


def test_it_reads_its_project_and_leaves_its_outputs(bench: AgentBench, project: Path) -> None:
    script = "cat data.csv; echo mine >> data.csv; mkdir -p out; echo 5 > out/x; pwd; echo t > /tmp/t; cat $TMPDIR/t"
    wanted = launch(script, snapshot=bench.snapshot(project), outputs=None, confined=True)
    told = bench.run(wanted)
    assert told.stderr == ""
    assert told.stdout == f"a,b\n1,2\n{layout.tree(bench.home, wanted.attempt)}\nt\n"
    assert sorted(output.name for output in told.outputs) == ["data.csv", "out/x"]
    assert (project / "data.csv").read_text() == "a,b\n1,2\n"


def test_the_platforms_files_and_sockets_are_out_of_sight(bench: AgentBench, project: Path) -> None:
    bench.agent_pid  # noqa: B018 - it makes its home
    (bench.home / "key").write_bytes(b"the key of the home")
    planted = Path.home() / f".ground-planted-{os.getpid()}"
    planted.write_text("a key in a home folder")
    try:
        answers = said(
            bench,
            project,
            f"ls -A {bench.home}; ls -A {bench.home}/work | wc -l; cat {bench.home}/key; cat {planted}; "
            f"ls {layout.runtime(bench.home)}; ls {layout.agent_socket(bench.home)}; ls /run/docker.sock /root /home; "
            "cat /etc/shadow; true",
        )
    finally:
        planted.unlink()
    assert "the key of the home" not in answers
    assert "a key in a home folder" not in answers
    assert "root:" not in answers
    assert answers.startswith("work\n1\n")  # the way to its own folders, and nothing else
    assert answers.count("No such file or directory") >= 6


def test_it_finds_names_and_certificates(bench: AgentBench, project: Path) -> None:
    answers = said(
        bench, project, "id -un; cat /etc/nsswitch.conf; ls -d /etc/ssl/certs/; touch /etc/x; stat -c %a /etc"
    )
    assert "hosts:" in answers
    assert "/etc/ssl/certs/\n" in answers
    assert "cannot find name" not in answers
    assert "No such file" not in answers
    assert answers.endswith("755\n")


def test_it_cannot_speak_to_the_agent(bench: AgentBench, project: Path) -> None:
    ask = f"import socket; socket.socket(socket.AF_UNIX).connect({str(layout.agent_socket(bench.home))!r})"
    assert "FileNotFoundError" in said(bench, project, f'/usr/bin/python3 -c "{ask}"')


@contextmanager
def listening() -> Iterator[str]:
    """What listens on this host for whoever comes: Python that tries to reach it and says how that went."""
    name = f"ground-test-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0{name}")
        abstract.listen()
        yield f"""
import socket
for kind, where in (("tcp", ("127.0.0.1", {tcp.getsockname()[1]})), ("abstract", "\\0{name}")):
    try:
        socket.socket(socket.AF_INET if kind == "tcp" else socket.AF_UNIX).connect(where)
        print(kind, "reached")
    except OSError as error:
        print(kind, type(error).__name__)
print("named", {name!r} in open("/proc/net/unix").read())
with socket.create_server(("127.0.0.1", 0)) as own:
    socket.create_connection(own.getsockname()).close()
    print("its own reached")
"""


@pytest.mark.parametrize("network", [False, True])
def test_it_has_this_hosts_network_only_where_that_is_said(bench: AgentBench, project: Path, network: bool) -> None:
    with listening() as attempt:
        (project / "attack.py").write_text(attempt)
        ask = "/usr/bin/python3 attack.py; cat /proc/net/unix"
        told = bench.run(launch(ask, snapshot=bench.snapshot(project), confined=True, network=network))
    expected = ["tcp reached", "abstract reached", "named True"]
    if not network:
        expected = ["tcp ConnectionRefusedError", "abstract ConnectionRefusedError", "named False"]
    assert told.stdout.splitlines()[:4] == [*expected, "its own reached"], told
    # The names of the platform's sockets tell where its home is.
    assert (str(layout.agent_socket(bench.home)) in told.stdout) is network


def test_other_processes_are_not_there(bench: AgentBench, project: Path) -> None:
    other = launch("sleep 30", env={"SECRET": "another's secret"})
    bench.submit(other)
    bench.until(other.attempt, Phase.RUNNING)
    answers = said(
        bench,
        project,
        "cat /proc/*/environ | tr '\\0' '\\n'; ls /proc | grep -c '^[0-9]'; "
        f"kill -9 {bench.agent_pid}; kill -9 {os.getpid()}; ls /proc/1/root/ /proc/1/fd; true",
    )
    assert "another's secret" not in answers
    assert answers.count("No such process") == 2
    assert bench.agent_pid > 0
    bench.driver.stop(other.attempt, 0.0)
    bench.until(other.attempt, Phase.ENDED)


def test_it_cannot_change_the_host(bench: AgentBench, project: Path) -> None:
    answers = said(
        bench,
        project,
        "touch /usr/bin/ground-was-here; touch /etc/ground-was-here; mount -t tmpfs none /usr; unshare -r id; "
        "grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status; id -u",
    )
    assert answers.count("Read-only file system") + answers.count("Permission denied") >= 2
    assert "NoNewPrivs:\t1" in answers
    assert "CapEff:\t0000000000000000" in answers
    assert not Path("/usr/bin/ground-was-here").exists()
    assert answers.endswith(f"{confining.USER if os.geteuid() == 0 else os.geteuid()}\n")


LIMITS = [Resources(), Resources(memory=64 << 20, cpus=1)]


@pytest.mark.parametrize("limits", LIMITS, ids=["free", "limited"])
@pytest.mark.parametrize("name", ["LD_PRELOAD", "LD_AUDIT"])
def test_its_variables_reach_nothing_before_it_is_confined(
    bench: AgentBench, project: Path, name: str, limits: Resources
) -> None:
    """The loader tells of each program for which a library cannot be loaded: that is the work's own alone."""
    env = {name: "/nonexistent/of-a-stranger.so", "PATH": os.defpath}
    wanted = launch("echo begun", snapshot=bench.snapshot(project), confined=True, env=env, resources=limits)
    told = bench.run(wanted)
    assert told.stdout == "begun\n"
    assert told.stderr.count("of-a-stranger.so") == 1, told.stderr


@pytest.mark.parametrize("limits", LIMITS, ids=["free", "limited"])
def test_no_program_of_its_own_is_started_with_more_rights(bench: AgentBench, project: Path, limits: Resources) -> None:
    for name in ("setpriv", "taskset", "sh", "bwrap", "echo"):
        (project / name).write_text("#!/bin/sh\ngrep CapEff /proc/self/status\n")
        (project / name).chmod(0o755)
    env = {"PATH": f".:{os.defpath}"}
    command = Command(("/bin/sh", "-c", "setpriv; taskset; sh; bwrap"))
    wanted = launch("", command=command, snapshot=bench.snapshot(project), confined=True, env=env, resources=limits)
    told = bench.run(wanted)
    assert told.stdout.splitlines() == ["CapEff:\t0000000000000000"] * 4, told


def test_its_variables_are_what_they_were(bench: AgentBench, project: Path) -> None:
    values = {
        "QUOTED": 'it\'s "$HOME" `id` \\n $(id)',
        "LINES": "one\ntwo\n\n",
        "EMPTY": "",
        "ODD": "\udcff\udcfe é",
        "LONG": "x" * 5_000,
        **dict.fromkeys(sorted(SHELLS_OWN), "x"),
        "HOME": "/tmp",
        "PATH": os.defpath,
    }
    code = "import os, json; print(json.dumps(dict(os.environ)))"
    command = Command(("/usr/bin/python3", "-c", code))
    told = bench.run(launch("", command=command, snapshot=bench.snapshot(project), confined=True, env=values))
    found = json.loads(told.stdout)
    assert {name: found[name] for name in values} == values
    more = found.keys() - values.keys()
    assert more <= {"GROUND_ATTEMPT", "GROUND_FAKE", "TMPDIR", "PWD", "LC_CTYPE"}, more
    ended = bench.run(launch("ls -l /proc/self/fd | grep -c memfd", snapshot=bench.snapshot(project), confined=True))
    assert ended.stdout == "0\n", "the descriptor that handed them over is closed"


def test_what_it_leaves_behind_leads_nowhere(bench: AgentBench, project: Path) -> None:
    """The agent reads a report and moves what was collected: links in their place lead out of the work's folders."""
    digest = bench.snapshot(project)
    key = bench.home / "key"
    key.write_bytes(b"the key of the home")
    script = f"ln -s {key} $TMPDIR/../report; ln -s {key} $TMPDIR/../made; ln -s {key} out.txt; ln -s {bench.home} sub"
    command = Command(("sh", "-c", script), report="report", collect={"made": "sub/planted", "gone": "sub/x"})
    told = bench.run(launch("", command=command, snapshot=digest, outputs=None, confined=True))
    assert "the key" not in told.report
    assert told.outputs == ()
    assert key.read_bytes() == b"the key of the home"
    assert not (bench.home / "planted").is_symlink()


def test_its_end_is_told_as_it_was(bench: AgentBench, project: Path) -> None:
    digest = bench.snapshot(project)
    assert bench.run(launch("exit 3", snapshot=digest, confined=True)).exit_code == 3
    killed = bench.run(launch("kill -9 $$", snapshot=digest, confined=True))
    assert killed.signal == signal.SIGKILL


def test_it_is_asked_to_end_and_may_say_its_last_words(bench: AgentBench, project: Path) -> None:
    script = "trap 'echo last words; exit 7' TERM; echo ready; while :; do sleep .05; done"
    running = launch(script, snapshot=bench.snapshot(project), confined=True)
    bench.submit(running)
    eventually(lambda: b"ready" in bench.output(running))
    bench.driver.stop(running.attempt, 5.0)
    told = bench.until(running.attempt, Phase.ENDED)
    assert "last words" in told.stdout


def test_nothing_of_it_outlives_it(bench: AgentBench, project: Path) -> None:
    mark = f"31{os.getpid()}"
    bench.run(
        launch(
            f"setsid env -i sleep {mark} & (env -i sleep {mark} &) ; sleep .1",
            snapshot=bench.snapshot(project),
            confined=True,
        )
    )
    eventually(lambda: subprocess.run(["pgrep", "-f", f"sleep {mark}"], capture_output=True).returncode == 1)


def test_limits_hold(bench: AgentBench, project: Path) -> None:
    code = "x = bytearray(400 << 20); print(len(x))"
    wanted = launch(
        f'/usr/bin/python3 -c "{code}"',
        snapshot=bench.snapshot(project),
        confined=True,
        resources=Resources(memory=64 << 20, cpus=1),
    )
    told = bench.run(wanted)
    assert told.reason is not None
    assert told.reason.code == "out_of_memory"
    cpus = bench.run(launch("nproc", snapshot=bench.snapshot(project), confined=True, resources=Resources(cpus=1)))
    assert cpus.stdout == "1\n"


def test_an_engine_of_the_platforms_own_is_seen(bench: AgentBench, project: Path) -> None:
    own = bench.home / "engines" / "snake"
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", str(own)], check=True)
    command = Command((str(own / "bin" / "python"), "-c", "import sys; print(sys.prefix)"))
    told = bench.run(launch("", command=command, snapshot=bench.snapshot(project), confined=True))
    assert told.stdout == f"{own}\n", told


def test_a_user_without_rights_confines_too() -> None:
    require("bubblewrap")
    require("root")
    work = Path("/tmp") / f"ground-confined-{os.getpid()}"
    (work / "tree").mkdir(parents=True)
    (work / "support" / "tmp").mkdir(parents=True)
    (work / "key").write_text("the key of the home")
    for path in (work, *work.rglob("*")):
        os.chown(path, 1234, 1234)
    ask = (
        "from groundplane.spi import confining; import os; "
        f"w = {str(work)!r}; assert confining.unavailable() == '', confining.unavailable(); "
        "p, a = confining.wrapped('/bin/sh', ['sh', '-c', 'cat ' + w + '/key; touch x; id -u; ls -A ' + w], "
        "(w + '/tree', w + '/support'), w + '/support/tmp', w, network=False, gpus=False, cores=[]); "
        "os.dup2(os.memfd_create('variables', 0), confining.VARIABLES); os.execv(p, a)"
    )
    shutil.copytree(Path(confining.__file__).parent.parent, work / "groundplane")
    try:
        done = subprocess.run(
            ["setpriv", "--reuid", "1234", "--regid", "1234", "--clear-groups", "/usr/bin/python3", "-c", ask],
            cwd=work,
            env={"PATH": os.defpath, "PYTHONPATH": str(work)},
            capture_output=True,
            text=True,
        )
        assert done.stdout.splitlines() == ["1234", "support", "tree"], done.stderr
        assert "the key" not in done.stdout
        assert (work / "tree" / "x").exists()
    finally:
        shutil.rmtree(work)
