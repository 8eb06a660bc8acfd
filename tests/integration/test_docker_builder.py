"""Images of others with a real engine: taken over as they are, built in order, built again, and out of a pool."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from groundplane.images import dockerbuild
from groundplane.images.docker import DockerBuilder
from groundplane.images.store import ImageStore
from groundplane.model.environments import Environment
from groundplane.model.errors import GroundError, Invalid, NotFound, Outside, Unavailable
from groundplane.model.locks import Found, Lock
from groundplane.oci import reference, registry
from groundplane.oci.address import parse
from groundplane.oci.engine import Engine
from groundplane.services import environments
from groundplane.spi.images import Image
from tests import docker_engine as engines
from tests.parts import require
from tests.tiny_image import Images


class Site:
    """A home with its store, and a project."""

    def __init__(self, root: Path, url: str) -> None:
        self.store = ImageStore(root / "images")
        self.project = root / "project"
        self.project.mkdir(parents=True)
        self.said: list[str] = []
        self.url = url
        self.builder = DockerBuilder(self.store, parse(url), self.project)

    def lock(self, **keys: str) -> Lock:
        environment = Environment("trial", **keys)
        return self.builder.lock(environments.recipe(environment, self.project), self.said.append)

    def dockerfile(self, text: str) -> Lock:
        (self.project / "Dockerfile").write_text(text)
        return self.lock(dockerfile="Dockerfile")

    def image(self, lock: Lock) -> Image:
        found = self.store.find(lock.recipe)
        assert found is not None
        assert self.store.check(found) == []
        return found

    def leftovers(self) -> list[str]:
        engine = Engine(parse(self.url))
        query = {"all": 1, "filters": json.dumps({"label": [dockerbuild.LABEL]})}
        found = [each for path in ("containers", "images") for each in engine.call("GET", f"/{path}/json", query)]
        engine.close()
        mine = dockerbuild.owner(self.store.folder)
        return [each["Id"] for each in found if each["Labels"][dockerbuild.LABEL].startswith(mine)]


@pytest.fixture
def site(tmp_path: Path, docker_engine: str) -> Callable[[str], Site]:
    return lambda name: Site(tmp_path / name, docker_engine)


def test_an_image_of_the_engine_is_taken_over_as_it_is(site: Callable[[str], Site], tiny_image: str) -> None:
    here = site("here")
    lock = here.lock(image=tiny_image, engine="r")
    engine = Engine(parse(here.url))
    facts = engine.call("GET", f"/images/{tiny_image}/json")
    engine.close()
    image = here.image(lock)
    assert f"sha256:{image.config}" == facts["Id"]
    assert [f"sha256:{diff}" for diff in lock.layers] == facts["RootFS"]["Layers"]
    assert lock.upstream is not None
    assert (lock.upstream.reference, lock.upstream.digest, lock.upstream.config) == (tiny_image, "", image.config)
    assert (lock.toolchain, lock.program, lock.version) == ("r", "/usr/bin/Rscript", "4.5.1")
    assert (lock.distribution, lock.suite) == ("debian trixie", "trixie")
    assert lock.found == (Found("hello", "2.10-3", "deb", "amd64"), Found("trial", "1.2", "python"))
    assert here.lock(image=tiny_image, engine="r") == lock
    plain = here.lock(image=tiny_image)
    assert (plain.toolchain, plain.program, plain.probe) == ("", "", "")
    with pytest.raises(Invalid, match="has no pspp"):
        here.lock(image=tiny_image, engine="pspp")
    assert here.leftovers() == []


RECIPE = """FROM {base} AS one
RUN echo made > /made
FROM {base}
COPY --from=one /made /made
COPY data /data
RUN echo two > /two; echo three > /tmp/three
ENV A=1
"""


def test_a_dockerfile_gives_the_same_layers_on_another_day(site: Callable[[str], Site], tiny_image: str) -> None:
    here, there = site("here"), site("there")
    for each, when in ((here, 10_000_000), (there, 1_700_000_000)):
        path = each.project / "data" / "deep" / "a.csv"
        path.parent.mkdir(parents=True)
        path.write_text("1,2\n")
        os.utime(path, (when, when))
        (each.project / "unrelated").write_text(str(when))
    lock = here.dockerfile(RECIPE.format(base=tiny_image))
    time.sleep(1.1)  # the clock's seconds must not matter
    (there.project / "Dockerfile").write_text(RECIPE.format(base=tiny_image))
    made = there.builder.build(lock, there.said.append)
    assert made.manifest == here.image(lock).manifest
    base = here.lock(image=tiny_image)
    assert lock.layers[0] == base.layers[0]
    assert here.image(lock).layers[0] == here.image(base).layers[0]  # it lies there once
    assert "RUN echo made > /made" in here.said
    assert not any(dockerbuild.LABEL in line or "SOURCE_DATE" in line for line in here.said)
    assert here.leftovers() == []
    again = len(here.said)
    assert here.dockerfile(RECIPE.format(base=tiny_image)) == lock
    assert here.said[again:] == ["reading its packages"]  # it was not built again
    (there.project / "data" / "deep" / "a.csv").write_text("3,4\n")
    there.store.remove(lock.recipe)
    with pytest.raises(Invalid, match="another than when") as raised:
        there.builder.build(lock, there.said.append)
    assert raised.value.code == "stale_lock"


def test_what_differs_each_day_is_named_and_a_pool_has_it(
    site: Callable[[str], Site], tiny_image: str, tmp_path: Path
) -> None:
    here, there = site("here"), site("there")
    text = f"FROM {tiny_image}\nRUN echo same > /same\nRUN date +%N > /now\n"
    lock = here.dockerfile(text)
    (there.project / "Dockerfile").write_text(text)
    with pytest.raises(Unavailable, match=r"layer 2 of trial .*made by: /bin/sh -c date") as raised:
        there.builder.build(lock, there.said.append)
    assert raised.value.code == "image_build_failed"
    assert "--offline" in raised.value.hint
    assert there.store.find(lock.recipe) is None
    pool = tmp_path / "pool"
    assert len(here.builder.pool(lock, pool, here.said.append)) == 5  # three layers, configuration, manifest
    offline = DockerBuilder(there.store, parse("unix:///nowhere"), None)
    assert offline.build(lock, there.said.append, pool).manifest == here.image(lock).manifest
    there.image(lock)
    there.store.remove(lock.recipe)
    there.store.collect()
    other = replace(lock, layers=(*lock.layers[:-1], "0" * 64))
    with pytest.raises(Unavailable, match="damaged") as raised:
        offline.build(other, there.said.append, pool)
    assert raised.value.code == "pool_incomplete"
    next(pool.glob("*-layer.tar.gz")).write_bytes(b"other")
    there.store.collect()
    with pytest.raises(Unavailable, match="damaged"):
        offline.build(lock, there.said.append, pool)
    with pytest.raises(Unavailable, match="has no image for trial"):
        offline.build(lock, there.said.append, tmp_path)


@pytest.mark.parametrize(
    ("text", "kind", "said", "hint"),
    [
        ("FROM {base}\nRUN echo read; echo no such table >&2; exit 3", Unavailable, "RUN echo read", "no such table"),
        ("FROM {base}\nRUN true\nFOO bar", Invalid, "line 3: unknown instruction: FOO", "mend"),
        ("FROM {base}\nCOPY nothing /", Unavailable, "COPY nothing /", "nothing"),
        ("FROM groundplane-trial/{{none}}:1", Invalid, "no name of an image", ""),
        ("FROM 127.0.0.1:9/none:1", Outside, "127.0.0.1:9 does not answer", "--offline"),
    ],
)  # fmt: skip
def test_a_build_that_fails_says_where(
    text: str, kind: type[GroundError], said: str, hint: str, site: Callable[[str], Site], tiny_image: str
) -> None:
    here = site("here")
    with pytest.raises(kind, match=said) as raised:
        here.dockerfile(text.format(base=tiny_image))
    assert hint in raised.value.hint
    assert here.leftovers() == []
    assert list((here.store.folder / "scratch").glob("*")) == []


def test_an_image_of_a_registry_by_its_digest(
    site: Callable[[str], Site], tiny_image: str, docker_registry: str, tmp_path: Path
) -> None:
    here, there = site("here"), site("there")
    own = here.image(here.lock(image=tiny_image))
    name = f"{docker_registry}/trial/tiny:1"
    registry.push(here.store.blob, own.manifest, reference.parse(name), here.said.append, folder=tmp_path)
    engine = Engine(parse(here.url))
    try:
        lock = here.lock(image=name)
        assert lock.upstream is not None
        assert (lock.upstream.digest, lock.upstream.config) == (f"sha256:{own.manifest}", own.config)
        built = here.dockerfile(f"FROM {name}\nRUN true\n")
        assert built.upstream is not None
        assert built.upstream.bases == {name: lock.upstream.digest}
        engine.call("DELETE", f"/images/{name}", {"force": 1})
        assert there.builder.build(lock, there.said.append).config == own.config
        with pytest.raises(NotFound, match="manifest unknown") as raised:
            here.lock(image=f"{docker_registry}/trial/tiny:2")
        assert raised.value.code == "image_missing"
    finally:
        for each in (name, f"{docker_registry}/trial/tiny@sha256:{own.manifest}"):
            try:
                engine.call("DELETE", f"/images/{each}", {"force": 1})
            except Exception:  # noqa: BLE001 - whichever of the two is there
                pass
        engine.close()


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[tuple[engines.Daemon, Site, str]]:
    """An engine that may be killed, a site on it, and an image."""
    if not engines.can_start():
        require("docker")
        require("root")
        pytest.skip("this machine has no dockerd to be killed")
    with engines.private_engine() as engine:
        yield engine, Site(tmp_path / "fragile", engine.url), Images(engine.url).load(tmp_path / "tiny.tar")


def test_an_engine_that_dies_in_a_build_leaves_nothing_half_done(
    fragile: tuple[engines.Daemon, Site, str],
) -> None:
    engine, here, base = fragile
    failed: list[GroundError] = []

    def build() -> None:
        try:
            here.dockerfile(f"FROM {base}\nRUN true\nRUN sleep 60\n")
        except GroundError as error:
            failed.append(error)

    thread = threading.Thread(target=build)
    thread.start()
    limit = time.monotonic() + 30
    while "RUN sleep 60" not in here.said and time.monotonic() < limit:
        time.sleep(0.05)
    time.sleep(0.5)
    engine.kill(signal.SIGKILL)
    thread.join(30)
    assert [error.code for error in failed] == ["backend_unavailable"]
    assert here.store.images() == []
    assert list((here.store.folder / "scratch").glob("*")) == []
    with pytest.raises(Outside, match="does not answer"):
        here.lock(image=base)
    engine.start()
    assert here.leftovers()
    here.dockerfile(f"FROM {base}\nRUN true\n")
    assert here.leftovers() == []
