"""The agent in a pod: the other container is a shell on this machine, signed URLs are a server here."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from groundplane.model.reasons import Reason
from groundplane.model.resources import Resources
from groundplane.spi import layout, segments
from groundplane.spi.launch import Launch, Phase, PrivateFile, StageIn
from groundplane.spi.pod import MAIN, agent
from groundplane.spi.snapshots import Entry, Manifest, digest_of
from groundplane.spi.toolchain import Command
from tests import pods
from tests.conformance.driver_bench import launch
from tests.parts import require

SHELLS = [("dash",), ("busybox", "sh"), ("bash", "--posix")]
Made = Callable[..., pods.Pod]


@pytest.fixture
def store() -> Iterator[pods.Store]:
    with pods.store() as made:
        yield made


@pytest.fixture
def made(tmp_path: Path, store: pods.Store) -> Iterator[Made]:
    """Makes a pod for a script; ended with the test."""
    every: list[pods.Pod] = []

    def make(sh: str | Launch, shell: tuple[str, ...] = ("dash",), **fields: Any) -> pods.Pod:
        folder = tmp_path / str(len(every))
        folder.mkdir()
        every.append(pods.Pod(folder, store, sh if isinstance(sh, Launch) else launch(sh, **fields), shell))
        return every[-1]

    yield make
    for pod in every:
        pod.close()


def reason_of(told: pods.Told) -> Reason:
    assert told.observation.reason is not None
    return told.observation.reason


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_the_work_gets_its_environment_arguments_and_files_whatever_they_hold(
    made: Made, shell: tuple[str, ...]
) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"this machine has no {shell[0]}")
    strange = 'it\'s "quoted"\n$(touch pwned) `x` \\ \udcff é\x81 end\n'
    script = "import os, sys, json; print(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd(), sys.stdin.read()]))"
    command = Command(
        (sys.executable, "-c", script, strange, "", "*", "-n"),
        env={"GROUND_PARAM_A": strange, "a.b": "never", "UID": "7", "IFS": "x"},
        files={"extra.txt": "text"},
    )
    pod = made("", shell, command=command, env={"OF_LAUNCH": "1", "GROUND_PARAM_B": ""})
    told = pod.run()
    assert (told.observation.exit_code, told.observation.reason, told.uploaded) == (0, None, True)
    arguments, env, folder, stdin = json.loads(told.output(0))
    attempt = pod.launch.attempt
    assert arguments == [strange, "", "*", "-n"]
    assert folder == str(layout.tree(pod.home, attempt))
    assert stdin == ""
    wanted = {"GROUND_PARAM_A": strange, "OF_LAUNCH": "1", "GROUND_PARAM_B": "", "GROUND_ATTEMPT": attempt}
    assert wanted.items() <= env.items()
    assert env["FROM_IMAGE"] == "yes"
    assert env["TMPDIR"] == f"{layout.support(pod.home, attempt)}/tmp"
    assert not any(name.startswith("ground__") for name in env)
    assert "a.b" not in env
    assert told.output(1) == b"groundplane: not set, for no shell passes variables of such a name on: 'UID', 'a.b'\n"
    assert (layout.support(pod.home, attempt) / "extra.txt").read_text() == "text"


def test_one_of_several_pods_knows_the_others_and_leaves_its_outputs_to_the_first(
    made: Made, store: pods.Store
) -> None:
    script = (
        'echo "$RANK of $WORLD_SIZE at $MASTER_ADDR:$PET_MASTER_PORT, $PET_NPROC_PER_NODE each, $NNODES"; echo 1 >a'
    )
    results: list[dict[str, bytes]] = []
    for index in range(2):
        pod = made(script, outputs=("a",), resources=Resources(nodes=2, gpus=4), env={"NNODES": "my own"})
        del pod.order["result"]
        pod.order |= {"results": [store.url("/other"), store.url("/other")], "master": "localhost"}
        pod.order["results"][index] = store.url("/result?secret")
        pod.start_agent(f"import os; os.environ['JOB_COMPLETION_INDEX'] = '{index}'")
        pod.start_main()
        told = pod.told()
        assert (told.observation.exit_code, told.observation.missing) == (0, ())
        assert told.output(0).decode() == f"{index} of 2 at localhost:29500, 4 each, my own\n"
        results.append(told.result)
    assert len(results[0]) == 3
    assert results[1].keys() == {"observation.json", "log.seg"}
    assert not any("/other" in asked for asked in store.asked)


def test_it_stands_on_its_snapshot_and_inputs_and_its_outputs_are_in_the_result(made: Made, store: pods.Store) -> None:
    data = {"fit.sh": b"cat raw.csv in.csv given.txt >all.csv; cp all.csv same.csv; echo 2 >b\n", "raw.csv": b"1\n"}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in data.items()}
    manifest = Manifest(tuple(Entry(name, len(data[name]), sha256=digests[name]) for name in sorted(data))).to_json()
    attempt = launch("sh fit.sh", outputs=("*.csv", "b"), snapshot=digest_of(manifest))
    pod = made(attempt)
    pod.snapshot(
        {f"snapshots/{digest_of(manifest)}.json": manifest}
        | {f"blobs/sha256/{digests[name][:2]}/{digests[name]}": content for name, content in data.items()}
    )
    given = pod.input(b"input\n")
    inputs = (StageIn("in.csv", str(layout.blob(pod.home, given))), StageIn("given.txt", text="text\n"))
    pod.order["launch"]["inputs"] = [{"path": i.path, "source": i.source, "text": i.text} for i in inputs]
    store.answers[f"/input/{given}"] = [404, 503, 404]  # still on its way up
    told = pod.run()
    assert told.observation.reason is None
    outputs = {output.name: output.sha256 for output in told.observation.outputs}
    assert outputs.keys() == {"all.csv", "same.csv", "b", "in.csv"}
    assert told.result[f"blobs/{outputs['all.csv']}"] == b"1\ninput\ntext\n"
    assert told.result.keys() == {"observation.json", "log.seg", *(f"blobs/{digest}" for digest in outputs.values())}
    for name, content in told.result.items():
        if name.startswith("blobs/"):
            assert name == f"blobs/{hashlib.sha256(content).hexdigest()}"


def test_both_streams_come_in_order_and_an_unfinished_line_at_once(made: Made) -> None:
    pod = made("echo a; echo A >&2; printf b; sleep 0.4; echo c; echo B >&2")
    pod.start_agent()
    pod.start_main()
    records = pod.eventually(lambda: [line for line in pod.lines if line["t"] == "log"])
    assert records
    told = pod.told()
    assert told.output(0) == b"a\nbc\n"
    assert told.output(1) == b"A\nB\n"
    flags = [record.flags for record, _ in segments.decode(told.log) if record.data == b"b"]
    assert flags == [segments.UNFINISHED]
    assert (told.observation.stdout, told.observation.stderr) == ("a\nbc\n", "A\nB\n")


def test_a_secret_is_nowhere_even_when_it_comes_in_two_parts(made: Made, store: pods.Store) -> None:
    told = made("printf 'x hun'; sleep 0.2; echo 'ter2 y'; echo hunter2 >&2", redact=("hunter2",)).run()
    assert told.output(0) == b"x *** y\n"
    assert told.output(1) == b"***\n"
    assert b"hunter2" not in store.content["/result?secret"]


def test_an_exit_status_and_what_it_used_are_told(made: Made) -> None:
    # A little more than is looked for: the shell counts in hundredths, user and system each for itself.
    busy = "x = bytearray(80_000_000); import time, sys\nwhile time.process_time() < .33: pass\nsys.exit(3)"
    told = made("", command=Command((sys.executable, "-c", busy)), outputs=("never.csv",)).run()
    observation = told.observation
    assert (observation.phase, observation.exit_code, observation.signal) == (Phase.ENDED, 3, None)
    assert (observation.reason, observation.missing) == (None, ("never.csv",))
    assert 0.3 <= observation.usage.cpu < 3
    assert 80_000_000 <= observation.usage.memory < 400_000_000
    assert 0.3 <= observation.usage.wall < 10


def test_a_signal_is_told_as_one(made: Made) -> None:
    observation = made("kill -KILL $$").run().observation
    assert (observation.exit_code, observation.signal, observation.reason) == (137, 9, None)


def test_a_program_that_is_not_there_is_told_by_name(made: Made) -> None:
    told = made("", command=Command(("no-such-program",))).run()
    assert (told.observation.exit_code, reason_of(told).code) == (127, "missing_engine")
    assert "no-such-program" in reason_of(told).message


def test_a_nul_in_an_argument_is_the_users(made: Made) -> None:
    told = made("", command=Command(("echo", "a\0b"))).run()
    assert (told.observation.exit_code, reason_of(told).code, reason_of(told).fault) == (126, "start_failed", "user")


def test_at_the_limit_of_time_the_whole_tree_is_ended(made: Made) -> None:
    script = "trap 'echo asked' TERM; (trap '' TERM; setsid sleep 77.5) & sleep 78.5 & echo begun; wait; wait"
    pod = made(script, resources=Resources(timeout=0.4), grace=0.4)
    begun = time.monotonic()
    told = pod.run()
    assert reason_of(told).code == "timeout"
    assert told.output(0) == b"begun\nasked\n"
    assert time.monotonic() - begun < 8
    assert survivors("77.5", "78.5") == []


def test_what_is_left_behind_is_ended_and_its_last_line_is_heard(made: Made) -> None:
    told = made("(sleep 0.05; echo late; sleep 76.5) & echo done").run()
    assert told.output(0) == b"done\nlate\n"
    assert told.observation.exit_code == 0
    assert survivors("76.5") == []


def survivors(*words: str) -> list[str]:
    """Command lines of this machine that hold one of the words as a whole."""
    found: list[str] = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and pods.alive(int(folder.name)):
            try:
                line = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            found += [word for word in words if word.encode() in line]
    return found


def test_a_line_in_the_stop_pipe_ends_it(made: Made) -> None:
    pod = made("trap 'echo ended; exit 5' TERM; echo ready; while :; do sleep 0.05; done")
    pod.start_agent()
    pod.start_main()
    pod.until("log")
    pod.stop()
    told = pod.told()
    assert (reason_of(told).code, told.observation.exit_code) == ("cancelled", 5)
    assert told.output(0) == b"ready\nended\n"


def test_sigterm_while_it_runs_ends_it_the_same_way(made: Made) -> None:
    pod = made("trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done")
    pod.start_agent()
    pod.start_main()
    pod.until("log")
    pod.terminate()
    told = pod.told()
    assert (reason_of(told).code, told.observation.exit_code, told.uploaded) == ("cancelled", 5, True)
    assert pod.agent is not None
    pod.eventually(lambda: pod.agent is not None and pod.agent.poll() is not None)


def test_the_containers_own_sigterm_reaches_the_work(made: Made) -> None:
    pod = made("trap 'echo asked; exit 5' TERM; echo ready; while :; do sleep 0.05; done")
    pod.start_agent()
    pod.start_main()
    pod.until("log")
    assert pod.main is not None
    pod.main.terminate()
    told = pod.told()
    assert (told.observation.exit_code, told.output(0)) == (5, b"ready\nasked\n")
    assert pod.main.wait(5) == 5


def test_stopped_before_the_container_begins_it_never_does(made: Made, tmp_path: Path) -> None:
    pod = made(f"touch {tmp_path}/begun")
    pod.start_agent()
    pod.eventually((pod.base / "ctl" / "start").exists)
    pod.stop()
    told = pod.told()
    assert (reason_of(told).code, told.observation.exit_code, told.started) == ("cancelled", None, 0)
    pod.start_main()
    assert pod.main is not None
    assert pod.main.wait(10) in (125, 143)
    assert not (tmp_path / "begun").exists()


def test_a_declared_output_that_is_missing_is_told(made: Made) -> None:
    told = made("echo 1 >there.csv", outputs=("there.csv", "gone.csv")).run()
    assert told.observation.missing == ("gone.csv",)
    assert [output.name for output in told.observation.outputs] == ["there.csv"]


def test_a_link_out_is_noted_in_the_log(made: Made) -> None:
    told = made("ln -s /etc/hostname x; echo 1 >y", outputs=None).run()
    assert [output.name for output in told.observation.outputs] == ["y"]
    assert told.output(1).startswith(b"groundplane: not kept of the working copy: 'x' is a link")


@pytest.mark.parametrize("said", [True, False])
def test_outputs_count_only_when_the_sentinel_came(made: Made, said: bool) -> None:
    script = "echo 1 >x.csv; echo before" + ("; echo END-7" if said else "")
    told = made("", command=Command(("sh", "-c", script), sentinel="END-7"), outputs=("x.csv",)).run()
    assert told.output(0) == b"before\n"
    assert told.observation.sentinel is said
    assert len(told.observation.outputs) == said


def test_where_no_shell_ever_runs_sigterm_is_the_end(made: Made) -> None:
    pod = made("true")
    pod.start_agent()
    pod.eventually((pod.base / "ctl" / "start").exists)
    pod.terminate()
    told = pod.told()
    assert (told.observation.exit_code, told.observation.reason, told.started) == (None, None, 0)
    assert told.uploaded


def test_a_shell_that_is_killed_with_its_work_leaves_no_status(made: Made) -> None:
    pod = made("echo $$; exec sleep 75.5")
    pod.start_agent()
    pod.start_main()
    pod.until("log")
    assert pod.main is not None
    pod.main.kill()
    os.killpg(pod.main.pid, signal.SIGKILL)
    pod.main.wait()
    told = pod.told()
    assert (told.observation.exit_code, told.observation.reason, told.uploaded) == (None, None, True)
    assert told.output(0)


def test_a_second_agent_begins_nothing_again(made: Made, tmp_path: Path) -> None:
    pod = made(f"echo x >>{tmp_path}/runs; echo begun; sleep 1")
    pod.start_agent()
    pod.start_main()
    pod.until("log")
    assert pod.agent is not None
    pod.agent.kill()
    pod.agent.wait()
    pod.lines = []
    pod.start_agent()
    ended = pod.until("ended")
    assert ended["observation"]["phase"] == "lost"
    assert ended["observation"]["attempt"] == pod.launch.attempt
    assert ended["observation"]["reason"]["code"] == "sidecar_restarted"
    assert ended["observation"]["reason"]["fault"] == "backend"
    assert pod.main is not None
    pod.main.wait(10)  # it is not held back for ever
    assert (tmp_path / "runs").read_text() == "x\n"


def test_a_second_agent_lets_the_waiting_container_go(made: Made, tmp_path: Path) -> None:
    pod = made(f"touch {tmp_path}/begun")
    (pod.base / "ctl").mkdir()
    (pod.base / "ctl" / "begun").touch()
    pod.start_main()
    pod.start_agent()
    pod.until("ended")
    assert pod.main is not None
    assert pod.main.wait(10) == 125
    assert not (tmp_path / "begun").exists()


def test_a_second_agent_repeats_an_end_that_is_known(made: Made) -> None:
    pod = made("exit 3")
    pod.run()
    first = pod.until("ended")
    assert pod.agent is not None
    pod.agent.kill()
    pod.agent.wait()
    pod.lines = []
    pod.start_agent()
    assert pod.until("ended") == first


def test_an_expired_url_is_told_without_its_text(made: Made, store: pods.Store) -> None:
    pod = made("true")
    digest = pod.input(b"x")
    store.answers[f"/input/{digest}"] = [403]
    told = pod.run()
    reason = reason_of(told)
    assert (reason.code, reason.fault) == ("staging_failed", "backend")
    assert "403" in reason.message
    assert "http" not in reason.message
    assert "clocks" in reason.hint
    assert store.asked.count(f"GET /input/{digest}") == 1
    assert pod.main is not None
    assert pod.main.wait(10) == 125


def test_what_comes_damaged_is_asked_for_again(made: Made, store: pods.Store) -> None:
    pod = made("cat in")
    digest = pod.input(b"right\n")
    pod.order["launch"]["inputs"] = [{"path": "in", "source": str(layout.blob(pod.home, digest))}]
    store.content[f"/input/{digest}"] = b"wrong\n"
    pod.start_agent()
    pod.start_main()
    pod.eventually(lambda: store.asked.count(f"GET /input/{digest}") >= 2)
    store.content[f"/input/{digest}"] = b"right\n"
    assert pod.told().output(0) == b"right\n"


def test_an_upload_is_tried_again(made: Made, store: pods.Store) -> None:
    store.answers["/result?secret"] = [500, 503]
    told = made("echo 1 >x", outputs=("x",)).run()
    assert (told.uploaded, told.observation.reason) == (True, None)
    assert store.asked.count("PUT /result?secret") == 3


def test_an_upload_that_is_refused_is_told(made: Made, store: pods.Store) -> None:
    store.answers["/result?secret"] = [403]
    told = made("echo 1 >x", outputs=("x",)).run()
    reason = reason_of(told)
    assert (told.uploaded, reason.code, reason.fault) == (False, "result_not_stored", "backend")
    assert "secret" not in reason.message


def test_a_script_that_failed_keeps_its_own_fault_when_the_upload_fails_too(made: Made, store: pods.Store) -> None:
    store.answers["/result?secret"] = [403]
    told = made("exit 3").run()
    assert (told.uploaded, told.observation.exit_code, told.observation.reason) == (False, 3, None)


def test_a_result_too_large_for_one_piece_is_the_users(made: Made) -> None:
    pod = made("head -c 200000 /dev/zero >x; echo said", outputs=("x",))
    pod.start_agent("from groundplane.agent import pod_transfer; pod_transfer.LARGEST = 100_000")
    pod.start_main()
    told = pod.told()
    assert (reason_of(told).code, reason_of(told).fault) == ("result_too_large", "user")
    assert told.result.keys() == {"observation.json", "log.seg"}
    assert told.observation.outputs == ()


def test_five_mebibytes_of_log_come_whole(made: Made) -> None:
    script = "import sys\nfor n in range(80_000): print(f'{n:07d}', '.' * 56)"
    told = made("", command=Command((sys.executable, "-c", script))).run()
    lines = told.output(0).splitlines()
    assert len(told.output(0)) > 5_000_000
    assert [int(line[:7]) for line in lines] == list(range(80_000))


def test_a_failure_of_its_own_is_told_and_ends_the_work(made: Made) -> None:
    pod = made("echo x; sleep 74.5")
    pod.start_agent("def broken(*_): raise RuntimeError('broken')\npod_work.Work._look = broken")
    pod.start_main()
    told = pod.told()
    assert (reason_of(told).code, reason_of(told).fault) == ("internal", "platform")
    assert survivors("74.5") == []


def test_an_order_that_cannot_be_read_is_told(made: Made) -> None:
    pod = made("true")
    pod.order = {"nothing": 1}
    pod.start_agent()
    ended = pod.until("ended")
    assert ended["observation"]["reason"]["code"] == "start_failed"


def test_in_a_namespace_of_their_own_all_that_lives_there_is_the_works(made: Made, tmp_path: Path) -> None:
    require("root")
    namespace = ["unshare", "--pid", "--fork", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*namespace, "true"], capture_output=True).returncode:
        pytest.skip("no namespaces can be made here")
    script = "(trap '' TERM; exec env -i setsid sleep 73.5) & sleep 73.6 & wait"
    pod = made(script, resources=Resources(timeout=0.5), grace=0.3)
    order = tmp_path / "order.json"
    order.write_text(json.dumps(pod.order))
    beside = shlex.join([sys.executable, *agent(str(pod.base), str(order))[1:]])
    main = shlex.join([*MAIN, str(pod.base)])
    told = subprocess.run(
        [*namespace, "sh", "-c", f"{beside} & agent=$!; {main}; echo main $?; kill $agent; wait $agent; echo agent $?"],
        capture_output=True,
        timeout=30,
        check=True,
    ).stdout.splitlines()
    ended = json.loads(told[-3])
    assert ended["observation"]["reason"]["code"] == "timeout"
    assert ended["observation"]["usage"]["wall"] < 5
    assert told[-2:] == [b"main 143", b"agent 0"]
    assert survivors("73.5", "73.6") == []


def test_how_soon_it_starts(made: Made) -> None:
    """Printed, for this depends on the machine: what counts is that it starts at all."""
    took: list[float] = []
    for _ in range(3):
        pod = made("true")
        begun = time.time()
        pod.start_agent()
        pod.start_main()
        took.append(pod.until("started")["at"] / 1e6 - begun)
        pod.told()
        print(f"started {took[-1] * 1000:.0f} ms after the agent's process, ended {pod.lines[-1]['t']}")
    assert min(took) > 0


def test_it_runs_where_nothing_but_python_is(made: Made, tmp_path: Path) -> None:
    """The packages that the agent's image has, in an interpreter without any others."""
    package = Path(sys.modules["groundplane"].__file__ or "").parent
    copy = tmp_path / "image" / "groundplane"
    for part in ("agent", "spi", "model"):
        shutil.copytree(package / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(package / "__init__.py", copy)
    pod = made("echo 1 >x", outputs=("x",))
    order = tmp_path / "order.json"
    order.write_text(json.dumps(pod.order))
    words = f"import sys, runpy; sys.path.insert(0, {str(copy.parent)!r}); sys.argv = ['pod', *sys.argv[1:]]\n"
    words += "runpy.run_module('groundplane.agent.pod', run_name='__main__')"
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", words, str(pod.base), str(order)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        pod.start_main()
        lines: list[dict[str, Any]] = []
        while not lines or lines[-1]["t"] != "ended":
            lines.append(json.loads(process.stdout.readline()))
        process.terminate()
        assert process.wait(10) == 0
    assert lines[-1]["observation"]["exit_code"] == 0
    assert lines[-1]["uploaded"] is True


def test_secrets_are_files_while_it_runs_and_no_output(made: Made, store: pods.Store) -> None:
    key = PrivateFile("conf/key", "hunter2 \udcff\n")
    private = (key, PrivateFile("odbc.ini", "[w]\n", beside=True, writable=True))
    script = 'stat -c %a conf/key "$TMPDIR/../odbc.ini"; cat conf/key "$TMPDIR/../odbc.ini"; echo 1 >a'
    pod = made(script, private=private, redact=("hunter2",), outputs=("a", "conf"), env={"TOKEN": "hunter2"})
    told = pod.run()
    assert told.output(0) == b"400\n600\n*** \xff\n[w]\n"
    assert told.observation.missing == ("conf",)
    assert not (layout.tree(pod.home, pod.launch.attempt) / "conf" / "key").exists()
    assert b"hunter2" not in store.content["/result?secret"]
