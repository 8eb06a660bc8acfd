"""Images of others on a real cluster: their registry says which they are, the nodes pull them, no engine has a part."""

from __future__ import annotations

import io
import tarfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from groundplane.images.store import ImageStore
from groundplane.oci import reference, registry
from groundplane.spi.images import Layer
from tests import docker_drill
from tests.cluster import Site, eventually

pytestmark = pytest.mark.timeout(600)

NOWHERE = "tcp://127.0.0.1:1"
PROJECT = """
[project]
name = "{project}"
on = "{on}"
[environments.theirs]
image = "{image}"
[pipelines.p.steps.one]
run = "one.sh"
environment = "theirs"
outputs = ["out.txt"]
"""


@pytest.fixture
def site(kubernetes: Site, tmp_path: Path) -> Iterator[Site]:
    """A folder of one's own; the control plane has no engine, whoever else has one."""
    ground = kubernetes.ground
    ground.work = tmp_path / kubernetes.project
    ground.work.mkdir()
    ground.write("one.sh", "read it </version; echo $it >out.txt; echo $it\n")
    before = ground.env
    ground.env = {**before, "DOCKER_HOST": NOWHERE}
    ground("down", code=None)
    yield kubernetes
    eventually(lambda: not kubernetes.mine("Job"))
    ground.env = before
    ground("down", code=None)


@pytest.fixture
def theirs(site: Site, tmp_path: Path) -> Theirs:
    return Theirs(site, ImageStore(tmp_path / "theirs"), tmp_path / "layer.tar")


class Theirs:
    """Somebody else's repository in the registry."""

    def __init__(self, site: Site, store: ImageStore, tar: Path) -> None:
        self.repository = f"{site.registry.removeprefix('http://')}/theirs/{uuid.uuid4().hex[:8]}"
        self._plain = site.registry.startswith("http://")
        self._store = store
        self._tar = tar
        docker_drill.pack(tar)
        self._shell = store.add_layer(tar)

    def push(self, version: str, *, shell: bool = True) -> str:
        """An image that has the version in a file, as tag 1; its digest."""
        layers: list[Layer] = [self._shell] if shell else []
        with tarfile.open(self._tar, "w") as out:
            entry = tarfile.TarInfo("version")
            entry.size = len(version) + 1
            out.addfile(entry, io.BytesIO(f"{version}\n".encode()))
        layers.append(self._store.add_layer(self._tar))
        image = self._store.add_image(
            recipe=version, builder="debian", reference="x:1", layers=layers, epoch=0, built_at=0,
            config={"Env": ["PATH=/bin"]},
        )  # fmt: skip
        target = reference.parse(f"{self.repository}:1")
        return registry.push(self._store.blob, image.manifest, target, lambda _: None, plain=self._plain).digest


def run(site: Site, image: str, *words: str, on: str = "k8s", code: int = 0) -> Any:
    site.ground.write("ground.toml", PROJECT.format(project=site.project, image=image, on=on))
    return site.ground.json("run", "p", *words, code=code)


def image_of(site: Site, run: str) -> str:
    """What the pod of a run that has begun runs in."""
    (pod,) = eventually(lambda: site.api.listing("Pod", run=run))
    return next(each["image"] for each in pod["spec"]["containers"] if each["name"] == "work")


def test_a_tag_is_pinned_to_what_it_means_when_a_run_begins(site: Site, theirs: Theirs) -> None:
    first = theirs.push("first")
    site.ground.write("one.sh", "read it </version; echo $it >out.txt; echo $it; sleep 3\n")
    begun = run(site, f"{theirs.repository}:1", "--detach")["id"]
    assert image_of(site, begun) == f"{theirs.repository}@{first}"
    site.ground("runs", "wait", begun)
    assert site.ground("runs", "logs", begun).stdout == "first\n"
    again = run(site, f"{theirs.repository}:1")
    assert again["tasks"][0]["reused"] is True
    assert theirs.push("second") != first  # the tag means another image now: what the first one left is not its work
    other = run(site, f"{theirs.repository}:1")
    assert (other["state"], other["tasks"][0]["reused"]) == ("succeeded", False)
    assert site.ground("runs", "logs", other["id"]).stdout == "second\n"
    rerun = site.ground.json("runs", "rerun", begun)  # of the very same: by its digest
    site.ground("runs", "wait", rerun["id"])
    assert site.ground.json("runs", "show", rerun["id"])["tasks"][0]["reused"] is True


def test_an_image_that_its_registry_does_not_have_fails_at_once(site: Site, theirs: Theirs) -> None:
    theirs.push("first")
    run(site, f"{theirs.repository}:1")
    for name in (f"{theirs.repository}:none", f"{theirs.repository}-none:1"):
        began = time.monotonic()
        done = run(site, name, code=1)
        assert time.monotonic() - began < 10
        reason = done["tasks"][0]["reason"]
        assert (reason["code"], reason["fault"]) == ("image_missing", "user")
        assert name.partition("/")[2] in reason["message"]


def test_an_image_without_a_shell_is_told_what_it_lacks(site: Site, theirs: Theirs) -> None:
    theirs.push("bare", shell=False)
    reason = run(site, f"{theirs.repository}:1", code=1)["tasks"][0]["reason"]
    assert (reason["code"], reason["fault"]) == ("start_failed", "user")
    assert "has no `sh`" in reason["message"]


def test_a_registry_that_only_nodes_may_reach_is_left_to_them(site: Site) -> None:
    """They cannot reach this one either: what they say of it counts."""
    site.add("patient", "--patience", "4s")
    done = run(site, "127.0.0.1:1/theirs/x:1", on="patient", code=3)
    reason = done["tasks"][0]["reason"]
    assert (reason["code"], reason["fault"]) == ("image_pull", "backend")
    assert "127.0.0.1:1/theirs/x:1" in reason["message"]
    assert any("127.0.0.1:1/theirs/x:1 could not be asked" in each for each in done["warnings"])
    site.ground("backends", "rm", "patient")
