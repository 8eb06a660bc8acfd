"""Images of others on a backend that pulls them itself: by which name, and whose lock is of use to whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from groundplane.drivers.scripted import ScriptedDriver
from groundplane.model.environments import Environment
from groundplane.model.locks import Lock, Upstream
from groundplane.model.pipelines import Pipeline, Step
from groundplane.services import bringing, pulling
from groundplane.services.plans import Placement, PlannedEngine, RunPlan
from groundplane.spi.driver import PullsImages

DIGEST = "sha256:" + "d" * 64
THEIRS = Environment("theirs", engine="r", image="host.example/r-base:4.4")


class Pulls:
    """A driver that pulls, as far as this asks it."""

    def __init__(self, digest: str) -> None:
        self._digest = digest

    def digest_of(self, reference: str) -> str:
        return self._digest


def lock_of(upstream: Upstream | None, builder: str) -> Lock:
    return Lock("theirs", "def", "r", "r", "", "", builder, upstream=upstream)


@pytest.mark.parametrize(
    ("upstream", "builder", "name"),
    [
        (Upstream("host.example/x:1", DIGEST), pulling.BUILDER, f"host.example/x@{DIGEST}"),
        (Upstream("host.example/x:1"), pulling.BUILDER, "host.example/x:1"),
        (Upstream("python:3", DIGEST), "docker", f"docker.io/library/python@{DIGEST}"),
        (Upstream(f"python:3@{DIGEST}", DIGEST), pulling.BUILDER, f"docker.io/library/python@{DIGEST}"),
        (Upstream("mine:1", config="c"), "docker", ""),  # only an engine ever had it
        (Upstream("Dockerfile", dockerfile="d"), "docker", ""),
        (None, "debian", ""),
    ],
)
def test_what_nodes_pull(upstream: Upstream | None, builder: str, name: str) -> None:
    driver: Any = Pulls("")
    assert isinstance(driver, PullsImages)
    made = lock_of(upstream, builder)
    assert pulling.name(driver, made) == name
    assert pulling.floats(made) == (name == "host.example/x:1") == bringing.floats(name or None)
    if builder != pulling.BUILDER:
        assert pulling.fits(made, ScriptedDriver())
    else:
        assert pulling.fits(made, driver) and not pulling.fits(made, ScriptedDriver())
        assert pulling.name(ScriptedDriver(), made) == ""


def test_another_digest_is_another_lock() -> None:
    made = [pulling.lock(Pulls(digest), THEIRS, "def", Path("/")) for digest in (DIGEST, DIGEST, "sha256:" + "e" * 64)]
    assert made[0] == made[1]
    assert made[0].sha256 != made[2].sha256
    assert (made[0].toolchain, made[0].engine, made[0].definition) == ("r", "r", "def")


def plan(*backends: str) -> RunPlan:
    steps = tuple(Step(name=backend, command=("true",)) for backend in backends)
    return RunPlan(
        name="p",
        pipeline=Pipeline(name="p", project="x", steps=steps),
        lone=False,
        fresh=False,
        backend=backends[0],
        snapshot="",
        folder="/",
        engines={backend: PlannedEngine("command", "command") for backend in backends},
        placements={backend: Placement(backend, image=THEIRS, definition="def") for backend in backends},
    )


def test_an_engine_gets_no_lock_that_only_a_registry_made() -> None:
    made = pulling.lock(Pulls(""), THEIRS, "def", Path("/"))
    known = bringing.known(plan("docker", "k8s", "other"), made, "digest", {"k8s", "other"})
    assert {name: placed.lock for name, placed in known.placements.items()} == {
        "docker": "", "k8s": "digest", "other": "digest",
    }  # fmt: skip
    (warning,) = known.warnings
    assert "host.example/r-base:4.4" in warning
    exact = pulling.lock(Pulls(DIGEST), THEIRS, "def", Path("/"))
    assert bringing.known(plan("k8s"), exact, "digest", {"k8s"}).warnings == ()
