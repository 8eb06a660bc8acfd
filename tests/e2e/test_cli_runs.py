"""Runs through the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli_ground import BIN, SETTLED, Ground, until

SPEC = """
[project]
name = "trial"

[pipelines.analysis.steps.clean]
command = ["sh", "-c", "echo cleaning; echo warn >&2; printf 'a,b\\\\n1,2\\\\n' > clean.csv"]
outputs = ["clean.csv"]

[pipelines.analysis.steps.score]
command = ["sh", "-c", "echo scoring $GROUND_PARAM_PART; echo '{\\"auc\\": 0.5}' > metrics.json"]
for_each = { part = ["n", "s"] }
inputs = { "in.csv" = "clean/clean.csv" }
outputs = ["metrics.json"]

[pipelines.analysis.steps.last]
command = ["sh", "-c", "test -e {flag} || { echo no flag >&2; exit 3; }"]
after = ["score"]
"""


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    made = Ground(tmp_path_factory.mktemp("cli"))
    yield made
    made.close()


@pytest.fixture
def trial(ground: Ground, tmp_path: Path) -> Path:
    """A project whose last step fails until the flag that is returned exists."""
    flag = tmp_path / "flag"
    ground.write("trial/ground.toml", SPEC.replace("{flag}", str(flag)))
    return flag


def test_a_script_runs_as_if_it_had_been_started_by_itself(ground: Ground) -> None:
    ground.write("say.py", "import sys\nprint('out', sys.argv[1:])\nprint('err', file=sys.stderr)\n")
    done = ground("run", "say.py", "-p", "alpha=$(x) é", "--", "--flag", "--", "-x")
    assert done.stdout == "out ['--alpha', '$(x) é', '--flag', '--', '-x']\n"
    assert done.stderr == "err\n"


def test_a_script_ends_with_its_new_files_and_out_puts_them_there(ground: Ground) -> None:
    ground.write("make/make.py", "import os\nos.makedirs('sub dir')\nopen('sub dir/é.csv', 'w').write('1\\n')\n")
    done = ground("run", "make/make.py")
    assert done.stdout == "" and "1 new file: sub dir/é.csv (2 B)" in done.stderr
    command = done.stderr.split("get one: ground ")[1].strip()
    subprocess.run(f"{BIN}/ground {command}", shell=True, env=ground.env, cwd=ground.work, check=True)
    assert (ground.work / "é.csv").read_text() == "1\n"
    ground("run", "make/make.py", "--out", "results")
    assert (ground.work / "results/sub dir/é.csv").read_text() == "1\n"
    assert not (ground.work / "make/sub dir").exists()
    assert ground("artifacts", "get", "latest", "make.py/sub dir/é.csv", "-o", "-").stdout == "1\n"
    [listed] = ground.json("artifacts", "list", "latest")
    assert listed["name"] == "make.py/sub dir/é.csv" and listed["size"] == 2


def test_a_file_name_may_be_any_bytes(ground: Ground) -> None:
    ground.write("odd/odd.py", "for name in (b'caf\\xe9.csv', b'two\\nlines'): open(name, 'wb').write(name)\n")
    out = ground.work / "odd out"
    done = ground("run", "odd/odd.py", "--out", str(out))
    assert sorted(os.listdir(os.fsencode(out))) == [b"caf\xe9.csv", b"two\nlines"]
    assert "two\\nlines" in done.stderr and "two\nlines" not in done.stderr
    names = [artifact["output"] for artifact in ground.json("artifacts", "list", "latest")]
    assert [os.fsencode(name) for name in names] == [b"caf\xe9.csv", b"two\nlines"]
    for name in names:
        got = ground("artifacts", "get", "latest", f"odd.py/{name}", "-o", "-")
        assert os.fsencode(got.stdout) == os.fsencode(name)
    shown = ground("run", "odd/odd.py").stderr.split("get one: ground ")[1].strip()
    subprocess.run(["bash", "-c", f"{BIN}/ground {shown}"], env=ground.env, cwd=ground.work, check=True)
    assert (ground.work / os.fsdecode(b"caf\xe9.csv")).read_bytes() == b"caf\xe9.csv"
    assert "caf\\udce9.csv" in ground("artifacts", "list", "latest").stdout


def test_bytes_go_through_as_they_are(ground: Ground) -> None:
    ground.write("raw.sh", "printf 'caf\\351\\000no newline'")
    done = subprocess.run([BIN / "ground", "run", "raw.sh"], env=ground.env, cwd=ground.work, capture_output=True)
    assert done.stdout == b"caf\xe9\x00no newline"
    [line] = [json.loads(line) for line in ground("runs", "logs", "latest", "--json").stdout.splitlines()]
    assert line["text"] == "caf\ufffd\x00no newline"
    assert set(line) == {"time", "task", "attempt", "stream", "text"}
    again = subprocess.run([BIN / "ground", "runs", "logs", "latest"], env=ground.env, capture_output=True)
    assert again.stdout == done.stdout


def test_a_failing_script_is_exit_1_with_its_reason(ground: Ground) -> None:
    ground.write("bad.py", "import sys\nprint('before')\nsys.exit('no such column: age')\n")
    done = ground("run", "bad.py", code=1)
    assert done.stdout == "before\n"
    assert "error: bad.py failed" in done.stderr and "no such column: age" in done.stderr
    document = ground.json("run", "bad.py", code=1)
    assert document["state"] == "failed" and document["tasks"][0]["exit_code"] == 1
    assert document["tasks"][0]["reason"]["fault"] == "user"


def test_json_is_one_document_and_nothing_else(ground: Ground) -> None:
    ground.write("say.py", "print('not this')\n")
    document = ground.json("run", "say.py")
    assert document["state"] == "succeeded" and document["reason"] is None
    assert {"id", "name", "project", "backend", "parameters", "submitted_at", "metrics", "tasks"} <= set(document)
    [task] = document["tasks"]
    assert task["toolchain"] == "python" and task["attempts"] == 1 and task["reused"] is False
    assert ground.json("runs", "show", document["id"])["tasks"] == document["tasks"]
    assert ground.json("runs", "show", document["id"][:20])["id"] == document["id"]


def test_a_pipeline_tells_its_progress_its_tree_and_how_to_go_on(ground: Ground, trial: Path) -> None:
    done = ground("run", "trial", code=1)
    assert sorted(done.stdout.splitlines()) == ["cleaning", "scoring n", "scoring s"]
    for told in (
        "clean  succeeded",
        "score  2 succeeded",
        "error: task last failed",
        "no flag",
        "auc 0.5",
        "mend it, then ground run trial again",
    ):
        assert told in done.stderr, told
    run = ground.json("runs", "show", "latest")
    assert ground("runs", "wait", "latest", code=1).stdout == ""
    trial.touch()
    rerun = ground("runs", "rerun", run["id"], "--failed", "--json")
    assert f"note: it runs the files as they were at run {run['id'][:13]}" in rerun.stderr
    again = json.loads(rerun.stdout)
    assert again["state"] == "succeeded" and again["rerun_of"] == run["id"]
    states = {task["name"]: task["state"] for task in again["tasks"]}
    assert states["last"] == "succeeded"
    out = ground.work / "out"
    ground("run", "trial", "--out", str(out))
    assert (out / "clean/clean.csv").read_text() == "a,b\n1,2\n"
    assert json.loads((out / "score[1]/metrics.json").read_text()) == {"auc": 0.5}


def test_a_lone_script_is_one_whoever_follows_it(ground: Ground) -> None:
    """And a pipeline of one step is none."""
    ground.write("one.sh", "echo one\nexit 3\n")
    ground.write("one/ground.toml", '[project]\nname = "one"\n[pipelines.p.steps.only]\ncommand = ["false"]\n')
    lone = ground("run", "one.sh", code=1).stderr
    assert "one.sh failed" in lone and "└─" not in lone and "again" not in lone
    assert ground.json("runs", "show", "latest")["pipeline"] == ""
    assert ground.json("runs", "list")["runs"][0]["pipeline"] == ""
    for words in (("wait", "latest"), ("rerun", "latest")):
        assert "└─" not in ground("runs", *words, code=1).stderr
    assert "└─ only" in ground("run", "one", code=1).stderr
    for words in (("wait", "latest"), ("rerun", "latest")):
        assert "└─ only" in ground("runs", *words, code=1).stderr
    assert ground.json("runs", "show", "latest")["pipeline"] == "p"


def test_a_plan_has_the_commands_that_will_run(ground: Ground) -> None:
    ground.write("plan/fit.sh", "#!/bin/bash\ntr '\\0' '\\n' < /proc/$$/cmdline\n")
    ground.write(
        "plan/ground.toml",
        """
