"""`ground audit`, as an auditor types it: what is exported verifies elsewhere, what was changed does not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.cli_ground import BIN, Ground, until


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    made = Ground(tmp_path, GROUND_AUDIT_WITNESS=str(tmp_path / "elsewhere"))
    made.write("hello.sh", "echo hello\n")
    yield made
    made.close()


def alone(ground: Ground, log: str = "log.jsonl", checkpoint: str = "kept") -> subprocess.CompletedProcess[str]:
    key = ground("audit", "key").stdout.strip()
    argv = [BIN / "python", "-I", "verifier.py", "--checkpoint", checkpoint, "--key", key, log]
    return subprocess.run(argv, cwd=ground.work, capture_output=True, text=True, check=False)


def test_an_auditor_takes_the_log_home(ground: Ground) -> None:
    for _ in range(3):
        ground("run", "hello.sh")
    page = ground.json("audit", "list", "--limit", "2")
    assert [event["action"] for event in page["events"]] == ["run.submit"] * 2 and page["next"]
    assert set(page["events"][0]) == {
        "number", "id", "time", "actor", "source", "action", "object", "outcome", "details",
    }  # fmt: skip
    rest = ground.json("audit", "list", "--cursor", page["next"])
    assert len(rest["events"]) == 1 and rest["next"] is None
    assert ground.json("audit", "list", "--action", "nothing")["events"] == []
    ground("audit", "checkpoint", "-o", "kept")
    ground("audit", "export", "-o", "log.jsonl")
    ground("audit", "verifier", "-o", "verifier.py")
    assert len((ground.work / "verifier.py").read_text().splitlines()) <= 400
    lines = (ground.work / "log.jsonl").read_text().splitlines()
    assert len(lines) == 3
    first = json.loads(lines[0])
    assert set(first) == {"id", "time", "actor", "source", "action", "object", "outcome", "details"}
    who = page["events"][0]["actor"]
    assert first["actor"].startswith("sealed:") and who not in first["actor"]
    shown = ground.json("audit", "show", first["id"])
    assert (shown["leaf"], shown["number"], shown["actor"]) == (lines[0], 0, who)
    assert "run.submit" in ground("audit", "show", "0").stdout
    assert alone(ground).returncode == 0
    for name, changed in {
        "edited": [lines[0].replace("run.submit", "run.cancel"), *lines[1:]],
        "deleted": [lines[0], lines[2]],
        "inserted": [lines[0], lines[0], *lines[1:]],
        "reordered": [lines[1], lines[0], lines[2]],
        "truncated": lines[:2],
    }.items():
        ground.write(name, "".join(f"{line}\n" for line in changed))
        done = alone(ground, name)
        assert done.returncode == 1 and "NOT VERIFIED" in done.stderr, name
    assert ground("audit", "verify", "--checkpoint", "kept").stdout.startswith("3 events are as they were signed")
    for form in ("ocsf", "cef", "syslog"):
        out = ground("audit", "export", "--format", form).stdout
        assert len(out.splitlines()) == 3
    ground("audit", "export", "--reveal", "-o", "names.jsonl")
    names = (ground.work / "names.jsonl").read_text().splitlines()
    assert [json.loads(line)["revealed"]["actor"] for line in names] == [who] * 4
    assert alone(ground, "names.jsonl").returncode == 0
    ground("audit", "forget", who)
    assert ground.json("audit", "show", "0")["actor"] == "(forgotten)"
    ground("audit", "forget", "nobody", code=2)
    ground("audit", "show", "nothing", code=2)
    assert ground.json("audit", "verify")["ok"] is True


def test_what_was_changed_behind_its_back_is_exit_1_and_named(ground: Ground) -> None:
    for _ in range(3):
        ground("run", "hello.sh")
    ground("audit", "checkpoint", "-o", "kept")
    ground("down")
    shutil.copy(ground.home / "ground.db", ground.work / "backup.db")
    uid = ground.json("audit", "show", "1")["id"]
    with closing(sqlite3.connect(ground.home / "ground.db", timeout=30)) as database:
        database.execute("UPDATE events SET leaf = replace(leaf, 'run.submit', 'run.cancel') WHERE uid = ?", [uid])
        database.commit()
    done = ground("audit", "verify", code=1)
    assert done.stderr.startswith(f"error: event 1 ({uid}) was changed\nhint: ")
    assert ground.json("audit", "verify", code=1)["number"] == 1
    ground("down")
    for name in ("ground.db-wal", "ground.db-shm"):
        (ground.home / name).unlink(missing_ok=True)
    shutil.copy(ground.work / "backup.db", ground.home / "ground.db")
    done = ground("audit", "verify", code=1)
    assert "the log has 4 events, and 5 were signed by the checkpoint" in done.stderr
    for _ in range(3):
        ground("run", "hello.sh")
    done = ground("audit", "verify", code=1)
    # It was rolled back, and went on: found at the first size that the witness has of both branches, or of the old one.
    assert "two roots were signed at size 5" in done.stderr or "the log agrees up to size 4" in done.stderr
    ground.env["GROUND_AUDIT_WITNESS"] = str(ground.work)
    ground("down")
    ground("audit", "verify", "--checkpoint", "kept")
    for wrong in ("nowhere", "."):
        ground("audit", "verify", "--checkpoint", wrong, code=2)


def test_kill_9_right_after_a_change_loses_no_event(ground: Ground) -> None:
    ground("status")
    for number in range(3):
        ground("run", "hello.sh", "--detach")
        os.kill(ground.record()["pid"], signal.SIGKILL)
        assert len(ground.json("audit", "list")["events"]) == number + 1
    found = ground.json("audit", "verify")
    assert (found["ok"], found["size"]) == (True, 3)


def test_a_witness_that_takes_nothing_is_told(ground: Ground, tmp_path: Path) -> None:
    ground.env["GROUND_AUDIT_WITNESS"] = str(tmp_path / "not mounted" / "here")
    ground("run", "hello.sh")
    until(lambda: "not mounted" in ground.json("status")["audit"]["problem"], "the problem")
    assert "not mounted" in ground("status").stdout
    assert "error    audit log: " in ground("doctor", code=3).stdout
    assert "not mounted" in (ground.home / "control.log").read_text()
    for name, wrong in (("GROUND_AUDIT_WITNESS", "here"), ("GROUND_AUDIT_RETENTION", "soon")):
        ground("down")
        assert name in ground("status", code=2, **{name: wrong}).stderr
