"""Compressed segments: the same records under the same offsets."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from groundplane.services import archive, logs
from groundplane.spi import layout, segments


class _Here:
    def __init__(self, home: Path) -> None:
        self.home = home


@pytest.fixture
def platform(tmp_path: Path) -> Any:
    return cast("Any", _Here(tmp_path))


def _write(home: Path, count: int, torn: bytes = b"") -> tuple[Path, list[segments.Record]]:
    folder = layout.segments(home, "run")
    folder.mkdir(parents=True)
    records = [
        segments.Record(f"task[{n % 3}]", f"run.0.{n % 3}.1", n % 2, n, f"line {n} é\n".encode() * 200)
        for n in range(count)
    ]
    path = folder / "agent.seg"
    path.write_bytes(b"".join(map(segments.encode, records)) + torn)
    return path, records


def _all(platform: Any, cursor: str = "", task: str | None = None, limit: int = 50_000) -> list[bytes]:
    found: list[bytes] = []
    while True:
        chunks, after = logs.read(platform, "run", cursor, limit, task)
        if after == cursor:
            return found
        cursor = after
        found += [chunk.data for chunk in chunks]


def test_it_reads_the_same_from_every_cursor(platform: Any) -> None:
    path, records = _write(platform.home, 1000)
    size = path.stat().st_size
    cursors = [""]
    while (after := logs.read(platform, "run", cursors[-1], 300_000)[1]) != cursors[-1]:
        cursors.append(after)
    before = [_all(platform, cursor) for cursor in cursors]
    packed = archive.compress(path)
    assert not path.exists()
    assert packed.stat().st_size < size / 5
    assert [_all(platform, cursor) for cursor in cursors] == before
    assert before[0] == [record.data for record in records]


def test_one_task_alone(platform: Any) -> None:
    path, records = _write(platform.home, 900)
    archive.compress(path)
    assert _all(platform, task="task[1]") == [r.data for r in records if r.task == "task[1]"]
    assert _all(platform, task="nobody") == []


def test_a_torn_tail_stays_behind(platform: Any) -> None:
    path, records = _write(platform.home, 5, torn=b"\xa7\x00")
    archive.compress(path)
    assert _all(platform) == [record.data for record in records]


def test_an_empty_segment(platform: Any) -> None:
    path, _ = _write(platform.home, 0)
    archive.compress(path)
    assert _all(platform) == []


def test_a_segment_compressed_between_listing_and_reading(platform: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path, records = _write(platform.home, 20)
    listed = logs._segments  # pyright: ignore[reportPrivateUsage]

    def late(folder: Path) -> list[Path]:
        found = listed(folder)
        if path.exists():
            archive.compress(path)
        return found

    monkeypatch.setattr(logs, "_segments", late)
    assert _all(platform) == [record.data for record in records]
