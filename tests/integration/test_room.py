"""The engine counts what it has handed over; an attempt that is not its own any more must not take room for ever."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from groundplane.engine import conductor
from groundplane.store.database import sqlite_url
from tests.integration.agent_bench import agents_of
from tests.planes import Ground


def _fan(count: int) -> str:
    values = ", ".join(map(str, range(count)))
    return f'[pipelines.p.steps.t]\ncommand = ["/fake/t"]\nfor_each = {{ i = [{values}] }}\n'


def test_asking_after_what_has_just_ended_takes_no_room(ground: Ground) -> None:
    run = ground.run(_fan(40))
    assert run.state == "succeeded"
    link = ground.conductor._links["local"]  # pyright: ignore[reportPrivateUsage]
    # The net asks after attempts that were open a moment ago; the answer finds them settled and cleaned up.
    link.observe([f"{run.id}.0.{number}.1" for number in range(40)])
    link.observe(["00000000-0000-7000-8000-000000000000.0.0.1"])
    deadline = time.monotonic() + 10
    while link.outstanding and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not link.outstanding
    assert ground.run(_fan(40)).state == "succeeded"


def test_what_waits_behind_an_agent_that_dies_is_handed_over_again(
    local_on: Callable[[str], Ground], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conductor, "_NET_SECONDS", 1000.0)  # the net would find them too, but late
    ground = local_on(sqlite_url(tmp_path / "ground.db"))
    uid = ground.submit('[pipelines.p.steps.t]\ncommand = ["sleep", "0.5"]\nfor_each = { i = [0, 1, 2, 3, 4, 5] }\n')
    ground.until_task(uid, "t[0]", "running")
    link = ground.conductor._links["local"]  # pyright: ignore[reportPrivateUsage]
    assert len(link.outstanding) > 2  # some run, some wait at the agent
    (pid,) = agents_of(ground.home)
    os.kill(pid, signal.SIGKILL)
    assert ground.wait(uid).state == "succeeded"
