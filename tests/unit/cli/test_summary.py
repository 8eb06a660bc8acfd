"""How a run's end is told."""

from __future__ import annotations

import io
import os
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from groundplane.cli import app, delivery, output, summary
from groundplane.cli.progress import Progress
from groundplane.model.documents import ArtifactDocument, InputDocument, ProgressDocument
from groundplane.model.errors import Invalid
from groundplane.model.reasons import Fault
from tests.unit.api.documents import RUN, a_failure, a_run, a_task, an_output


@pytest.mark.parametrize(
    ("state", "fault", "interrupted", "code"),
    [
        ("succeeded", None, 0, 0),
        ("succeeded", None, 130, 0),
        ("failed", Fault.USER, 0, 1),
        ("failed", Fault.BACKEND, 0, 3),
        ("lost", Fault.PLATFORM, 0, 3),
        ("cancelled", Fault.USER, 0, 1),
        ("cancelled", Fault.USER, 130, 130),
        ("cancelled", None, 143, 143),
        ("failed", Fault.USER, 130, 1),
    ],
)
def test_the_exit_code(state: str, fault: Fault | None, interrupted: int, code: int) -> None:
    run = a_run(state, reason=None if fault is None else a_failure(fault))
    assert summary.exit_code(run, interrupted) == code


def test_the_fault_that_counts_is_the_failed_tasks() -> None:
    tasks = [a_task("a"), a_task("b", "failed", reason=a_failure(Fault.BACKEND)), a_task("c", "cancelled")]
    assert summary.exit_code(a_run("failed", *tasks, reason=a_failure(Fault.USER))) == 3


def test_a_lone_script_ends_with_its_new_files(capsys: pytest.CaptureFixture[str]) -> None:
    run = a_run(
        "succeeded", a_task("fit.R", outputs=(an_output(), an_output("it's.png"))), metrics={"auc": 0.812345678}
    )
    summary.ending(run, lone=True, files=None, brief=False)
    told = capsys.readouterr()
    assert told.out == ""
    assert "2 new files: coef.csv (2.0 KiB), it's.png" in told.err
    assert f"ground artifacts get {RUN[:13]} fit.R/coef.csv -o coef.csv" in told.err
    assert "metrics: auc 0.812346" in told.err


def test_a_lone_script_without_files_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    summary.ending(a_run("succeeded", a_task("x.py")), lone=True, files=None, brief=False)
    assert capsys.readouterr().err == ""


def test_a_pipeline_ends_with_its_tree_and_a_failure_with_the_way_on(capsys: pytest.CaptureFixture[str]) -> None:
    tasks = [
        a_task("clean", reused=True, attempts=0, outputs=(an_output("clean.parquet"),)),
        *(a_task(f"score[{i}]", step="score", attempts=2) for i in range(3)),
        a_task("model", "failed", reason=a_failure()),
        a_task("report", "cancelled"),
    ]
    summary.ending(a_run("failed", *tasks), lone=False, files=None, brief=False)
    told = capsys.readouterr().err
    assert "clean" in told and "reused" in told and "3 succeeded" in told and "6 attempts" in told
    assert "error: task model failed: Error in lm(y ~ x)" in told
    assert "hint: look at line 3" in told
    assert told.endswith("mend it, then ground run again: what did not change is reused\n")
    assert "\x1b" not in told


def test_what_a_conversion_lost_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    out = replace(an_output(), lost=("value labels of `sex`",))
    summary.ending(a_run("succeeded", a_task("a", outputs=(out,))), lone=False, files=None, brief=False)
    assert "note: a: coef.csv: value labels of `sex`" in capsys.readouterr().err


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError


def states(**found: str) -> ProgressDocument:
    tasks = tuple(a_task(name, state) for name, state in found.items())
    return ProgressDocument("running", {"total": 2, "succeeded": list(found.values()).count("succeeded")}, tasks)


