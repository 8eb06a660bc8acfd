"""A full disk stops new work with a reason; when there is space again everything goes on, and nothing is lost."""

from __future__ import annotations

import errno
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from groundplane.drivers.local import LocalDriver
from groundplane.engine import conductor
from groundplane.model.errors import Unavailable
from groundplane.store.database import sqlite_url
from tests.integration.conftest import end_agents
from tests.parts import require
from tests.planes import Ground


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    """A control plane whose home, database and agent are on a disk of 120 MiB."""
    require("root")
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120m", "tmpfs", home], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"this machine lets nobody mount: {done.stderr.decode().strip()}")
    monkeypatch.setattr(conductor, "_NET_SECONDS", 0.5)
    try:
        made = Ground(home, tmp_path / "project", sqlite_url(home / "ground.db"), LocalDriver(home)).start()
        yield made
        made.close()
        end_agents(home)
    finally:
        subprocess.run(["umount", "-l", home], check=True)


@contextmanager
def full(home: Path) -> Iterator[None]:
    """Not a byte is left while the block runs."""
    filler = home / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            while True:
                try:
                    file.write(b"x" * size)
                except OSError as error:
                    assert error.errno == errno.ENOSPC
                    break
    try:
        yield
    finally:
        filler.unlink()


def test_a_full_disk_stops_new_work_and_recovers(small: Ground) -> None:
    flag = small.project.parent / "go"
    marks = small.project.parent / "marks"
    marks.mkdir()
    wait = f"echo before; while ! [ -e {flag} ]; do sleep 0.05; done; echo after; echo x >> {marks}/$GROUND_TASK"
    steps = "".join(
        f"[pipelines.p.steps.{name}]\ncommand = ['sh', '-c', '{wait}']\n{more}\n"
        for name, more in (("a", ""), ("b", 'after = ["a"]'), ("c", 'after = ["b"]'))
    )
    uid = small.submit(steps)
    small.until_task(uid, "a", "running")
    with full(small.home):
        with pytest.raises(Unavailable) as refused:
            small.submit(steps)
        assert (refused.value.code, refused.value.exit_code) == ("no_space", 3)
        assert "space" in refused.value.hint
        flag.touch()  # it ends while nothing can be written down
        small.until(lambda: (marks / "a").exists())
        time.sleep(1.5)
        assert not (marks / "b").exists()
        small.show(uid)  # what is known can still be asked for
    run = small.wait(uid)
    assert run.state == "succeeded", run.reason
    assert [each.attempts for each in run.tasks] == [1, 1, 1]
    assert {path.name: path.read_text() for path in marks.iterdir()} == dict.fromkeys("abc", "x\n")
    lines = small.lines(uid)
    assert [line for line in lines if "before" in line] == [f"stdout {name}: before" for name in "abc"]
    assert small.run(steps).state == "succeeded"
