"""Licence seats as the command line has them. `sh` stands for an engine with a licence: nobody here has a real one."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli_ground import SETTLED, Ground, alive, until

HOLD = "while [ ! -e {go} ]; do sleep 0.05; done\necho done\n"


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    made = Ground(tmp_path)
    yield made
    made.close()


@pytest.fixture
def go(ground: Ground, tmp_path: Path) -> Path:
    """The file that ends hold.sh; quick.sh needs no such thing."""
    found = tmp_path / "go"
    ground.write("hold.sh", HOLD.format(go=found))
    ground.write("quick.sh", "echo quick\n")
    return found


def pool(ground: Ground) -> dict[str, Any]:
    [found] = ground.json("licences", "list")
    return found


def start(ground: Ground, script: str) -> str:
    return ground.json("run", script, "--detach")["id"]


def test_a_seat_is_taken_waited_for_and_given_back(ground: Ground, go: Path) -> None:
    assert "no pools yet" in ground("licences", "list").stderr
    done = ground("licences", "set", "sh", "--seats", "1")
    assert done.stdout == "sh: 1 seat, 0 in use, 1 free\n"
    first = start(ground, "hold.sh")
    until(lambda: pool(ground)["used"] == 1, "the seat is taken")
    said = f"waits for a seat of sh: 1 of 1 taken by run {first} (step hold.sh)"
    assert f"now quick.sh {said}" in ground("plan", "quick.sh").stdout
    following = ground.start("run", "quick.sh")
    assert following.stderr is not None
    assert following.stderr.readline().decode().rstrip() == said
    second = ground.json("runs", "list", "--limit", "1")["runs"][0]["id"]
    shown = ground.json("runs", "show", second)
    assert shown["tasks"][0]["waiting"]["code"] == shown["reason"]["code"] == "no_licence_seat"
    assert said in ground("runs", "show", second).stdout
    assert set(pool(ground)) >= {"name", "seats", "server", "used", "free", "waiting", "holders"}
    assert {name: pool(ground)[name] for name in ("seats", "server", "used", "free", "waiting")} == {
        "seats": 1, "server": None, "used": 1, "free": 0, "waiting": 1,
    }  # fmt: skip
    listed = ground("licences", "list").stdout
    assert listed.splitlines()[0].split() == ["NAME", "SEATS", "USED", "FREE", "WAITING", "SERVER"]
    assert f"sh: run {first} (step hold.sh) on local" in listed
    go.touch()
    assert following.communicate(timeout=60)[0] == b"quick\n"
    assert following.returncode == 0
    ground("licences", "remove", "sh")
    assert "there is no pool 'sh'" in ground("licences", "remove", "sh", code=2).stderr


def test_a_pipeline_says_which_step_waits(ground: Ground, go: Path) -> None:
    steps = "".join(f'[pipelines.p.steps.{name}]\nrun = "quick.sh"\n' for name in "ab")
    ground.write("ground.toml", f'[project]\nname = "trial"\n{steps}')
    ground("licences", "set", "sh", "--seats", "1")
    holder = start(ground, "hold.sh")
    until(lambda: pool(ground)["used"] == 1, "the seat is taken")
    following, quiet = ground.start("run", "p"), ground.start("run", "p", "--json")
    for each in (following, quiet):
        assert each.stderr is not None
        assert each.stderr.readline().decode().rstrip().startswith("a  waits for a seat of sh: 1 of 1 taken by run ")
    go.touch()
    following.communicate(timeout=60)
    assert json.loads(quiet.communicate(timeout=60)[0])["state"] == "succeeded"
    assert (following.returncode, ground.json("runs", "show", holder)["state"]) == (0, "succeeded")


def test_a_killed_control_plane_gives_back_what_its_work_held(ground: Ground, go: Path) -> None:
    ground("licences", "set", "sh", "--seats", "1")
    first, second = start(ground, "hold.sh"), start(ground, "quick.sh")
    until(lambda: pool(ground)["waiting"] == 1, "the second waits")
    pid = ground.pid()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not alive(pid), "it is gone")
    assert pool(ground)["used"] == 1, "the work runs on, with its seat"
    agent = ground.json("status")["agent_pid"]
    os.kill(agent, signal.SIGKILL)
    go.touch()
    for run in (first, second):
        assert until(lambda run=run: (found := ground.json("runs", "show", run)["state"]) in SETTLED and found, run)
    assert (pool(ground)["used"], pool(ground)["free"]) == (0, 1)


def test_a_pool_without_seats_is_refused_before_the_start(ground: Ground, go: Path) -> None:
    ground("licences", "set", "sh", "--seats", "0")
    for command in ("run", "plan"):
        told = ground(command, "quick.sh", code=2).stderr
        assert "error: step 'quick.sh' needs a seat of sh, whose pool has none" in told
        assert "hint: ground licences set sh --seats N" in told
    assert "--seats" in ground("licences", "set", "sh", code=2).stderr
    assert "PORT@HOST" in ground("licences", "set", "sh", "--seats", "1", "--server", "licences", code=2).stderr


def test_a_server_that_is_there_or_not(ground: Ground, go: Path, tmp_path: Path) -> None:
    """`lmutil` here is a script with a recorded answer."""
    told = ground("licences", "set", "matlba", "--seats", "2", "--server", "27000@licences")
    assert "lmutil is not on the control plane's PATH" in told.stderr
    assert "untested" in told.stderr
    assert "no engine of the catalogue is called matlba" in told.stderr
    ground("down")
    program = tmp_path / "lmutil"
    program.write_text('#!/bin/sh\necho "Users of SH:  (Total of 2 licenses issued;  Total of 1 license in use)"\n')
    program.chmod(0o755)
    ground.env["LMUTIL"] = str(program)
    ground("licences", "set", "sh", "--seats", "2", "--server", "27000@licences")
    found = next(each for each in ground.json("licences", "list") if each["name"] == "sh")
    assert (found["free"], found["elsewhere"]) == (1, 1)
    ground.write("show.sh", 'echo "$LM_LICENSE_FILE"\n')
    assert ground("run", "show.sh").stdout == "27000@licences\n"
    assert ground("run", "show.sh", LM_LICENSE_FILE="1@mine").stdout == "1@mine\n"