def test_progress_without_a_terminal_is_a_line_a_change() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    progress.update(states(a="queued", b="queued"))
    progress.update(states(a="running"))
    progress.update(states(a="succeeded", b="running"))
    progress.update(states(b="failed"))
    progress.clear()
    assert stream.getvalue().splitlines() == ["a  running", "a  succeeded  1.50 s", "b  running", "b  failed  1.50 s"]


def test_progress_at_a_terminal_changes_its_last_line_and_takes_it_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    stream = Tty()
    progress = Progress(stream)
    progress.update(states(a="running", b="queued"))
    assert stream.getvalue() == "0/2 tasks  a"
    progress.update(states(a="succeeded", b="running"))
    progress.clear()
    assert stream.getvalue().endswith("\r\x1b[Ka  succeeded  1.50 s\n1/2 tasks  b\r\x1b[K")


def test_a_retried_task_is_told_when_it_ends_again() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    for state in ("running", "lost", "queued", "running", "succeeded"):
        progress.update(ProgressDocument("running", {"total": 1}, (a_task("a", state),)))
    told = stream.getvalue().splitlines()
    assert told[-1].startswith("a  succeeded") and len(told) == 3


def test_a_fan_out_is_one_line() -> None:
    stream = io.StringIO()
    tasks = tuple(a_task(f"s[{i}]", step="s") for i in range(500))
    Progress(stream).update(ProgressDocument("running", {"total": 500, "succeeded": 500}, tasks))
    assert stream.getvalue().splitlines() == ["s  500 succeeded  1.50 s"]


def test_ages_and_times() -> None:
    now = datetime(2026, 8, 1, 12, tzinfo=UTC)
    assert output.age("2026-08-01T11:59:55Z", now) == "5 s ago"
    assert output.age("2026-08-01T11:00:00Z", now) == "1 h ago"
    assert output.age("2026-08-01T12:00:05Z", now) == "0 s ago", "a clock may be behind"
    assert output.age("2025-01-02T12:00:00Z", now).startswith("2025-01-0")
    assert output.age(None) == ""


def test_a_document_with_a_name_that_is_no_utf8_is_still_json(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    import json

    output.print_json(a_run(name="caf\udce9"))
    assert json.loads(capfdbinary.readouterr().out.decode())["name"] == "caf\udce9"


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", ""])
def test_nothing_is_placed_outside_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid):
        delivery.place(tmp_path, name)


class Store:
    """A client whose artifacts are these."""

    def __init__(self, **content: bytes) -> None:
        self._content = content

    def artifacts(self, _: str) -> tuple[ArtifactDocument, ...]:
        return tuple(ArtifactDocument(f"t/{n}", "t", n, "file", len(c), "") for n, c in self._content.items())

    def download(self, _: str, name: str):  # type: ignore[no-untyped-def]
        yield self._content[name.removeprefix("t/")]
        if b"broken" in self._content[name.removeprefix("t/")]:
            raise Invalid("it broke")


def test_artifacts_are_delivered_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "out"
    store = Store(**{"a.csv": b"1", "parts/b.csv": b"2"})
    written = delivery.deliver(store, RUN, out, lone=True)  # type: ignore[arg-type]
    assert [p.read_bytes() for p in written] == [b"1", b"2"]
    assert written == [out / "a.csv", out / "parts/b.csv"]
    assert delivery.deliver(store, RUN, out, lone=False)[0] == out / "t/a.csv"  # type: ignore[arg-type]
    with pytest.raises(Invalid):
        delivery.deliver(Store(**{"a.csv": b"broken"}), RUN, out, lone=True)  # type: ignore[arg-type]
    assert (out / "a.csv").read_bytes() == b"1"
    assert sorted(p.name for p in out.iterdir()) == ["a.csv", "parts", "t"]


def test_a_link_does_not_lead_a_delivery_out(tmp_path: Path) -> None:
    out, away = tmp_path / "out", tmp_path / "away"
    out.mkdir(), away.mkdir()
    (out / "sub").symlink_to(away)
    with pytest.raises(Invalid, match="link"):
        delivery.deliver(Store(**{"sub/x": b"1"}), RUN, out, lone=True)  # type: ignore[arg-type]
    assert not list(away.iterdir())


