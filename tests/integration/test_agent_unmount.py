"""An agent that ends leaves no working copy mounted, also while its own thread deletes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from groundplane.agent import linux, overlay, places
from groundplane.spi import layout
from tests.parts import require


def a_mounted_copy(home: Path, attempt: str) -> str:
    where = overlay.folders(home, attempt)
    for folder in (where.tree, where.upper, where.work, where.inputs):
        Path(folder).mkdir(parents=True)
    overlay.mount(where, [where.inputs], "")
    return where.tree


def test_one_that_is_gone_meanwhile_hinders_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("root")
    trees = [a_mounted_copy(tmp_path, f"a.{number}") for number in range(3)]
    seen = linux.mounts_below(str(layout.attempt(tmp_path, "x").parent))
    assert sorted(seen) == sorted(trees)
    linux.unmount(trees[0])  # unmounted, and
    linux.unmount(trees[1])
    Path(trees[1]).rmdir()  # deleted, since somebody looked
    monkeypatch.setattr(linux, "mounts_below", lambda _: [*trees[:2], trees[2]])
    places.unmount_all(tmp_path)
    monkeypatch.undo()
    assert linux.mounts_below(str(tmp_path)) == []
