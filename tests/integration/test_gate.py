"""Every change passes one gate: it may be refused there, and it leaves its event there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from groundplane.model.documents import RerunRequest
from groundplane.model.errors import Denied, Invalid
from groundplane.model.ids import new_id
from groundplane.services import events, runs, status
from tests.planes import ME, Ground

STEP = '[pipelines.p.steps.a]\ncommand = ["/fake/a"]\n'
TABLES = ("runs", "steps", "tasks", "attempts", "transitions", "variables", "artifacts")


def rows(ground: Ground) -> dict[str, list[Any]]:
    with ground.platform.database.read() as connection:
        return {table: sorted(map(str, connection.exec_driver_sql(f"SELECT * FROM {table}"))) for table in TABLES}


def told(ground: Ground) -> list[tuple[str, str, str, str]]:
    found = events.listing(ground.platform, 100, None)["events"]
    return [(event["actor"], event["action"], event["object"], event["outcome"]) for event in found]


def submit(ground: Ground, run: str) -> None:
    ground.submit(STEP)


def cancel(ground: Ground, run: str) -> None:
    ground.cancel(run)


def rerun(ground: Ground, run: str) -> None:
    runs.rerun(ground.platform, ME, run, RerunRequest(new_id(), ground.context()))


def stop(ground: Ground, run: str) -> None:
    status.stop(ground.platform, ME, end_work=True)


@pytest.mark.parametrize(
    ("change", "action"),
    [(submit, "run.submit"), (cancel, "run.cancel"), (rerun, "run.rerun"), (stop, "control_plane.stop")],
)
def test_a_veto_is_exit_4_leaves_its_event_and_changes_nothing_else(
    ground: Ground, change: Callable[[Ground, str], None], action: str
) -> None:
    run = ground.run(STEP)
    before = rows(ground)
    stopped: list[bool] = []
    ground.platform.stop = lambda: stopped.append(True)

    def veto(actor: str, what: str, object_: str) -> None:
        if what == action:
            raise Denied(f"{actor} may not {what}", hint="ask")

    ground.platform.vetoes.append(veto)
    with pytest.raises(Denied) as denied:
        change(ground, run.id)
    assert (denied.value.exit_code, denied.value.message) == (4, f"tester may not {action}")
    assert rows(ground) == before
    assert not stopped
    newest = told(ground)[0]
    assert (newest[0], newest[1], newest[3]) == ("tester", action, "denied")


def test_what_actors_did_is_told_newest_first_and_by_pages(ground: Ground) -> None:
    run = ground.run(STEP)
    ground.cancel(run.id)
    again = ground.rerun(run.id)
    assert told(ground) == [
        ("tester", "run.rerun", again.id, "done"),
        ("tester", "run.cancel", run.id, "done"),
        ("tester", "run.submit", run.id, "done"),
    ]
    page = events.listing(ground.platform, 2, None)
    assert [event["action"] for event in page["events"]] == ["run.rerun", "run.cancel"]
    last = events.listing(ground.platform, 2, page["next"])
    assert [event["action"] for event in last["events"]] == ["run.submit"]
    assert last["next"] is None
    assert page["events"][0]["facts"] == {"backend": "local", "name": "p"}


@pytest.mark.parametrize(("limit", "cursor"), [(0, None), (1001, None), (1, "x"), (1, "1" * 30)])
def test_a_wrong_page(ground: Ground, limit: int, cursor: str | None) -> None:
    with pytest.raises(Invalid):
        events.listing(ground.platform, limit, cursor)


def test_what_fails_leaves_no_event(ground: Ground) -> None:
    with pytest.raises(Invalid):
        ground.submit(STEP, parameters={"unknown": "1"})
    assert told(ground) == []
