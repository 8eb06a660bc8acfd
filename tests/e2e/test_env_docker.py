"""`ground env` and `ground images push` with a Docker engine and a registry, as a user types them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from groundplane.images import dockerbuild
from groundplane.oci.address import parse
from groundplane.oci.engine import Engine, Refused
from tests.e2e.cli_ground import Ground, until

SPEC = """
[project]
name = "trial"
[environments.theirs]
image = "{image}"
engine = "r"
[environments.ours]
from = "docker/Dockerfile"
"""
DOCKERFILE = """FROM {image}
COPY scripts /scripts
RUN echo made > /made
"""


@pytest.fixture
def ground(tmp_path: Path, docker_engine: str, tiny_image: str) -> Iterator[Ground]:
    found = Ground(tmp_path, DOCKER_HOST=docker_engine)
    found.write("ground.toml", SPEC.format(image=tiny_image))
    found.write("docker/Dockerfile", DOCKERFILE.format(image=tiny_image))
    found.write("scripts/one.sh", "echo 1\n")
    found.write("other.sh", "echo 2\n")
    yield found
    found.close()


def state(ground: Ground) -> dict[str, str]:
    return {row["name"]: row["state"] for row in ground.json("env", "list")}


def labelled(url: str, ground: Ground) -> list[dict[str, Any]]:
    """Containers and images of this home's builds in the engine."""
    engine = Engine(parse(url))
    query = {"all": 1, "filters": json.dumps({"label": [dockerbuild.LABEL]})}
    try:
        found = [each for path in ("containers", "images") for each in engine.call("GET", f"/{path}/json", query)]
    finally:
        engine.close()
    mine = dockerbuild.owner(ground.home / "images")
    return [each for each in found if each["Labels"][dockerbuild.LABEL].startswith(mine)]


def test_locked_shown_stale_pushed_and_pulled_again(
    ground: Ground, docker_engine: str, docker_registry: str, tiny_image: str, tmp_path: Path
) -> None:
    said = ground("env", "lock")
    assert "theirs: locked: r 4.5.1" in said.stdout
    assert "ours: locked: docker/Dockerfile" in said.stdout
    assert "ours: RUN echo made > /made" in said.stderr
    text = (ground.work / "ground.lock").read_text()
    assert ground.json("env", "lock")["changed"] == []
    assert (ground.work / "ground.lock").read_text() == text

    shown = ground.json("env", "show", "ours")
    assert {row["name"]: (row["kind"], row["sha256"]) for row in shown["packages"]} == {
        "hello": ("deb", None),
        "trial": ("python", None),
    }
    assert (shown["builder"], shown["upstream"]) == ("docker", "docker/Dockerfile")
    assert "pkg:deb/debian/hello@2.10-3" in ground("env", "sbom", "ours").stdout
    assert ground.json("env", "verify")["ok"] is True

    ground.write("other.sh", "echo 3\n")  # which the Dockerfile does not copy
    assert state(ground) == {"theirs": "built", "ours": "built"}
    ground.write("scripts/one.sh", "echo 4\n")
    assert state(ground)["ours"] == "stale"
    assert "ground env lock ours" in ground("env", "build", code=2).stderr
    ground.write("scripts/one.sh", "echo 1\n")
    assert state(ground)["ours"] == "built"

    target = f"{docker_registry}/trial/ours"
    pushed = ground.json("images", "push", "ours", f"{target}:1")
    assert (pushed["reference"], pushed["digest"]) == (f"{target}:1", shown["image_digest"])
    assert pushed["pushed_bytes"] > 0
    assert ground.json("images", "push", "ours", f"{target}:2")["pushed_bytes"] == 0
    names = [row["name"] for row in ground.json("images", "list")]
    assert tiny_image in names
    by_name = ground.json("images", "push", tiny_image, f"{docker_registry}/trial/theirs")
    assert by_name["skipped_bytes"] > by_name["pushed_bytes"]  # its layer was taken over from the other repository

    ground.write("ground.toml", f'[project]\nname = "t"\n[environments.pulled]\nimage = "{target}:2"\n')
    try:
        ground("env", "lock")
        assert ground.json("env", "show", "pulled")["layers"] == shown["layers"]
        assert f'digest = "{shown["image_digest"]}"' in (ground.work / "ground.lock").read_text()
    finally:
        forget(docker_engine, f"{target}:2")
    assert labelled(docker_engine, ground) == []


def forget(url: str, image: str) -> None:
    engine = Engine(parse(url))
    try:
        engine.call("DELETE", f"/images/{image}", {"force": 1})
    except Refused as error:
        assert error.status == 404
    finally:
        engine.close()


def test_what_is_wrong_is_named(ground: Ground, docker_registry: str) -> None:
    for image, code, word in (
        (f"{docker_registry}/trial/none:1", 2, "there is no image"),
        ("127.0.0.1:9/trial:1", 3, "127.0.0.1:9 does not answer"),
        ("No Name", 2, "no name of an image"),
    ):
        ground.write("ground.toml", f'[project]\nname = "t"\n[environments.x]\nimage = "{image}"\n')
        assert word in ground("env", "lock", code=code).stderr
    assert not (ground.work / "ground.lock").exists()
    assert "there is no image 'nothing'" in ground("images", "push", "nothing", "host.example/x", code=2).stderr
    ground.write("ground.toml", '[project]\nname = "t"\n[environments.x]\nfrom = "Dockerfile"\n')
    assert "no file 'Dockerfile'" in ground("env", "lock", code=2).stderr
    assert "ground env lock x" in ground("images", "push", "x", "host.example/x", code=2).stderr


def test_an_engine_that_is_not_there(tmp_path: Path) -> None:
    ground = Ground(tmp_path, DOCKER_HOST="unix:///nonexistent/docker.sock")
    try:
        ground.write("ground.toml", '[project]\nname = "t"\n[environments.x]\nimage = "python:3.13"\n')
        said = ground("env", "lock", code=3).stderr
        assert "unix:///nonexistent/docker.sock does not answer" in said
        assert "DOCKER_HOST" in said
    finally:
        ground.close()


def test_a_killed_control_plane_leaves_nothing_for_good(ground: Ground, docker_engine: str, tiny_image: str) -> None:
    ground.write("docker/Dockerfile", f"FROM {tiny_image}\nRUN echo first\nRUN sleep 60\n")
    control = ground.pid()
    locking = ground.start("env", "lock", "ours")
    running = lambda: any("State" in each and each["State"] == "running" for each in labelled(docker_engine, ground))  # noqa: E731
    until(running, "the build's container")
    os.kill(control, signal.SIGKILL)
    _, errors = locking.communicate(timeout=60)
    assert locking.returncode == 3
    assert b"went away" in errors
    until(lambda: not running(), "the end of the build's container")
    assert labelled(docker_engine, ground)  # images of its steps, which the next build sweeps away
    ground.write("docker/Dockerfile", f"FROM {tiny_image}\nRUN echo first\n")
    ground("env", "lock", "ours")
    assert labelled(docker_engine, ground) == []


def test_ending_the_command_ends_the_build(ground: Ground, docker_engine: str, tiny_image: str) -> None:
    ground.write("docker/Dockerfile", f"FROM {tiny_image}\nRUN while :; do echo on; sleep 1; done\n")
    locking = ground.start("env", "lock", "ours")
    until(lambda: labelled(docker_engine, ground), "the build")
    locking.send_signal(signal.SIGINT)
    _, errors = locking.communicate(timeout=60)
    assert locking.returncode in (130, -signal.SIGINT), errors
    until(lambda: not labelled(docker_engine, ground), "the end of the build", seconds=60)
