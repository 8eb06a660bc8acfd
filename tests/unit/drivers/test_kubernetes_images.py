"""Which questions a cluster's registries are asked, and which are answered from memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from groundplane.drivers import kubernetes_images
from groundplane.drivers.kubernetes_images import Images
from groundplane.model.errors import Denied, GroundError, Invalid, NotFound, Outside, Unavailable
from groundplane.oci import registry
from groundplane.oci.reference import Reference
from groundplane.spi.driver import PullsImages
from groundplane.spi.images import Image

WORK = Image("a" * 64, "debian", f"groundplane/r:{'a' * 16}", "b" * 64, "c" * 64, (), 0)
DIGEST = "sha256:" + "d" * 64


class Registries:
    """In place of all of them. error: what they answer with. asked: (name, whether without TLS)."""

    def __init__(self) -> None:
        self.content: dict[str, str] = {}
        self.error: GroundError | None = None
        self.asked: list[tuple[str, bool]] = []
        self.pushed: list[str] = []

    def digest_of(self, target: Reference, *, plain: bool) -> str:
        self.asked.append((str(target), plain))
        if self.error is not None:
            raise self.error
        return self.content.get(str(target), "")

    def push(self, blobs: Any, manifest: str, target: Reference, progress: Any, *, plain: bool) -> None:
        self.pushed.append(str(target))
        self.content[f"{target.name}@sha256:{manifest}"] = f"sha256:{manifest}"


@pytest.fixture
def registries(monkeypatch: pytest.MonkeyPatch) -> Registries:
    made = Registries()
    monkeypatch.setattr(registry, "digest_of", made.digest_of)
    monkeypatch.setattr(registry, "push", made.push)
    return made


@pytest.fixture
def images() -> Images:
    made = Images("host.example:5000/team", plain=True)
    made.use_staging("groundplane/staging:1")
    return made


def bring(images: Images) -> None:
    images.bring(WORK, Path, lambda _: None)


def test_a_transaction_waits_for_no_registry(images: Images, registries: Registries) -> None:
    registries.error = Outside("it is away", code="registry_unavailable")
    assert not images.has(WORK)
    assert not images.has_staging()
    assert registries.asked == []


def test_what_the_registry_lacks_is_pushed_once_and_believed_for_a_while(
    images: Images, registries: Registries, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(images)
    assert registries.pushed == [f"host.example:5000/team/groundplane/r:{'a' * 16}"]
    assert images.has(WORK)
    monkeypatch.setattr(kubernetes_images, "_BELIEVED", 0.0)
    assert not images.has(WORK)
    bring(images)
    assert len(registries.pushed) == 1
    registries.content.clear()
    bring(images)
    assert len(registries.pushed) == 2


def test_what_stages_is_built_only_where_it_is_lacking(images: Images, registries: Registries) -> None:
    def never() -> Image:
        raise AssertionError

    registries.content["host.example:5000/team/groundplane/staging:1"] = DIGEST
    images.bring_staging(never, Path, lambda _: None)
    assert images.has_staging()
    assert registries.pushed == []
    images.use_staging("groundplane/staging:2")
    assert not images.has_staging()
    images.bring_staging(lambda: WORK, Path, lambda _: None)
    assert registries.pushed == ["host.example:5000/team/groundplane/staging:2"]


def test_a_registry_that_refuses_the_backend_is_no_fault_of_the_run(images: Images, registries: Registries) -> None:
    registries.error = Denied("not you")
    with pytest.raises(Unavailable) as told:
        bring(images)
    assert told.value.code == "registry_unavailable"


def test_a_tag_of_others_is_asked_of_their_registry(images: Images, registries: Registries) -> None:
    assert isinstance(images, PullsImages)
    registries.content = {"host.example:5000/x:1": DIGEST, "python:3": DIGEST}
    assert images.digest_of("host.example:5000/x:1") == DIGEST
    assert images.digest_of("python:3") == DIGEST
    assert registries.asked == [("host.example:5000/x:1", True), ("python:3", False)]
    with pytest.raises(NotFound, match=r"docker\.io has no image library/python:none") as told:
        images.digest_of("python:none")
    assert told.value.code == "image_missing"


def test_a_registry_that_is_away_is_left_to_the_nodes_and_alone(
    images: Images, registries: Registries, monkeypatch: pytest.MonkeyPatch
) -> None:
    registries.error = Outside("it is away", code="registry_unavailable")
    assert images.digest_of("far.example/x:1") == ""
    assert images.digest_of(f"far.example/x@{DIGEST}") == DIGEST
    assert images.digest_of("other.example/x:1") == ""
    assert [name for name, _ in registries.asked] == ["far.example/x:1", "other.example/x:1"]
    registries.error = None
    registries.content["far.example/x:1"] = DIGEST
    clock = kubernetes_images.time.monotonic() + 61
    monkeypatch.setattr(kubernetes_images.time, "monotonic", lambda: clock)
    assert images.digest_of("far.example/x:1") == DIGEST


@pytest.mark.parametrize("error", [Denied("not you"), Invalid("a helper is missing")])
def test_who_may_not_ask_leaves_it_to_the_nodes(images: Images, registries: Registries, error: GroundError) -> None:
    registries.error = error
    assert images.digest_of("far.example/x:1") == ""
    registries.error = None
    registries.content["far.example/x:1"] = DIGEST
    assert images.digest_of("far.example/x:1") == DIGEST
