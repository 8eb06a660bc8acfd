"""What somebody types who does not know Groundplane yet: a clear error, the way out, nothing executed by mistake."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli_ground import Ground

HELLO = "import sys\nprint('hi', *sys.argv[1:])\n"


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    found = Ground(tmp_path)
    found.write("hello.py", HELLO)
    yield found
    found.close()


def pipeline(steps: str) -> str:
    return f'[project]\nname = "p"\n{steps}'


STEP = '[pipelines.p.steps.a]\ncommand = ["touch", "{ran}"]\n'

WRONG = [
    pytest.param(STEP + "retrys = 3\n", "unknown key 'retrys'; did you mean 'retries'?", id="key"),
    pytest.param(
        STEP + 'after = ["b"]\n[pipelines.p.steps.b]\ncommand = ["true"]\nafter = ["a"]\n',
        "cycle: a -> b -> a",
        id="cycle",
    ),
    pytest.param('[pipelines.p.steps.a]\nrun = "nope.py"\n', "nope.py", id="script"),
    pytest.param(STEP + 'inputs = { "x.csv" = "data/none.csv" }\n', "data/none.csv", id="input"),
    pytest.param(
        STEP + 'outputs = ["y.csv"]\n[pipelines.p.steps.b]\ncommand = ["true"]\ninputs = { "x.csv" = "a/z.csv" }\n',
        "z.csv",
        id="output",
    ),
    pytest.param(STEP + 'resources = { memory = "much" }\n', "much", id="memory"),
]


@pytest.mark.parametrize(("steps", "named"), WRONG)
def test_a_wrong_file_names_the_place_and_runs_nothing(ground: Ground, steps: str, named: str) -> None:
    ran = ground.work / "ran"
    ground.write("p/ground.toml", pipeline(steps.replace("{ran}", str(ran))))
    told = ground("run", "p", code=2).stderr
    assert told.startswith("error: ") and named in told and ("hint: " in told or "write it like" in told)
    assert not ran.exists()
    assert ground.json("runs", "list")["runs"] == []


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["run", "hell.py"], "did you mean hello.py?"),
        (["run", "empty"], "has no ground.toml"),
        (["run", "hello.py", "--frsh"], "did you mean --fresh?"),
        (["run", "hello.py", "more"], "-- ARGS"),
        (["run", "hello.py", "-p", "x"], "-p x=VALUE"),
        (["run", "hello.py", "-e", "NOT_SET_HERE"], "NOT_SET_HERE"),
        (["run", "hello.py", "--memory", "3x"], "2GiB"),
        (["run", "hello.py", "--on", "mars"], "the backends are: local"),
        (["run", "hello.py", "--toolchain", "cobol"], "the toolchains are: "),
        (["run", "hello.py", "--out", "hello.py"], "is not a folder"),
        (["run", "hello.py", "--out", "hello.py/x"], "cannot be written"),
        (["runs", "show", "nope"], "no run 'nope'"),
        (["runs", "list", "--state", "bad"], "the states are: "),
        (["frob"], "there are: run, plan"),
    ],
)
def test_a_slip_is_told_with_what_there_is(ground: Ground, words: list[str], named: str) -> None:
    (ground.work / "empty").mkdir()
    told = ground(*words, code=2).stderr
    assert told.startswith("error: ") and named in told


def test_an_unknown_task_is_told_and_a_step_is_all_its_tasks(ground: Ground) -> None:
    ground.write(
        "p/ground.toml", pipeline('[pipelines.p.steps.s]\ncommand = ["echo", "{i}"]\nfor_each = { i = ["x", "y"] }\n')
    )
    ground("run", "p")
    assert "its steps are: s" in ground("runs", "logs", "latest", "--task", "z", code=2).stderr
    assert sorted(ground("runs", "logs", "latest", "--task", "s").stdout.split()) == ["x", "y"]
    assert ground("runs", "logs", "latest", "--task", "s[1]").stdout == "y\n"


@pytest.mark.parametrize("name", ["my script.py", "it's.py", 'a"b.py', "é ü.py", "$(touch ran).py", "-x.py", "a\nb.py"])
def test_any_name_runs(ground: Ground, name: str) -> None:
    ground.write(name, HELLO)
    assert ground("run", f"./{name}").stdout == "hi\n"
    assert not (ground.work / "ran").exists()


def test_any_parameter_is_text(ground: Ground) -> None:
    values = ["x=$(touch ran)", "y=--help", "z=a \"b\" 'c' é", "w=`touch ran`; touch ran"]
    told = ground("run", "hello.py", *(word for value in values for word in ("-p", value))).stdout
    assert told == "hi --x $(touch ran) --y --help --z a \"b\" 'c' é --w `touch ran`; touch ran\n"
    assert not (ground.work / "ran").exists()
    assert ground.json("artifacts", "list", "latest") == []


def test_a_rerun_takes_a_variable_that_the_first_run_had_not(ground: Ground) -> None:
    ground.write("env.sh", 'echo "${READY:-not set}"; test -n "${READY:-}"\n')
    ground("run", "env.sh", code=1)
    assert ground("runs", "rerun", "latest", "-e", "READY=yes").stdout == "yes\n"
    assert ground.json("runs", "show", "latest")["environment"] == ["READY"]


def test_the_home_is_its_owners_alone(ground: Ground) -> None:
    ground("run", "hello.py")
    assert stat.S_IMODE(ground.home.stat().st_mode) == 0o700
    ground.home.chmod(0o755)
    assert f"chmod 700 {ground.home}" in ground("doctor").stdout
