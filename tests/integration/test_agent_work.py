"""The agent's work on real processes: working copies, outputs, logs, limits, process trees."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from groundplane.model.resources import Resources
from groundplane.spi import layout, segments
from groundplane.spi.launch import Phase, StageIn
from groundplane.spi.toolchain import Command
from tests.conformance.driver_bench import launch
from tests.integration.agent_bench import AgentBench, agent_bench, agent_without_cgroups, alive, eventually
from tests.parts import require


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[AgentBench]:
    with agent_bench(tmp_path / "home") as made:
        yield made


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "data" / "empty").mkdir(parents=True)
    (folder / "fit.sh").write_text("#!/bin/sh\ncat data/raw.csv\n")
    (folder / "fit.sh").chmod(0o755)
    (folder / "data" / "raw.csv").write_text("a,b\n1,2\n")
    (folder / "link.csv").symlink_to("data/raw.csv")
    return folder


def test_the_working_copy_is_the_snapshot(bench: AgentBench, project: Path) -> None:
    wanted = launch("./fit.sh; cat link.csv; ls data; pwd", snapshot=bench.snapshot(project))
    told = bench.run(wanted)
    tree = layout.tree(bench.home, wanted.attempt)
    assert told.stdout == f"a,b\n1,2\na,b\n1,2\nempty\nraw.csv\n{tree}\n"
    assert told.stderr == ""


def test_a_changed_copy_is_nobody_elses(bench: AgentBench, project: Path) -> None:
    digest = bench.snapshot(project)
    for _ in range(3):
        told = bench.run(launch("cat data/raw.csv; echo x > data/raw.csv; echo y > extra; ls", snapshot=digest))
        assert told.stdout == "a,b\n1,2\ndata\nextra\nfit.sh\nlink.csv\n"
    assert (project / "data" / "raw.csv").read_text() == "a,b\n1,2\n"


def test_an_untouched_copy_is_used_again_and_is_clean(bench: AgentBench, project: Path) -> None:
    digest = bench.snapshot(project)
    script = "ls -i fit.sh; ls; echo new > new; echo t > $TMPDIR/t; cat data/raw.csv; rm $TMPDIR/t"
    first = bench.run(launch(script, snapshot=digest))
    second = bench.run(launch(script, snapshot=digest))
    assert first.stdout == second.stdout
    assert "new" not in second.stdout


def test_projects_that_are_not_run_any_more_keep_no_other_from_being_used_again(
    bench: AgentBench, project: Path
) -> None:
    for number in range(20):
        (project / "fit.sh").write_text(f"# {number}\n")
        bench.run(launch("true", snapshot=bench.snapshot(project)))
    digest = bench.snapshot(project)
    first, second = (bench.run(launch("ls -id .", snapshot=digest)) for _ in range(2))
    assert first.stdout == second.stdout
    work = layout.attempt(bench.home, "x").parent
    eventually(lambda: len(list(work.iterdir())) <= 16)


def test_everything_new_becomes_an_output_but_hidden_files_and_caches(bench: AgentBench, project: Path) -> None:
    script = "echo 1 > new.txt; echo 2 >> data/raw.csv; mkdir -p out/__pycache__ .hid; "
    script += "echo 3 > out/__pycache__/a.pyc; echo 4 > .hid/x; echo 5 > out/five; touch .hidden"
    told = bench.run(launch(script, snapshot=bench.snapshot(project), outputs=None))
    assert [output.name for output in told.outputs] == ["data/raw.csv", "new.txt", "out/five"]


def test_caches_and_environments_are_no_outputs_but_what_lies_beside_them_is(bench: AgentBench) -> None:
    script = "mkdir -p renv/library/x sub/renv/library/x env/lib node_modules/x; echo 1 > renv/x.csv; "
    script += (
        "echo 1 > renv/library/x/y; echo 1 > sub/renv/library/x/y; touch env/pyvenv.cfg env/lib/x node_modules/x/y"
    )
    told = bench.run(launch(script, outputs=None))
    assert [output.name for output in told.outputs] == ["renv/x.csv"]


def test_a_declared_name_means_itself_whatever_it_holds(bench: AgentBench) -> None:
    script = "echo 1 > 'a[1].csv'; echo 2 > b].csv; echo 3 > bx.csv; mkdir 'd[1]'; echo 4 > 'd[1]/e'"
    told = bench.run(launch(script, outputs=("a[1].csv", "b[!]].csv", "d[1]/", "[z-a].csv")))
    assert [output.name for output in told.outputs] == ["a[1].csv", "bx.csv", "d[1]/e"]
    assert told.missing == ("[z-a].csv",)


def test_a_declared_output_that_is_a_link_out_is_missing_and_said_to_be_one(bench: AgentBench, tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("1\n")
    for name, script in (("x.csv", f"ln -s {tmp_path}/out.csv x.csv"), ("far/", f"ln -s {tmp_path} far")):
        told = bench.run(launch(script, outputs=(name,)))
        assert told.missing == (name,)
        assert told.reason is not None
        assert (told.reason.code, told.reason.fault) == ("missing_output", "user")
        assert f"a link that leads out of it, to '{tmp_path}" in told.reason.message


def test_a_link_out_that_nobody_declared_is_told_in_the_log(bench: AgentBench, tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("1\n")
    wanted = launch(f"echo said >&2; ln -s {tmp_path}/out.csv x.csv; ln -s x.csv .hidden; echo 1 > y.csv", outputs=None)
    told = bench.run(wanted)
    assert (told.reason, [output.name for output in told.outputs]) == (None, ["y.csv"])
    note = f"groundplane: not kept of the working copy: 'x.csv' is a link that leads out of it, to '{tmp_path}/out.csv'"
    assert bench.output(wanted, 1).decode() == f"said\n{note}\n"


def test_outputs_that_cannot_be_kept_are_the_works_own_fault(bench: AgentBench) -> None:
    script = "import os\nfor _ in range(30): os.mkdir('d' * 200); os.chdir('d' * 200)\nopen('x', 'w').close()"
    told = bench.run(launch("", command=Command((sys.executable, "-c", script)), outputs=None))
    assert told.exit_code == 0  # no path is as long as this one
    assert told.reason is not None
    assert (told.reason.code, told.reason.fault) == ("unkept_output", "user")
    assert "Traceback" in (bench.home / "agent" / "agent.log").read_text()


def test_a_file_of_the_project_that_was_not_written_is_no_output(bench: AgentBench, project: Path) -> None:
    told = bench.run(launch("true", snapshot=bench.snapshot(project), outputs=("data/raw.csv", "data/*.csv")))
    assert told.missing == ("data/raw.csv", "data/*.csv")


def test_file_names_that_are_no_utf8_survive(bench: AgentBench) -> None:
    told = bench.run(launch(r"""printf x > "$(printf 'a\377b')" """, outputs=None))
    (output,) = told.outputs
    assert os.fsencode(output.name) == b"a\xffb"


def test_inputs_are_own_copies(bench: AgentBench, project: Path) -> None:
    digest = bench.blob(b"input\n")
    blob = layout.blob(bench.home, digest)
    inputs = (StageIn("deep/in.txt", str(blob)), StageIn("data/raw.csv", text="replaced\n"))
    script = "cat deep/in.txt data/raw.csv; echo w > deep/in.txt"
    told = bench.run(launch(script, snapshot=bench.snapshot(project), inputs=inputs))
    assert told.stdout == "input\nreplaced\n"
    assert blob.read_bytes() == b"input\n"


@pytest.mark.parametrize("path", ["../x", "/tmp/x", "data/../../x", "", "out/x"])
def test_an_input_that_leaves_the_working_copy_is_refused(bench: AgentBench, project: Path, path: str) -> None:
    (project / "out").symlink_to("data")
    told = bench.run(launch("true", snapshot=bench.snapshot(project), inputs=(StageIn(path, text="x"),)))
    assert told.reason is not None
    assert told.reason.code == "start_failed"
    assert told.started_at == 0


def test_a_missing_program_is_named(bench: AgentBench) -> None:
    told = bench.run(launch("", command=Command(("no-such-engine", "x"))))
    assert told.reason is not None
    assert (told.exit_code, told.reason.code) == (127, "missing_engine")
    assert "no-such-engine" in told.reason.message


def test_a_file_that_is_not_executable_is_126(bench: AgentBench, project: Path) -> None:
    told = bench.run(launch("", command=Command(("./data/raw.csv",)), snapshot=bench.snapshot(project)))
    assert told.reason is not None
    assert (told.exit_code, told.reason.code) == (126, "start_failed")


def test_support_files_leftovers_report_and_collect(bench: AgentBench) -> None:
    wanted = launch("")
    support = bench.driver.support(wanted.attempt)
    command = Command(
        ("sh", f"{support}/main.sh"),
        files={"main.sh": 'echo r > "$(dirname "$0")/report"; echo c > "$(dirname "$0")/made"; echo l > octave-core\n'},
        report="report",
        leftovers=("octave-*",),
        collect={"made": "made.ipynb"},
    )
    told = bench.run(launch("", attempt=wanted.attempt, command=command, outputs=None))
    assert told.report == "r\n"
    assert [output.name for output in told.outputs] == ["made.ipynb"]


def test_dropped_lines_and_the_sentinel_stay_out_of_the_log(bench: AgentBench) -> None:
    argv = ("sh", "-c", "echo keep; echo noise 1; echo DONE-7; printf last")
    command = Command(argv, drop=("noise .*",), sentinel="DONE-7")
    wanted = launch("", command=command)
    told = bench.run(wanted)
    assert told.sentinel
    assert bench.output(wanted) == b"keep\nlast"
    assert told.stdout == "keep\nlast"


def test_secrets_never_reach_the_log(bench: AgentBench) -> None:
    script = "printf 'a s3cr'; sleep 0.2; printf 'et b'; sleep 0.2; echo ' s3cret!'; printf s3cre"
    wanted = launch(script, redact=("s3cret",))
    told = bench.run(wanted)
    assert bench.output(wanted) == b"a *** b ***!\ns3cre"
    assert "s3cret" not in told.stdout


def test_an_unfinished_line_is_shown_before_it_ends(bench: AgentBench) -> None:
    wanted = launch("printf half; sleep 30")
    bench.submit(wanted)
    eventually(lambda: bench.output(wanted) == b"half")
    (record,) = bench.records(wanted)
    assert record.flags & segments.UNFINISHED
    bench.driver.stop(wanted.attempt, 0.0)
    bench.until(wanted.attempt, Phase.ENDED)


def test_followers_hear_that_a_log_has_grown(bench: AgentBench) -> None:
    wanted = launch("sleep 0.2; echo hello; sleep 30", run="a run")
    bench.submit(wanted)
    bench.until(wanted.attempt, Phase.RUNNING)
    logs: list[str] = []
    while not logs:
        changes = bench.driver.changes(bench.cursor, 5.0)
        bench.cursor = changes.cursor
        logs.extend(changes.logs)
    assert logs == ["a run"]
    assert bench.output(wanted) == b"hello\n"
    bench.driver.stop(wanted.attempt, 0.0)
    bench.until(wanted.attempt, Phase.ENDED)


def test_much_output_arrives_whole_in_bounded_memory(bench: AgentBench) -> None:
    size = 64 * 1024 * 1024
    pid = bench.agent_pid
    wanted = launch(f"head -c {size} /dev/zero | tr '\\0' x; head -c {size} /dev/urandom | base64 -w 0")
    other = launch("echo quick")
    bench.submit(wanted, other)
    told = bench.until(wanted.attempt, Phase.ENDED)
    assert bench.until(other.attempt, Phase.ENDED).at < told.at
    assert len(bench.output(wanted)) == size + (size + 2) // 3 * 4
    assert len(told.stdout) == 64 * 1024
    high = Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()[0]
    assert int(high) < 100 * 1024


def test_a_daemon_is_ended_with_its_attempt(bench: AgentBench, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"(setsid sh -c 'echo $$ >> {pids}; exec sleep 100' &) ; setsid env -i sleep 101 & echo $! >> {pids}; "
    script += "sleep 0.3; echo over"
    wanted = launch(script)
    told = bench.run(wanted)
    assert told.exit_code == 0
    assert told.stdout == "over\n"
    found = [int(line) for line in pids.read_text().split()]
    assert len(found) == 2
    assert not any(alive(pid) for pid in found)


def test_the_last_words_of_what_the_main_process_left_are_heard(bench: AgentBench) -> None:
    told = bench.run(launch("(sleep 0.03; echo late) & echo early"))
    assert told.stdout == "early\nlate\n"


def test_stop_ends_the_whole_tree_and_gives_it_its_grace(bench: AgentBench, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    inner = f"trap 'echo cleaned; exit 0' TERM; echo $$ >> {pids}; echo up; while :; do sleep 0.02; done"
    wanted = launch(f'setsid sh -c "$INNER" & echo $$ >> {pids}; wait', env={"INNER": inner})
    bench.submit(wanted)
    eventually(lambda: bench.output(wanted) == b"up\n")
    bench.driver.stop(wanted.attempt, 10.0)
    told = bench.until(wanted.attempt, Phase.ENDED)
    assert told.reason is not None
    assert told.reason.code == "cancelled"
    assert told.stdout == "up\ncleaned\n"
    assert not any(alive(int(pid)) for pid in pids.read_text().split())


def test_a_launch_in_line_is_stopped_without_starting(bench: AgentBench) -> None:
    cores = len(os.sched_getaffinity(0))
    blocker = launch("sleep 60", resources=Resources(cpus=cores))
    waiting = launch("echo never")
    bench.submit(blocker, waiting)
    bench.until(blocker.attempt, Phase.RUNNING)
    assert bench.driver.observe([waiting.attempt])[0].phase is Phase.ACCEPTED
    bench.driver.stop(waiting.attempt, 5.0)
    told = bench.until(waiting.attempt, Phase.ENDED)
    assert told.reason is not None
    assert (told.reason.code, told.started_at, told.exit_code) == ("cancelled", 0, None)
    bench.driver.stop(blocker.attempt, 0.0)
    bench.until(blocker.attempt, Phase.ENDED)


@pytest.mark.parametrize("resources", [Resources(cpus=4096), Resources(memory=1 << 50), Resources(gpus=99)])
def test_what_can_never_fit_is_refused(bench: AgentBench, resources: Resources) -> None:
    (answer,) = bench.driver.submit([launch("true", resources=resources)])
    assert answer.refused is not None
    assert answer.refused.code == "does_not_fit"


def test_cpus_are_affinity(bench: AgentBench) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this machine has one core")
    told = bench.run(launch("nproc; grep Cpus_allowed_list /proc/self/status", resources=Resources(cpus=0.5)))
    assert told.stdout.startswith("1\n")


def test_a_fraction_of_a_cpu_is_enforced_where_a_cgroup_can_be_made(bench: AgentBench) -> None:
    require("root")
    if "cgroup" not in bench.driver.check().facts["cpus"]:
        pytest.skip("no cgroup can be made here")
    spin = "import time\nend = time.monotonic() + 1\nwhile time.monotonic() < end: pass"
    told = bench.run(launch("", command=Command((sys.executable, "-c", spin)), resources=Resources(cpus=0.25)))
    assert told.exit_code == 0
    assert told.usage.cpu < 0.6 * told.usage.wall


def test_without_a_cgroup_it_is_said_that_fractions_are_not_enforced(tmp_path: Path) -> None:
    with agent_without_cgroups(tmp_path / "other-home") as bench:
        assert bench.driver.check().facts["cpus"] == "by affinity, fractions not enforced"
        assert bench.run(launch("echo on", resources=Resources(cpus=0.5))).stdout == "on\n"


def test_a_timeout_is_a_reason_of_its_own(bench: AgentBench) -> None:
    told = bench.run(launch("echo on; sleep 60", resources=Resources(timeout=0.3), grace=5.0))
    assert told.reason is not None
    assert (told.reason.code, told.signal) == ("timeout", 15)
    assert "0.30 s" in told.reason.message


_HOG = "x = bytearray(300 << 20); import time; time.sleep(0.5)"


def test_a_memory_limit_is_a_reason_of_its_own(bench: AgentBench) -> None:
    command = Command((sys.executable, "-c", _HOG))
    told = bench.run(launch("", command=command, resources=Resources(memory=100 << 20)))
    assert told.reason is not None
    assert told.reason.code == "out_of_memory"
    assert "100.0 MiB" in told.reason.message


def test_within_its_memory_limit_nothing_happens(bench: AgentBench) -> None:
    command = Command((sys.executable, "-c", "x = bytearray(20 << 20); print('ok')"))
    told = bench.run(launch("", command=command, resources=Resources(memory=200 << 20)))
    assert (told.reason, told.exit_code, told.stdout) == (None, 0, "ok\n")


def test_a_tree_whose_child_ran_out_of_memory_ends(bench: AgentBench) -> None:
    require("root")
    if "cgroup" not in bench.driver.check().facts["limits"]:
        pytest.skip("no cgroup can be made here")
    script = f"{sys.executable} -c '{_HOG}'; echo went on; sleep 60"
    told = bench.run(launch(script, resources=Resources(memory=100 << 20)))
    assert told.reason is not None
    assert told.reason.code == "out_of_memory"


def test_without_a_cgroup_the_peak_is_sampled_and_compared_at_the_end(tmp_path: Path) -> None:
    with agent_without_cgroups(tmp_path / "other-home") as bench:
        assert bench.driver.check().facts["limits"] == "sampled, not enforced"
        script = f"{sys.executable} -c '{_HOG}' & {sys.executable} -c '{_HOG}'; wait; echo over"
        told = bench.run(launch(script, resources=Resources(memory=500 << 20)))
        assert told.stdout == "over\n"
        assert told.reason is not None
        assert told.reason.code == "out_of_memory"
        assert told.usage.memory > 550 << 20
        fits = bench.run(launch(f"{sys.executable} -c '{_HOG}'", resources=Resources(memory=500 << 20)))
        assert fits.reason is None


def test_usage_is_measured(bench: AgentBench) -> None:
    script = "x = bytearray(100 << 20); sum(range(5_000_000))"
    told = bench.run(launch("", command=Command((sys.executable, "-c", script))))
    assert told.usage.cpu > 0.02
    assert told.usage.wall >= 0.02
    assert 100 << 20 < told.usage.memory < 150 << 20


def test_a_tiny_process_is_not_given_the_agents_memory(bench: AgentBench) -> None:
    assert bench.run(launch("true")).usage.memory == 0
    if "cgroup" in bench.driver.check().facts["limits"]:
        limited = bench.run(launch("true", resources=Resources(memory=100 << 20)))
        assert 0 < limited.usage.memory < 10 << 20
