"""Real work on this machine, on both databases: what reaches a task, and what is kept of it."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from groundplane.services import artifacts, variables
from groundplane.services.platform import Platform
from groundplane.spi import layout
from groundplane.spi.snapshots import IN_PLACE_SIZE
from groundplane.store.database import sqlite_url
from tests.planes import ME, Ground, states, task


@pytest.fixture
def sqlite(local_on: Callable[[str], Ground], tmp_path: Path) -> Ground:
    """For what no database makes a difference to."""
    return local_on(sqlite_url(tmp_path / "ground.db"))


def sh(name: str, script: str, more: str = "") -> str:
    return f"[pipelines.p.steps.{name}]\ncommand = ['sh', '-c', '''{script}''']\n{more}\n"


# --- pipelines ----------------------------------------------------------------------------------------------------


def test_a_pipeline_with_a_fan_out_that_joins(local: Ground) -> None:
    local.write({"data/raw.csv": "x\n1\n2\n"})
    run = local.run(
        sh(
            "cut",
            "mkdir parts; for i in a b c; do echo $i > parts/$i.txt; done; wc -l < raw.csv > count.txt",
            'inputs = { "raw.csv" = "data/raw.csv" }\noutputs = ["parts/*.txt", "count.txt"]',
        )
        + sh(
            "score",
            'tr a-z A-Z < part.txt > score.txt; echo "$GROUND_TASK"',
            'for_each = { part = "cut/parts/*.txt" }\ninputs = { "part.txt" = "{part}" }\noutputs = ["score.txt"]',
        )
        + sh(
            "end",
            "cat scores/*-score.txt count > all.txt; cp scores/.index.json index.json; echo '{\"n\":3}' > metrics.json",
            'inputs = { "scores/" = "score/score.txt", "count" = "cut/count.txt" }\n'
            'outputs = ["all.txt", "index.json", "metrics.json"]',
        )
    )
    assert run.state == "succeeded", (run.reason, local.lines(run.id))
    assert local.content(run, "end/all.txt").split() == [b"A", b"B", b"C", b"3"]
    assert json.loads(local.content(run, "end/index.json")) == [
        {"index": index, "item": f"parts/{letter}.txt", "file": f"{index}-score.txt"}
        for index, letter in enumerate("abc")
    ]
    assert run.metrics == {"n": 3}
    assert Counter(local.lines(run.id)) == Counter(f"stdout score[{n}]: score[{n}]" for n in range(3))
    assert task(run, "cut").usage["wall_seconds"] > 0


def test_a_script_changes_its_own_copies_and_nothing_else(sqlite: Ground) -> None:
    sqlite.write({"data.csv": "1\n", "run.sh": "echo 2 >> data.csv; echo 3 > new.txt; rm helper; mkdir empty"})
    sqlite.write({"helper": "h"})
    first = sqlite.run(script="run.sh")
    assert {o.name for t in first.tasks for o in t.outputs} == {"data.csv", "new.txt"}
    assert (sqlite.project / "data.csv").read_text() == "1\n"
    assert (sqlite.project / "helper").exists()
    assert not (sqlite.project / "new.txt").exists()
    second = sqlite.run(script="run.sh")
    assert sqlite.content(second, "run.sh/data.csv") == b"1\n2\n"
    steps = sh("make", "echo 1 > made.txt", 'outputs = ["made.txt"]') + "".join(
        sh(name, "echo more >> in.txt; cp in.txt out.txt", 'inputs = {"in.txt" = "make/made.txt"}\noutputs=["out.txt"]')
        for name in ("one", "two")
    )
    run = sqlite.run(steps)
    assert [sqlite.content(run, name) for name in ("make/made.txt", "one/out.txt", "two/out.txt")] == [
        b"1\n", b"1\nmore\n", b"1\nmore\n",
    ]  # fmt: skip


def test_a_table_is_converted_and_what_it_loses_is_told(sqlite: Ground) -> None:
    sqlite.write({"make.py": (
        "import pyarrow as pa, pyarrow.parquet as pq\n"
        "t = pa.table({'a': pa.array([1, None, 3]), 'list': pa.array([[1], [2], [3]])})\n"
        "pq.write_table(t.select(['a']), 'good.parquet')\n"
    )})  # fmt: skip
    steps = (
        '[pipelines.p.steps.make]\nrun = "make.py"\noutputs = ["good.parquet"]\n'
        + sh("csv", "cat in.csv; cp in.csv out.csv", 'inputs = {"in.csv" = "make/good.parquet"}\noutputs = ["out.csv"]')
        + sh("dta", "test -s in.dta", 'inputs = {"in.dta" = "csv/out.csv"}')
    )
    python = Path(sys.executable).parent
    run = sqlite.run(steps, context=sqlite.context(PATH=f"{python}:{os.environ['PATH']}"))
    assert run.state == "succeeded", (run.reason, sqlite.lines(run.id))
    assert sqlite.content(run, "csv/out.csv").splitlines()[0] in (b"a", b'"a"')
    (read,) = task(run, "csv").inputs
    lost = [sentence for read in (read, *task(run, "dta").inputs) for sentence in read.lost]
    told = [sentence for each in run.tasks for output in each.outputs for sentence in output.lost]
    assert len(told) == len(lost)


def test_a_url_is_fetched_once_a_run(local: Ground, served: tuple[str, Counter[str]]) -> None:
    url, asked = served
    steps = "".join(
        sh(name, "cat in.txt", f'inputs = {{"in.txt" = "{url}/data.txt"}}\noutputs = []') for name in ("one", "two")
    )
    run = local.run(steps)
    assert run.state == "succeeded", run.reason
    assert Counter(local.lines(run.id)) == Counter(["stdout one: from the web", "stdout two: from the web"])
    assert asked["/data.txt"] in (1, 2)  # two tasks that ask at the same moment may both fetch it
    assert task(run, "one").inputs[0].source == f"{url}/data.txt"
    assert len(task(run, "one").inputs[0].sha256) == 64


def test_a_url_that_breaks_off_is_tried_again_and_never_taken_for_whole(
    sqlite: Ground, served: tuple[str, Counter[str]]
) -> None:
    url, asked = served
    run = sqlite.run(sh("one", "cat in.txt", f'inputs = {{"in.txt" = "{url}/short.txt"}}\noutputs = []'))
    assert run.reason is not None
    assert (run.state, run.reason.code, asked["/short.txt"]) == ("failed", "missing_input", 3)
    assert "announced 1000 bytes and broke off after 13" in run.reason.message


def test_a_task_that_waits_for_a_slow_url_asks_for_it_once(local: Ground, served: tuple[str, Counter[str]]) -> None:
    url, asked = served
    wanted = f'"a" = "{url}/data.txt", "b" = "{url}/slow.txt", "c" = "{url}/data.txt?again"'
    run = local.run(sh("one", "cat a b c", f"inputs = {{ {wanted} }}"))
    assert run.state == "succeeded", run.reason
    assert asked == {"/data.txt": 1, "/slow.txt": 1, "/data.txt?again": 1}


def test_a_url_that_does_not_answer_fails_its_task_alone(local: Ground, served: tuple[str, Counter[str]]) -> None:
    url, _ = served
    run = local.run(
        sh("bad", "cat in.txt", f'inputs = {{"in.txt" = "{url}/none.txt"}}')
        + sh("after", "true", 'after = ["bad"]')
        + sh("good", "true")
    )
    assert states(run) == {"bad": "failed", "after": "cancelled", "good": "succeeded"}
    assert run.reason is not None
    assert run.reason.code == "missing_input"
    assert f"{url}/none.txt cannot be fetched: it answers 404" in run.reason.message


class _Pages(BaseHTTPRequestHandler):
    asked: ClassVar[Counter[str]] = Counter()

    def do_GET(self) -> None:
        self.asked[self.path] += 1
        if self.path == "/slow.txt":
            threading.Event().wait(0.4)
        found = "none" not in self.path
        self.send_response(200 if found else 404)
        if "short" in self.path:
            self.send_header("Content-Length", "1000")
        self.end_headers()
        if found:
            self.wfile.write(b"from the web\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served() -> Iterator[tuple[str, Counter[str]]]:
    _Pages.asked = Counter()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Pages) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", _Pages.asked
        server.shutdown()
        thread.join()


# --- large files in place -----------------------------------------------------------------------------------------


def test_a_large_file_that_changes_under_the_work_fails_it(sqlite: Ground) -> None:
    large = sqlite.project / "large.bin"
    with large.open("wb") as file:
        file.truncate(IN_PLACE_SIZE + 1)
    steps = sh("read", "wc -c < large.bin; echo x >> %s" % large, 'inputs = {"large.bin" = "large.bin"}')  # noqa: UP031
    run = sqlite.run(steps)
    assert run.reason is not None
    assert (run.state, run.reason.code) == ("failed", "input_changed")
    assert "large.bin" in run.reason.message
    quiet = sqlite.run(sh("read", "wc -c < large.bin", 'inputs = {"large.bin" = "large.bin"}'))
    assert quiet.state == "succeeded"
    assert sqlite.lines(quiet.id) == [f"stdout read: {IN_PLACE_SIZE + 3}"]


# --- names --------------------------------------------------------------------------------------------------------


def test_names_with_spaces_quotes_and_letters_of_all_kinds(local: Ground) -> None:
    names = ["a b.txt", "it's.txt", 'say "x".txt', "é ü 漢.txt", "$(x).txt", "--help", "new\nline"]
    local.write({f"in/{name}": name for name in names} | {"copy.sh": 'for f in in/*; do cp "$f" "out ${f#in/}"; done'})
    run = local.run(script="copy.sh")
    assert run.state == "succeeded", (run.reason, local.lines(run.id))
    assert {o.name for o in run.tasks[0].outputs} == {f"out {name}" for name in names}
    for name in names:
        path, _ = artifacts.find(local.platform, ME, run.id, f"copy.sh/out {name}")
        assert path.read_text() == name


def test_names_that_are_no_utf8(local: Ground) -> None:
    script = os.fsdecode(b"make-\xfe.sh")
    local.write({script: 'printf x > "$(printf \'odd-\\377.csv\')"; echo "$0" >&2; cat no*ne'})
    run = local.run(script=script)
    assert (run.state, run.tasks[0].attempts) == ("failed", 1)
    assert (run.name, run.tasks[0].name) == (script, script)
    local.write({script: "printf x > \"$(printf 'odd-\\377.csv')\"; echo done"})
    run = local.run(script=script)
    assert run.state == "succeeded", run.reason
    name = os.fsdecode(b"odd-\xff.csv")
    assert local.content(run, f"{script}/{name}") == b"x"
    steps = sh("cut", "mkdir p; printf x > \"p/$(printf 'odd-\\377.csv')\"", 'outputs = ["p/*.csv"]') + sh(
        "each", "cat in.csv", 'for_each = { part = "cut/p/*.csv" }\ninputs = { "in.csv" = "{part}" }'
    )
    run = local.run(steps)
    assert run.state == "succeeded", run.reason
    assert task(run, "each[0]").inputs[0].source == f"cut/p/{name}"


def test_a_failure_that_names_bytes_is_told(local: Ground) -> None:
    local.write({"odd.py": "raise ValueError('odd \\udcff \\x00')"})
    python = Path(sys.executable).parent
    run = local.run(script="odd.py", context=local.context(PATH=f"{python}:{os.environ['PATH']}"))
    assert (run.state, run.tasks[0].attempts, run.tasks[0].exit_code) == ("failed", 1, 1)
    assert run.reason is not None
    assert run.reason.code == "error"
    json.dumps(run.reason.message).encode()


# --- variables ----------------------------------------------------------------------------------------------------


def test_variables_travel_sealed_and_are_gone_at_the_end(local: Ground) -> None:
    local.write({"show.sh": 'echo "$API_TOKEN-$R_LIBS"; sleep 0.3', "wait.sh": "sleep 60"})
    context = local.context(R_LIBS="/some/lib")
    secret = "tell-nobody-1234"
    uid = local.submit(script="show.sh", context=context, environment={"API_TOKEN": secret})
    local.until_task(uid, "show.sh", "running")
    with local.platform.database.read() as connection:
        sealed = connection.exec_driver_sql("SELECT sealed FROM variables").scalar_one()
    assert secret.encode() not in bytes(sealed)
    run = local.wait(uid)
    assert run.environment == ("API_TOKEN",)
    assert len(local.lines(uid)) == 1
    assert secret not in local.lines(uid)[0]
    assert local.lines(uid)[0].endswith("-/some/lib")
    with local.platform.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM variables").scalar_one() == 0
        everything = [
            str(row)
            for table in ("runs", "tasks", "attempts", "events", "documents", "transitions")
            for row in connection.exec_driver_sql(f"SELECT * FROM {table}")
        ]
    assert not [row for row in everything if secret in row]


def test_variables_are_unreadable_with_another_key(sqlite: Ground, tmp_path: Path) -> None:
    found = variables.Variables({"PATH": "/bin"}, {"TOKEN": "x"})
    with sqlite.platform.database.write() as connection:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        variables.seal(sqlite.home, connection, 1, "run", found)
        assert variables.unseal(sqlite.home, connection, 1, "run") == found
        for home, run in ((tmp_path, "run"), (sqlite.home, "another run")):
            with pytest.raises(Exception, match="sealed with another key"):
                variables.unseal(home, connection, 1, run)
        variables.variables.forget(connection, 1)
    assert (sqlite.home / "key").stat().st_mode & 0o777 == 0o600


def test_a_run_whose_key_was_lost_fails_and_says_so(local: Ground) -> None:
    local.write({"wait.sh": "sleep 0.2; exit 1"})
    steps = sh("one", "sleep 0.5") + sh("two", "true", 'after = ["one"]')
    uid = local.submit(steps, environment={"TOKEN": "12345678"})
    local.until_task(uid, "one", "running")
    (local.home / "key").write_bytes(os.urandom(32))
    variables.home_key.cache_clear()
    try:
        run = local.wait(uid)
    finally:
        variables.home_key.cache_clear()
    assert states(run) == {"one": "succeeded", "two": "failed"}
    assert run.reason is not None
    assert "sealed with another key" in run.reason.message
    assert run.reason.fault == "platform"


# --- the control plane comes and goes -----------------------------------------------------------------------------


def test_work_runs_on_without_a_control_plane_and_is_picked_up(short_leases: None, local: Ground) -> None:
    local.write({"go": ""})
    marks = local.project / "marks"
    marks.mkdir()
    steps = "".join(
        sh(f"s{i}", f"echo begin {i}; echo x >> {marks}/{i}; sleep 0.15; echo end {i}",
           f'after = ["s{i - 1}"]' if i else "")
        for i in range(6)
    )  # fmt: skip
    uid = local.submit(steps)
    for _ in range(4):
        threading.Event().wait(0.17)
        local.again()
    run = local.wait(uid)
    assert run.state == "succeeded", run.reason
    assert all(each.attempts == 1 for each in run.tasks)
    assert {path.name: path.read_text() for path in marks.iterdir()} == {str(i): "x\n" for i in range(6)}
    assert Counter(local.lines(uid)) == Counter(
        f"stdout s{i}: {word} {i}" for i in range(6) for word in ("begin", "end")
    )


def test_an_agent_that_dies_costs_no_try_and_keeps_what_had_arrived(local: Ground) -> None:
    local.write({"once.sh": "echo begun; [ -e %s/again ] || sleep 60; echo over" % local.project})  # noqa: UP031
    uid = local.submit(script="once.sh")
    local.until(lambda: local.lines(uid))
    (local.project / "again").touch()
    pid = int(local.driver.check().facts["agent_pid"])
    os.kill(pid, 9)
    run = local.wait(uid)
    assert (run.state, run.tasks[0].attempts) == ("succeeded", 2)
    assert local.lines(uid) == ["stdout once.sh: begun", "stdout once.sh: begun", "stdout once.sh: over"]


def test_the_blob_of_an_artifact_is_there_and_read_only(sqlite: Ground) -> None:
    run = sqlite.run(sh("a", "echo 1 > out.csv", 'outputs = ["out.csv"]'))
    (output,) = run.tasks[0].outputs
    path = layout.blob(sqlite.home, output.sha256)
    assert path.stat().st_mode & 0o777 == 0o444
    assert (output.kind, output.size) == ("table", 2)
    assert isinstance(sqlite.platform, Platform)