[project]
name = "plan"
[pipelines.p.steps.fit]
run = "fit.sh"
args = ["x y"]
[pipelines.p.steps.each]
run = "fit.sh"
for_each = { part = ["n", "s"] }
[pipelines.p.steps.none]
command = ["no-such-program", "-x"]
""",
    )
    steps = {step["step"]: step["command"] for step in ground.json("plan", "plan")["steps"]}
    assert steps["none"] == ["no-such-program", "-x"]
    assert "{part}" in steps["each"]
    argv = ground.json("plan", "plan/fit.sh", "-p", "alpha=0.1")["steps"][0]["command"]
    assert argv[1:] == ["fit.sh", "--alpha", "0.1"]
    assert ground("run", "plan/fit.sh", "-p", "alpha=0.1").stdout.splitlines() == argv


def test_a_variable_that_the_work_could_not_get_is_refused(ground: Ground) -> None:
    ground.write("say.sh", "echo said\n")
    for entry in ("A B=1", "GROUND_HOME=/x"):
        assert "hint: " in ground("run", "say.sh", "-e", entry, code=2).stderr
    code = (
        "from groundplane import Client\nfrom groundplane.client import request\n"
        "Client().submit(request('say.sh', environment={'GROUND_HOME': '/x'}))\n"
    )
    done = subprocess.run([BIN / "python", "-c", code], env=ground.env, cwd=ground.work, capture_output=True, text=True)
    assert "Invalid: -e GROUND_HOME" in done.stderr


def test_logs_of_one_task(ground: Ground, trial: Path) -> None:
    trial.touch()
    run = ground.json("run", "trial", "--fresh")["id"]
    assert ground("runs", "logs", run, "--task", "score[1]").stdout == "scoring s\n"
    done = ground("runs", "logs", run, "--task", "clean")
    assert (done.stdout, done.stderr) == ("cleaning\n", "warn\n")


def test_detach_follow_and_wait(ground: Ground) -> None:
    ground.write("slow.py", "import time\nfor i in range(5):\n    print(i, flush=True)\n    time.sleep(0.1)\n")
    document = ground.json("run", "slow.py", "--detach")
    assert document["state"] not in SETTLED
    followed = ground("runs", "logs", document["id"], "--follow")
    assert followed.stdout == "0\n1\n2\n3\n4\n"
    lines = ground("runs", "logs", document["id"], "--follow", "--json").stdout.splitlines()
    assert [json.loads(line)["text"] for line in lines] == list("01234")
    assert ground.json("runs", "wait", document["id"])["state"] == "succeeded"


def test_lists_go_page_by_page(ground: Ground) -> None:
    ground.write("say.py", "")
    for _ in range(3):
        ground("run", "say.py")
    first = ground.json("runs", "list", "--limit", "2")
    assert len(first["runs"]) == 2 and first["next"]
    rest = ground.json("runs", "list", "--limit", "1000", "--cursor", first["next"])
    assert rest["next"] is None
    ids = [run["id"] for run in (*first["runs"], *rest["runs"])]
    assert len(ids) == len(set(ids))
    assert ground.json("runs", "show", "latest")["id"] == ids[0]
    states = {run["state"] for run in ground.json("runs", "list", "--state", "succeeded")["runs"]}
    assert states == {"succeeded"}
    assert "SUBMITTED" in ground("runs", "list").stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_cancels_the_run_and_its_whole_tree(
    ground: Ground, number: signal.Signals, tmp_path: Path
) -> None:
    marker = tmp_path / "alive"
    ground.write("tree.sh", f"(while :; do date +%s%N > {marker}; sleep 0.02; done) &\necho up\nwait\n")
    process = ground.start("run", "tree.sh")
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert b"cancelling" in err
    assert ground.json("runs", "show", "latest")["state"] == "cancelled"
    before = marker.read_text()
    with pytest.raises(AssertionError):
        until(lambda: marker.read_text() != before, "a sign of life", 0.5)


def test_a_second_signal_leaves_at_once(ground: Ground) -> None:
    ground.write("stubborn.sh", "trap '' TERM\necho up\nsleep 3\n")
    process = ground.start("run", "stubborn.sh")
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while b"cancelling" not in process.stderr.readline():
        pass
    assert ground.json("runs", "show", "latest")["state"] not in ("succeeded", "failed")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=2)
    assert process.returncode == 130
    ground("runs", "wait", "latest", code=1)


def test_a_reader_that_has_had_enough_ends_the_following_not_the_work(ground: Ground, tmp_path: Path) -> None:
    done_file = tmp_path / "done"
    ground.write("much.sh", f"for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.05; done\necho yes > {done_file}\n")
    shell = f"{BIN}/ground run much.sh 2>err | head -n1"
    done = subprocess.run(shell, shell=True, env=ground.env, cwd=ground.work, capture_output=True, text=True)
    assert done.stdout == "1\n"
    told = (ground.work / "err").read_text()
    assert "Traceback" not in told and "the run goes on: ground runs logs" in told
    ground("runs", "wait", "latest")
    assert done_file.exists()


def test_cancel_by_hand(ground: Ground) -> None:
    ground.write("wait.sh", "sleep 60\n")
    document = ground.json("run", "wait.sh", "--detach")
    ground("runs", "cancel", document["id"])
    ground("runs", "wait", document["id"], code=1)
    shown = ground.json("runs", "show", document["id"])
    assert shown["state"] == "cancelled" and shown["reason"]["code"] == "cancelled"
    assert ground("runs", "show", document["id"]).stdout.count("cancelled it") == 1
    assert ground.json("runs", "cancel", document["id"])["state"] == "cancelled"


def test_values_given_with_e_are_taken_anew_from_the_shell(ground: Ground) -> None:
    ground.write("secret.sh", 'test "$TOKEN" = hush && echo known\n')
    document = ground.json("run", "secret.sh", "-e", "TOKEN=hush")
    assert document["environment"] == ["TOKEN"] and "hush" not in json.dumps(document)
    assert "TOKEN" in ground("runs", "rerun", document["id"], code=2).stderr
    assert ground("runs", "rerun", document["id"], TOKEN="hush").stdout == "known\n"
    assert ground("runs", "rerun", document["id"], "-e", "TOKEN=hush").stdout == "known\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("runs", "show", "nope"), "nope"),
        (("runs", "list", "--state", "odd"), "succeeded"),
        (("run", "say.py", "--on", "moon"), "local"),
        (("run", "say.py", "--toolchain", "cobol"), "python"),
        (("artifacts", "get", "latest", "no/such"), "it has none"),
        (("toolchains", "show", "cobol"), "python"),
        (("backends", "check", "moon"), "local"),
        (("run", "trial", "-p", "unknown=1", "--pipeline", "nope"), "analysis"),
    ],
)
def test_what_does_not_exist_is_exit_2_and_names_what_does(
    ground: Ground, trial: Path, words: tuple[str, ...], told: str
) -> None:
    ground.write("say.py", "")
    ground("run", "say.py")
    done = ground(*words, code=2)
    assert done.stderr.startswith("error: ") and told in done.stderr and "hint: " in done.stderr


def test_what_there_is(ground: Ground, trial: Path) -> None:
    assert {"python", "r", "matlab", "spss", "sas", "shell"} <= {t["name"] for t in ground.json("toolchains", "list")}
    assert "local" in {b["name"] for b in ground.json("backends", "list")}
    assert ground.json("backends", "check", "local")[0]["ok"] is True
    assert {"name", "level", "message", "hint"} <= set(ground.json("doctor")[0])
    assert "properties" in json.loads(ground("schema").stdout)
    steps = ground.json("plan", "trial")["steps"]
    assert [step["step"] for step in steps] == ["clean", "score", "last"]
    assert "score" in ground("plan", "trial").stdout
    assert "engines:" in ground("toolchains", "show", "shell").stdout
