"""Users, the engine and other control planes change the same run at the same time."""

from __future__ import annotations

import logging
import random
import threading

import pytest
from sqlalchemy.exc import DBAPIError

from groundplane.model.errors import GroundError
from groundplane.model.states import FINAL
from tests.planes import Ground


def test_cancelling_while_tasks_end_neither_deadlocks_nor_leaves_anything_open(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    ground.play(a={"delay": 0.01, "outputs": {"0.csv": "", "1.csv": "", "2.csv": ""}}, b={"exit": [1, 1, 0]})
    steps = (
        '[pipelines.p.steps.a]\ncommand = ["/fake/a"]\nfor_each = { n = ["1", "2", "3"] }\n'
        '[pipelines.p.steps.c]\ncommand = ["/fake/a"]\noutputs = ["*.csv"]\n'
        '[pipelines.p.steps.d]\ncommand = ["/fake/b"]\nretries = 3\nfor_each = { n = "c/*.csv" }\n'
        '[pipelines.p.steps.e]\ncommand = ["/fake/a"]\nafter = ["a", "d"]\n'
    )
    chance = random.Random(7)
    failures: list[Exception] = []
    runs: list[str] = []

    def user(pauses: list[float]) -> None:
        try:
            for pause in pauses:
                uid = ground.submit(steps)
                runs.append(uid)
                threading.Event().wait(pause)
                ground.cancel(uid)
        except (GroundError, DBAPIError) as error:
            failures.append(error)

    users = [threading.Thread(target=user, args=([chance.uniform(0, 0.08) for _ in range(12)],)) for _ in range(4)]
    for each in users:
        each.start()
    for each in users:
        each.join()
    assert not failures, failures
    for uid in runs:
        run = ground.wait(uid)
        assert all(task.state in FINAL for task in run.tasks), run
        assert run.state in ("cancelled", "succeeded", "failed")
    said = [record.getMessage() for record in caplog.records]
    assert not said, said
