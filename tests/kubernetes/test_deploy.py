"""Groundplane in a cluster: installed from deploy/, used through its Service, and control planes killed meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from groundplane.client import Client
from groundplane.model.documents import Context, RunDocument, RunRequest
from groundplane.model.errors import Denied
from groundplane.model.states import FINAL
from tests import deployed
from tests.deployed import Installed, until
from tests.parts import require

pytestmark = pytest.mark.timeout(1200)

HERE = Context("/", {"PATH": "/usr/local/bin:/usr/bin:/bin"})
ON_CLUSTER = """
[project]
name = "deploytrial"

[environments.sh]
toolchain = "shell"

[pipelines.slow.steps.work]
command = ["sh", "slow.sh", "40"]
environment = "sh"
on = "k8s"
outputs = ["out.txt"]
"""
SLOW = 'echo "begun on $(hostname)"; sleep "$1"; echo ended; echo done > out.txt\n'


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    for part in ("kubernetes", "kubectl", "root", "mmdebstrap", "debian-mirror", "s3"):
        require(part)
    with deployed.installed(tmp_path_factory.mktemp("deploy")) as found:
        project = tmp_path_factory.mktemp("trial")
        (project / "ground.toml").write_text(ON_CLUSTER)
        (project / "slow.sh").write_text(SLOW)
        lock_environments(project)
        found.project = project
        parts = ("records", "blobs", "index.json", "oci-layout", "documents")
        found.put("images", deployed.home() / "images", parts)
        yield found


def lock_environments(project: Path) -> None:
    """Control planes in a cluster cannot build: it is done beside it, and the images are laid onto the volume."""
    environment = {**os.environ, "GROUND_HOME": str(deployed.home()), "GROUND_IDLE": "5"}
    argv = [Path(sys.executable).with_name("ground"), "env", "lock"]
    done = subprocess.run(argv, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_who_has_no_token_is_refused(installed: Installed) -> None:
    assert len(installed.replicas()) == 2
    for token in (None, "wrong"):
        with Client(installed.url, token) as client, pytest.raises(Denied) as refused:
            client.status()
        assert refused.value.code == "no_token"
    with installed.client() as client:
        assert client.status().database.startswith("postgresql")


def test_a_run_in_the_cluster_goes_on_when_its_control_plane_is_killed(installed: Installed) -> None:
    storage = ("--image-registry", deployed.IMAGES, "--storage", "s3://groundplane/stage")
    said = installed.inside("ground", "backends", "add", "k8s", "--driver", "kubernetes", *storage)
    assert said.startswith("k8s: ok"), said
    until(lambda: knows_backend(installed), lambda: "the other control plane does not learn of the backend")
    run = submit(
        installed, RunRequest("slow", str(installed.project), HERE, spec=ON_CLUSTER, pipeline="slow", fresh=True)
    )
    until(lambda: lines(installed, run), lambda: str(show(installed, run)))
    for replica in installed.replicas():  # one after the other, so that the one that follows the run is among them
        installed.kill(replica)
        installed.until_ready()
    ended = wait(installed, run)
    assert ended.state == "succeeded", ended
    assert [line.split(" on ")[0] for line in lines(installed, run)] == ["begun", "ended"]
    assert ended.tasks[0].attempts == 1
    jobs = ("get", "jobs", "--all-namespaces", "-l", f"groundplane.io/run={run}", "-o", "name")
    until(lambda: not installed.cluster(*jobs), lambda: installed.cluster(*jobs))


def test_no_work_runs_beside_a_control_plane(installed: Installed) -> None:
    request = RunRequest(
        "slow.sh", str(installed.project), HERE, script="slow.sh", arguments=("1",), backend="local", fresh=True
    )
    with pytest.raises(Denied) as refused:
        submit(installed, request)
    assert refused.value.code == "cannot_confine"


def knows_backend(installed: Installed) -> bool:
    """Whether all control planes do, whichever the Service takes."""
    for _ in range(8):
        with installed.client() as client:
            if "k8s" not in {backend.name for backend in client.backends()}:
                return False
    return True


def submit(installed: Installed, request: RunRequest) -> str:
    with installed.client() as client:
        return client.submit(request).id


def show(installed: Installed, run: str) -> RunDocument:
    with installed.client() as client:
        return client.run(run)


def wait(installed: Installed, run: str) -> RunDocument:
    until(lambda: show(installed, run).state in FINAL, lambda: str(show(installed, run)), 180)
    return show(installed, run)


def lines(installed: Installed, run: str) -> list[str]:
    with installed.client() as client:
        return [line.text for line in client.logs(run)]
