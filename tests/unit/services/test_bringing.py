"""What is brought to a backend beside the image that its work runs in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from groundplane.images import staging
from groundplane.model.errors import Unavailable
from groundplane.services import bringing
from groundplane.spi.driver import CanRunImages, NeedsStaging
from groundplane.spi.images import Image, Progress

WORK = Image("a" * 64, "debian", f"groundplane/r:{'a' * 16}", "m" * 64, "c" * 64, (), 0)


class Cluster:
    """A driver that runs images and needs one that stages, as far as bringing asks it. away: calls that bring what
    stages, and find the backend away."""

    def __init__(self) -> None:
        self.images: set[str] = set()
        self.used = ""
        self.brought: list[str] = []
        self.away = 0
        self.code = "backend_unavailable"

    def ping(self) -> None: ...

    def image_name(self, image: Image) -> str:
        return image.reference

    def has(self, image: Image) -> bool:
        return image.reference in self.images

    def bring(self, image: Image, blobs: Callable[[str], Path], progress: Progress) -> None:
        self.brought.append(image.reference)
        self.images.add(image.reference)

    def drop(self, image: Image) -> None: ...

    def use_staging(self, name: str) -> None:
        self.used = name

    def has_staging(self) -> bool:
        return self.used in self.images

    def bring_staging(self, make: Callable[[], Image], blobs: Callable[[str], Path], progress: Progress) -> None:
        if self.away:
            self.away -= 1
            raise Unavailable("it is away", code=self.code)
        if not self.has_staging():
            self.bring(make(), blobs, progress)


class Builds:
    """In place of the building of the staging image."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, platform: Any, progress: Progress) -> Image:
        self.count += 1
        return Image("b" * 64, staging.BUILDER, staging.name(), "m" * 64, "c" * 64, (), 0)


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> Builds:
    made = Builds()
    monkeypatch.setattr(bringing, "staging_image", made)
    return made


def platform_of(driver: object, home: Path) -> Any:
    return SimpleNamespace(home=home, driver=lambda backend: driver)


def bring(platform: Any, patience: float = 0.0) -> None:
    bringing._patiently(platform, "k8s", WORK, lambda text: None, patience)


def test_what_stages_comes_along_once(tmp_path: Path, builds: Builds) -> None:
    cluster = Cluster()
    assert isinstance(cluster, CanRunImages)
    assert isinstance(cluster, NeedsStaging)
    platform = platform_of(cluster, tmp_path)
    bring(platform)
    assert sorted(cluster.brought) == [staging.name(), WORK.reference]
    assert cluster.used == staging.name()
    bring(platform)
    assert builds.count == 1


def test_a_registry_that_has_it_spares_the_build(tmp_path: Path, builds: Builds) -> None:
    cluster = Cluster()
    cluster.images.add(staging.name())
    bring(platform_of(cluster, tmp_path))
    assert cluster.brought == [WORK.reference]
    assert builds.count == 0


def test_work_waits_while_nothing_stages_for_it(tmp_path: Path, builds: Builds) -> None:
    cluster = Cluster()
    cluster.images.add(WORK.reference)
    platform = platform_of(cluster, tmp_path)
    assert not bringing.is_there(platform, "k8s", WORK)
    cluster.images.add(staging.name())
    assert bringing.is_there(platform, "k8s", WORK)
    assert builds.count == 0


def test_of_what_the_backend_pulls_itself_nothing_is_brought(tmp_path: Path, builds: Builds) -> None:
    cluster, pulled = Cluster(), "registry.example/x@sha256:" + "d" * 64
    platform = platform_of(cluster, tmp_path)
    assert not bringing.is_there(platform, "k8s", pulled)  # nothing stages for it yet
    bringing._patiently(platform, "k8s", pulled, lambda text: None, 0.0)
    assert cluster.brought == [staging.name()]
    assert bringing.is_there(platform, "k8s", pulled)
    assert bringing.name(platform, "k8s", pulled) == pulled


def test_whoever_names_the_image_has_told_what_stages(tmp_path: Path) -> None:
    """Work that was claimed before a restart is launched again without anything being brought."""
    cluster = Cluster()
    assert bringing.name(platform_of(cluster, tmp_path), "k8s", WORK) == WORK.reference
    assert cluster.used == staging.name()


@pytest.mark.parametrize("code", ["backend_unavailable", "registry_unavailable"])
def test_a_backend_that_is_away_is_waited_for(tmp_path: Path, builds: Builds, code: str) -> None:
    cluster = Cluster()
    cluster.code = code
    cluster.away = 1
    with pytest.raises(Unavailable):
        bring(platform_of(cluster, tmp_path))
    cluster.away = 1
    bring(platform_of(cluster, tmp_path), patience=30.0)
    assert staging.name() in cluster.brought
