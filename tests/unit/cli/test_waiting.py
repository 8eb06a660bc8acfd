"""How work that waits for something that is no step is told."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from groundplane.api.progress import Seen
from groundplane.cli import summary
from groundplane.cli.progress import Progress, Waiting
from groundplane.model.documents import ProgressDocument, TaskDocument
from groundplane.model.reasons import Fault, Reason
from tests.unit.api.documents import a_run, a_task


def seatless(name: str, behind: str, step: str | None = None, hint: str = "") -> TaskDocument:
    reason = Reason("no_licence_seat", f"waits for a seat of matlab: 1 of 1 taken by {behind}", hint, Fault.BACKEND)
    return replace(a_task(name, "queued", step=step), waiting=reason, started_at=None, finished_at=None)


def progress(*tasks: TaskDocument) -> ProgressDocument:
    return ProgressDocument("running", {"total": len(tasks)}, tasks)


def test_a_follower_hears_what_is_waited_for_when_that_is_new() -> None:
    seen = Seen()
    for task, told in (
        (a_task("fit", "queued"), True),
        (seatless("fit", "run x"), True),
        (seatless("fit", "run x"), False),
        (seatless("fit", "run y"), True),
        (a_task("fit", "running"), True),
    ):
        assert (seen.update(a_run("running", task)) is not None) is told, task


def test_a_step_tells_it_once_and_a_terminal_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    news = [
        progress(seatless("fit[0]", "run x", "fit"), seatless("fit[1]", "run x", "fit")),
        progress(seatless("fit[0]", "run y", "fit"), seatless("fit[1]", "run y", "fit")),
    ]
    file = io.StringIO()
    lines = Progress(file)
    for each in news:
        lines.update(each)
    assert file.getvalue() == "fit  waits for a seat of matlab: 1 of 1 taken by run x\n"

    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

        def fileno(self) -> int:
            raise OSError

    screen = Tty()
    live = Progress(screen)
    for each in news:
        live.update(each)
    assert (
        screen.getvalue().rpartition("\r\x1b[K")[2]
        == "0/2 tasks  fit[0] waits for a seat of matlab: 1 of 1 taken by run y"
    )


def test_a_lone_script_tells_every_change() -> None:
    file = io.StringIO()
    waiting = Waiting(file, lone=True)
    for each in (seatless("fit.m", "run x"), seatless("fit.m", "run x"), seatless("fit.m", "\x1b[2J"), a_task("fit.m")):
        waiting.update(progress(each))
    assert file.getvalue().splitlines() == [
        "waits for a seat of matlab: 1 of 1 taken by run x",
        r"waits for a seat of matlab: 1 of 1 taken by \x1b[2J",
    ]


def test_a_pipeline_whose_progress_is_not_told_tells_each_kind_once() -> None:
    file = io.StringIO()
    waiting = Waiting(file, lone=False)
    for each in (seatless("fit[0]", "run x", "fit"), seatless("fit[1]", "run y", "fit"), seatless("plot", "run x")):
        waiting.update(progress(each))
    assert file.getvalue().splitlines() == [
        "fit  waits for a seat of matlab: 1 of 1 taken by run x",
        "plot  waits for a seat of matlab: 1 of 1 taken by run x",
    ]


def test_what_can_be_done_about_it_is_told_once() -> None:
    lone, other = io.StringIO(), io.StringIO()
    waiting, lines = Waiting(lone, lone=True), Progress(other)
    for behind in ("run x", "run y"):
        waiting.update(progress(seatless("fit.m", behind, hint="buy\none")))
        lines.update(progress(seatless("fit", behind, hint="buy\none")))
    assert [line for line in lone.getvalue().splitlines() if "waits" not in line] == [r"hint: buy\none"]
    assert other.getvalue().splitlines()[1:] == [r"hint: buy\none"]


def test_the_tree_of_a_run_has_it() -> None:
    file = io.StringIO()
    summary.tree(a_run("running", seatless("fit", "run x"), seatless("plot", "run x", hint="buy one")), file)
    _, first, second, hint = file.getvalue().splitlines()
    assert first.endswith("queued  R 4.2.2  waits for a seat of matlab: 1 of 1 taken by run x")
    assert second.endswith("queued  R 4.2.2  waits for a seat of matlab: 1 of 1 taken by run x")
    assert hint.strip() == "hint: buy one"
