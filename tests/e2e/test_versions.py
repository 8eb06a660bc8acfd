"""The example of versions, as somebody has it who tries it first: eight engines side by side, built and run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli_ground import Ground
from tests.parts import require

EXAMPLE = Path(__file__).parents[2] / "examples" / "versions"
TOLD = {
    "r42": ("R 4.2", "4.2."), "r45": ("R 4.5", "4.5."),
    "python311": ("Python 3.11", "3.11."), "python313": ("Python 3.13", "3.13."),
    "octave7": ("Octave 7", "7."), "octave9": ("Octave 9", "9."),
    "pspp16": ("pspp 1.6", "1.6."), "pspp20": ("pspp 2.0", "2.0."),
}  # fmt: skip


@pytest.fixture
def ground(tmp_path: Path, docker_engine: str) -> Iterator[Ground]:
    for part in ("mmdebstrap", "debian-mirror"):
        require(part)
    made = Ground(tmp_path, DOCKER_HOST=docker_engine)
    yield made
    made.close()


@pytest.mark.timeout(1500)
def test_eight_versions_run_side_by_side(ground: Ground) -> None:
    shutil.copytree(EXAMPLE, ground.work / "versions")
    run = ground.json("run", "versions", patience=1400)
    assert run["state"] == "succeeded"
    tasks = {task["name"]: task for task in run["tasks"]}
    said: dict[str, str] = {}
    for line in map(json.loads, ground("runs", "logs", "latest", "--json").stdout.splitlines()):
        said[line["task"]] = said.get(line["task"], "") + line["text"]
    for name, (told, version) in TOLD.items():
        assert told in said[name], name
        assert tasks[name]["engine_version"].startswith(version), name
        assert tasks[name]["backend"] == "docker"
    again = ground.json("run", "versions")
    assert again["state"] == "succeeded"
    images = ground.json("images", "list")
    bases = {image["name"]: image["shared_bytes"] for image in images}
    assert len(bases) == len(TOLD) and all(bases.values()), "two environments on one suite share its base"
