"""Every change passes one gate: it may be refused there, and it leaves its event there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from groundplane.model.documents import RerunRequest
from groundplane.model.errors import Denied, Invalid
from groundplane.model.ids import new_id
from groundplane.services import policies, runs, status
from groundplane.services.audit import views
from tests.planes import ME, Ground

STEP = '[pipelines.p.steps.a]\ncommand = ["/fake/a"]\n'
TABLES = ("runs", "steps", "tasks", "attempts", "transitions", "variables", "artifacts")


def rows(ground: Ground) -> dict[str, list[Any]]:
    with ground.platform.database.read() as connection:
        return {table: sorted(map(str, connection.exec_driver_sql(f"SELECT * FROM {table}"))) for table in TABLES}


def told(ground: Ground) -> list[tuple[str, str, str, str]]:
    found = views.listing(ground.platform, ME, 100, None)["events"]
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
    ("change", "action", "decided"),
    [
        (submit, "run.submit", "run.submit"),
        (cancel, "run.cancel", "run.cancel"),
        (rerun, "run.rerun", "run.submit"),
        (stop, "control_plane.stop", "control_plane.stop"),
    ],
)
def test_a_denial_is_exit_4_leaves_its_event_and_changes_nothing_else(
    ground: Ground, change: Callable[[Ground, str], None], action: str, decided: str
) -> None:
    run = ground.run(STEP)
    stopped: list[bool] = []
    ground.platform.stop = lambda: stopped.append(True)
    policies.add(
        ground.platform, ME, "mine", f'@id("not-now") forbid (principal, action == Action::"{decided}", resource);'
    )
    before = rows(ground)
    with pytest.raises(Denied, match="tester: rule 'not-now' forbids it") as denied:
        change(ground, run.id)
    assert denied.value.exit_code == 4
    assert rows(ground) == before
    assert not stopped
    event = views.listing(ground.platform, ME, 1, None)["events"][0]
    assert (event["actor"], event["action"], event["outcome"]) == ("tester", action, "denied")
    assert event["details"]["rule"] == "not-now"


def test_what_actors_did_is_told_newest_first_and_by_pages(ground: Ground) -> None:
    run = ground.run(STEP)
    ground.cancel(run.id)
    again = ground.rerun(run.id)
    assert told(ground) == [
        ("tester", "run.rerun", again.id, "done"),
        ("tester", "run.cancel", run.id, "done"),
        ("tester", "run.submit", run.id, "done"),
    ]
    page = views.listing(ground.platform, ME, 2, None)
    assert [event["action"] for event in page["events"]] == ["run.rerun", "run.cancel"]
    last = views.listing(ground.platform, ME, 2, page["next"])
    assert [event["action"] for event in last["events"]] == ["run.submit"]
    assert last["next"] is None
    assert page["events"][0]["details"] == {"actor": {"kind": ME.kind}, "backend": "local", "name": "p"}


@pytest.mark.parametrize(("limit", "cursor"), [(0, None), (1001, None), (1, "x"), (1, "1" * 30)])
def test_a_wrong_page(ground: Ground, limit: int, cursor: str | None) -> None:
    with pytest.raises(Invalid):
        views.listing(ground.platform, ME, limit, cursor)


def test_what_fails_leaves_no_event(ground: Ground) -> None:
    with pytest.raises(Invalid):
        ground.submit(STEP, parameters={"unknown": "1"})
    assert told(ground) == []
