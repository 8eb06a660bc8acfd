"""examples/trial as it is, on this machine, in Docker and on Kubernetes: four languages, and the same bytes everywhere.

The first session builds the images of its environments, for minutes; they stay for the next one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Site, opened
from tests.docker_drill import daemon
from tests.e2e.cli_ground import Ground
from tests.parts import require

pytestmark = pytest.mark.timeout(1500)

TRIAL = Path(__file__).parents[2] / "examples" / "trial"
_KEPT = Path("~/.cache/ground-tests/trial-images").expanduser()


@pytest.fixture
def site(tmp_path: Path, examples_python: Path) -> Iterator[Site]:
    """A home with both backends, and the images of an earlier session."""
    for part in ("r", "matlab", "spss", "root", "mmdebstrap", "debian-mirror", "docker", "kubernetes"):
        require(part)
    for part in ("docker-registry", "s3"):
        require(part)
    ground = Ground(tmp_path)
    _KEPT.mkdir(parents=True, exist_ok=True)
    ground.home.mkdir()
    (ground.home / "images").symlink_to(_KEPT)
    ground.env["PATH"] = f"{examples_python}:{ground.env['PATH']}"
    ground.env["VIRTUAL_ENV"] = str(examples_python.parent)
    with daemon(tmp_path / "docker", in_memory=True) as engine:
        ground.env["DOCKER_HOST"] = engine.url
        with opened(ground) as made:
            assert made.add("k8s")["ok"]
            yield made


def test_the_trial_makes_the_same_bytes_here_in_docker_and_on_kubernetes(site: Site) -> None:
    begun = {
        on: site.ground.json("run", str(TRIAL), "--on", on, "--fresh", "--detach")["id"]
        for on in ("local", "docker", "k8s")
    }
    digests: dict[str, dict[str, str]] = {}
    engines: dict[str, set[str]] = {}
    for on, run in begun.items():
        site.ground("runs", "wait", run, code=None, patience=1200)
        document = site.ground.json("runs", "show", run)
        assert (document["state"], document["backend"]) == ("succeeded", on), _reasons(document)
        found = site.ground.json("artifacts", "list", run)
        digests[on] = {each["name"]: each["sha256"] for each in found}
        engines[on] = {_engine(task) for task in document["tasks"]}
    assert len(digests["k8s"]) == 13
    assert digests["docker"] == digests["k8s"]
    assert engines["docker"] == engines["k8s"]
    if engines["local"] != engines["docker"]:
        pytest.skip(f"this machine has other engines than the images: {sorted(engines['local'] ^ engines['docker'])}")
    assert digests["local"] == digests["docker"]


def _reasons(run: Any) -> list[Any]:
    return [run["reason"], *(task["reason"] for task in run["tasks"])]


def _engine(task: Any) -> str:
    """Its name with the first two numbers of its version: what comes after mends it, and writes the same."""
    return f"{task['engine']} {'.'.join(task['engine_version'].split('.')[:2])}"


def test_what_is_installed_by_hand_is_what_the_image_has() -> None:
    lines = (TRIAL / "requirements.txt").read_text().splitlines()
    environments = tomllib.loads((TRIAL / "ground.toml").read_text())["environments"]
    assert [line for line in lines if not line.startswith("#")] == environments["python"]["packages"]
