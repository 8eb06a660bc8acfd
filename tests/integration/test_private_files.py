"""Secrets that work gets as files, however its working copy is made and whoever it belongs to."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from groundplane.spi import layout
from groundplane.spi.launch import Launch, PrivateFile
from tests.conformance.driver_bench import launch
from tests.integration.agent_bench import AgentBench, agent_bench, eventually
from tests.parts import require

VALUE = bytes(range(256))
SECRETS = (
    PrivateFile("conf/key", VALUE.decode(errors="surrogateescape")),
    PrivateFile("odbc/odbc.ini", "[warehouse]\n", beside=True, writable=True),
)
SCRIPT = 'sha256sum < conf/key; stat -c %a conf/key "$SUPPORT/odbc/odbc.ini"; cat "$SUPPORT/odbc/odbc.ini"; echo > new'


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[AgentBench]:
    with agent_bench(tmp_path / "home") as made:
        yield made


@pytest.mark.parametrize("kind", ["small", "overlaid", "confined", "owned"])
def test_they_are_there_while_it_runs_and_no_output(bench: AgentBench, tmp_path: Path, kind: str) -> None:
    if kind == "confined":
        require("bubblewrap")
    if kind in ("overlaid", "owned"):
        require("root")
    project = tmp_path / "project"
    for number in range(100 if kind == "overlaid" else 1):
        path = project / "data" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    fields = {"confined": kind == "confined", "owner": 1000 if kind == "owned" else None}
    wanted = launch(SCRIPT, snapshot=bench.snapshot(project), outputs=None, private=SECRETS, **fields)
    support = layout.support(bench.home, wanted.attempt)
    told = bench.run(_with(wanted, SUPPORT=str(support)))
    assert told.stderr == ""
    assert told.stdout.split() == [hashlib.sha256(VALUE).hexdigest(), "-", "400", "600", "[warehouse]"]
    assert [output.name for output in told.outputs] == ["new"]
    tree = layout.tree(bench.home, wanted.attempt)
    assert not (tree / "conf" / "key").exists() and not (support / "odbc" / "odbc.ini").exists()


def test_one_that_never_began_leaves_none(bench: AgentBench) -> None:
    wanted = _with(launch("true", private=SECRETS), PATH="/nowhere")
    told = bench.run(wanted)
    assert told.reason is not None and told.reason.code == "missing_engine"
    assert not (layout.tree(bench.home, wanted.attempt) / "conf" / "key").exists()


def test_the_next_one_on_the_same_files_finds_nothing_of_it(bench: AgentBench, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "a.txt").write_text("x")
    snapshot = bench.snapshot(project)
    for number in range(4):
        private = SECRETS if number % 2 == 0 else ()
        told = bench.run(launch("find . -type f | sort | xargs", snapshot=snapshot, private=private))
        assert told.stdout == ("./a.txt ./conf/key\n" if private else "./a.txt\n")


def test_a_killed_agent_leaves_none_behind(bench: AgentBench) -> None:
    wanted = launch("echo ready; sleep 600", private=SECRETS)
    bench.driver.submit([wanted])
    eventually(lambda: (layout.tree(bench.home, wanted.attempt) / "conf" / "key").exists())
    bench.kill_agent()
    bench.driver.observe([wanted.attempt])  # the next one has begun
    # os.walk and no rglob: folders go while it looks
    eventually(lambda: not any("key" in names for _, _, names in os.walk(bench.home / "work")))


def _with(wanted: Launch, **variables: str) -> Launch:
    return replace(wanted, env={**wanted.env, **variables})