def test_a_cancelled_run_is_no_failure_of_a_task(capsys: pytest.CaptureFixture[str]) -> None:
    run = a_run("cancelled", a_task("a", "failed", reason=a_failure()), a_task("b", "cancelled"), reason=a_failure())
    summary.ending(run, lone=False, files=None, brief=True)
    assert capsys.readouterr().err.splitlines() == [
        f"error: {run.name} was cancelled",
        f"hint: ground runs rerun {RUN[:13]} --failed goes on from there",
    ]


def test_a_loss_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    out = replace(an_output(), lost=("x.csv for b: labels of `sex`",))
    read = (InputDocument("x.csv", "a/x.parquet", lost=("labels of `sex`",)), InputDocument("y", "y.sav", lost=("z",)))
    run = a_run("succeeded", a_task("a", outputs=(out,)), replace(a_task("b"), inputs=read))
    summary.ending(run, lone=False, files=None, brief=False)
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert notes == ["note: a: coef.csv: x.csv for b: labels of `sex`", "note: b: y: z"]


@pytest.mark.parametrize(
    ("fault", "lone", "way_on"),
    [
        (Fault.USER, False, "mend it, then ground run 'a b' again: what did not change is reused"),
        (Fault.USER, True, "hint: look at line 3"),
        (Fault.BACKEND, False, f"go on from there: ground runs rerun {RUN[:13]} --failed"),
        (Fault.PLATFORM, False, f"go on from there: ground runs rerun {RUN[:13]} --failed"),
        (Fault.BACKEND, True, f"go on from there: ground runs rerun {RUN[:13]}"),
    ],
)
def test_the_way_on_goes_by_whose_fault_it_was(
    fault: Fault, lone: bool, way_on: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rerun takes the files as they were: no way on for who has to mend them."""
    run = a_run("failed", a_task("a", "failed", reason=a_failure(fault)))
    summary.ending(run, lone=lone, files=None, brief=True, target="a b")
    assert capsys.readouterr().err.splitlines()[-1] == way_on


EVIL = "a\x1b[2J\n\x9b\u202egnp.csv"
SHOWN = r"a\x1b[2J\n\x9b\u202egnp.csv"


def test_a_files_name_cannot_write_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    task = a_task("t", "failed", reason=replace(a_failure(), message=f"no {EVIL}"), outputs=(an_output(EVIL),))
    for files in (None, [Path(EVIL)]):
        summary.ending(a_run("failed", task, name=EVIL), lone=True, files=files, brief=False)
        summary.ending(a_run("failed", task, name=EVIL), lone=False, files=files, brief=False)
    stream = io.StringIO()
    Progress(stream).update(ProgressDocument("running", {"total": 1}, (task,)))
    output.table(("NAME", "SIZE"), [(EVIL, "1")])
    output.pairs([("name", EVIL)])
    app.fail(f"no {EVIL}", EVIL, code=2)
    told = capsys.readouterr()
    for text in (told.err, told.out, stream.getvalue()):
        assert not {"\x1b", "\x9b", "\u202e"} & set(text) and r"\x1b[2J" in text
    assert f"1 new file: {SHOWN}" in told.err


@pytest.mark.parametrize("name", [EVIL, "plain.csv", "é 'x'.csv", "caf\udce9.csv", "$(x)", "\\"])
def test_the_command_that_fetches_a_file_can_be_typed(name: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f"printf %s {output.shell_quoted(name)}"], capture_output=True, check=True, env={"LC_ALL": "C"}
    )
    assert done.stdout == os.fsencode(name)
    assert output.printable(output.shell_quoted(name)).isprintable()


def test_columns_are_as_wide_as_a_terminal_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("NAME", "SIZE"), [("データ", "1"), ("abcdef", "2"), ("cafe\u0301", "3")])
    assert capsys.readouterr().out.splitlines() == ["NAME    SIZE", "データ  1", "abcdef  2", "cafe\u0301    3"]
