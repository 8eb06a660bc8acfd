"""Where an image was pushed is known by its manifest."""

from __future__ import annotations

from pathlib import Path

from groundplane.images.pushes import note_image, pushed_as


def test_the_last_place_counts(tmp_path: Path) -> None:
    assert pushed_as(tmp_path, "ab" * 32) == ""
    note_image(tmp_path, "ab" * 32, "one.example/r45@sha256:1")
    note_image(tmp_path, "ab" * 32, "two.example/r45@sha256:1")
    assert pushed_as(tmp_path, "ab" * 32) == "two.example/r45@sha256:1"
    assert pushed_as(tmp_path, "cd" * 32) == ""
