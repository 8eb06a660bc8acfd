"""What nothing names goes after a day; what anything names stays, however old."""

from __future__ import annotations

import os
import threading
import time

import pytest

from groundplane.engine.housekeeping import Housekeeping
from groundplane.services import contents, garbage, planning
from groundplane.services.platform import now
from groundplane.spi import layout
from groundplane.store import caches
from tests.planes import Ground

STEP = '[pipelines.p.steps.a]\ncommand = ["/fake/a"]\noutputs = ["out.txt"]\n'
DAY = 86_400.0


def blobs(ground: Ground) -> set[str]:
    return {path.name for path in (ground.home / "blobs" / "sha256").glob("*/*")}


def put(ground: Ground, data: bytes) -> str:
    """A blob that nothing names."""
    store = contents.Store(ground.home)
    source = ground.project.parent / "loose"
    source.write_bytes(data)
    content = store.take_in(str(source), "loose")
    assert content
    store.commit()
    return content.sha256


def collect(ground: Ground, days: float) -> garbage.Collected:
    return garbage.collect(ground.platform, time.time() + days * DAY)


def test_what_nothing_names_goes_after_a_day(ground: Ground) -> None:
    loose = put(ground, b"loose")
    assert collect(ground, 0.9).blobs == 0
    assert collect(ground, 1.1) == garbage.Collected(blobs=1, bytes=5)
    assert loose not in blobs(ground)
    assert collect(ground, 1.1).blobs == 0


def test_what_runs_need_stays(ground: Ground) -> None:
    ground.write({"data.csv": "1", "code.py": "2"})
    ground.play(a={"outputs": {"out.txt": "made"}})
    run = ground.run(STEP)
    before = blobs(ground)
    assert len(before) == 3
    assert collect(ground, 400) == garbage.Collected()
    assert blobs(ground) == before
    again = ground.rerun(run.id)
    assert (again.state, again.tasks[0].reused) == ("succeeded", True)


def test_a_snapshot_that_no_run_stands_on_goes_with_its_files(ground: Ground) -> None:
    ground.write({"data.csv": "only planned", "both.csv": "both"})
    planned = planning.plan(ground.platform, ground.request(STEP), lambda _: None, stranger=False)
    (ground.project / "data.csv").unlink()
    ground.run(STEP)
    layer = layout.layer(ground.home, planned.snapshot)
    (layer / "sub").mkdir(parents=True)
    os.utime(layer)
    assert collect(ground, 0.9) == garbage.Collected()
    found = collect(ground, 1.1)
    assert (found.snapshots, found.blobs) == (1, 1)
    assert not layout.manifest(ground.home, planned.snapshot).exists()
    assert not layer.exists()
    assert collect(ground, 1.1) == garbage.Collected()


def test_a_snapshot_that_was_used_again_is_young_again(ground: Ground) -> None:
    ground.write({"data.csv": "planned"})
    planned = planning.plan(ground.platform, ground.request(STEP), lambda _: None, stranger=False)
    manifest = layout.manifest(ground.home, planned.snapshot)
    long_ago = time.time() - 5 * DAY
    os.utime(manifest, (long_ago, long_ago))
    assert (
        planning.plan(ground.platform, ground.request(STEP), lambda _: None, stranger=False).snapshot
        == planned.snapshot
    )
    assert collect(ground, 0) == garbage.Collected()
    assert manifest.exists()


def test_a_pin_holds_for_a_day(ground: Ground) -> None:
    loose = put(ground, b"loose")
    with ground.platform.database.write() as connection:
        caches.pin(connection, [loose], now() + round(1.5 * DAY * 1e6))
    assert collect(ground, 2).blobs == 0
    assert collect(ground, 3).blobs == 1


def test_nothing_is_deleted_while_a_snapshot_is_taken(ground: Ground) -> None:
    loose = put(ground, b"loose")
    done: list[garbage.Collected] = []
    thread = threading.Thread(target=lambda: done.append(collect(ground, 1.1)))
    with contents.shared(ground.home):
        thread.start()
        thread.join(timeout=0.3)
        assert not done
        # The one who takes it relies on the blob, and says so by a manifest before it lets go.
        manifest = layout.manifest(ground.home, "0" * 64)
        manifest.parent.mkdir(exist_ok=True)
        manifest.write_text(f'{{"files":[{{"path":"x","size":5,"sha256":"{loose}"}}]}}')
        os.utime(manifest, (time.time() + 2 * DAY,) * 2)
    thread.join()
    assert done[0].blobs == 0
    assert loose in blobs(ground)


def test_logs_of_runs_that_there_are_not(ground: Ground) -> None:
    run = ground.run(STEP)
    folders = [layout.segments(ground.home, name) for name in (run.id, "another")]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "agent.seg").touch()
    assert collect(ground, 0.9).logs == 0
    assert collect(ground, 1.1).logs == 1
    assert [folder.exists() for folder in folders] == [True, False]


def test_what_was_left_half_written(ground: Ground) -> None:
    incoming = layout.incoming(ground.home)
    incoming.mkdir(parents=True)
    (incoming / "half").touch()
    (incoming / "query").mkdir()
    (incoming / "query" / "half").touch()
    assert collect(ground, 0.9).uploads == 0
    assert collect(ground, 1.1).uploads == 2
    assert list(incoming.iterdir()) == []


def test_an_output_that_says_it_is_old_is_as_young_as_its_arrival(ground: Ground) -> None:
    """The agent keeps a result until somebody asks for it: until then nothing names its outputs."""
    loose = put(ground, b"loose")
    long_ago = time.time() - 30 * DAY
    os.utime(layout.blob(ground.home, loose), (long_ago, long_ago))
    assert collect(ground, 0.9).blobs == 0


def test_a_round_compresses_logs_and_deletes_garbage(ground: Ground, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    Housekeeping(ground.platform).once()
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "deleted Collected(blobs=0" in caplog.text
