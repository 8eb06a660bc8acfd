"""What pruning takes away in the engines that images were brought to."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from groundplane.services import images, shelf
from groundplane.services.access import Actor
from groundplane.spi.images import Image, Layer


class Engine:
    """A driver that runs images, as far as pruning asks it."""

    def __init__(self) -> None:
        self.dropped: list[str] = []

    def drop(self, image: Image) -> None:
        self.dropped.append(image.reference)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    made = Engine()
    monkeypatch.setattr(images.bringing, "driver_of", lambda platform, name: made if name == "docker" else None)
    monkeypatch.setattr(images, "_used", lambda platform, actor, open_only=False: {})
    monkeypatch.setattr(images.gate, "change", lambda *_, **__: _Nothing())
    return made


class _Nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def add(home: Path, recipe: str, reference: str) -> None:
    store = shelf.store(home)
    store.record(Image(recipe, "docker", reference, "m" * 64, "c" * 64, (Layer("d" * 64, "", 1),), 0))


def test_only_images_that_were_named_here_leave_the_engines(tmp_path: Path, engine: Engine) -> None:
    mine, theirs = "a" * 64, "b" * 64
    add(tmp_path, mine, f"groundplane/r45:{mine[:16]}")
    add(tmp_path, theirs, "python:3.13")
    platform: Any = SimpleNamespace(home=tmp_path, drivers={"local": None, "docker": None})
    done = images.prune(platform, Actor("somebody"), everything=False)
    assert sorted(done["removed"]) == [f"groundplane/r45:{mine[:16]}", "python:3.13"]
    assert engine.dropped == [f"groundplane/r45:{mine[:16]}"]


def test_what_stages_for_others_too_stays_where_it_was_brought(tmp_path: Path, engine: Engine) -> None:
    recipe = "c" * 64
    image = Image(recipe, "staging", f"ground-staging:{recipe[:16]}", "m" * 64, "c" * 64, (), 0)
    shelf.store(tmp_path).record(image)
    platform: Any = SimpleNamespace(home=tmp_path, drivers={"docker": None})
    assert images.prune(platform, Actor("somebody"), everything=False)["removed"] == [image.reference]
    assert engine.dropped == []
