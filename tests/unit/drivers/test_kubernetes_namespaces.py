"""What is made in a project's namespace, and when: by a run there, and by nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from groundplane.drivers import kubernetes_objects as objects
from groundplane.drivers.kubernetes import KubernetesDriver
from groundplane.spi.launch import Command, Launch

OPTIONS = {
    "image_registry": "http://registry.example:5000/team", "storage": "s3://bucket/work", "queue": "cq",
    "kubeconfig": '{"apiVersion": "v1"}', "variables": json.dumps({"AWS_ENDPOINT_URL": "http://10.0.0.1:9000"}),
}  # fmt: skip


class Cluster:
    """Played: it has these namespaces of ours, and notes what it is told to make."""

    def __init__(self, *namespaces: str) -> None:
        self.namespaces = namespaces
        self.made: list[Mapping[str, Any]] = []

    async def get(self, kind: str, name: str, namespace: str = "") -> dict[str, Any] | None:
        return {} if kind == "Namespace" and name in self.namespaces else None

    async def listing(self, kind: str, namespace: str = "", labels: str = "", fields: str = "") -> dict[str, Any]:
        return {"items": [{"metadata": {"name": name}} for name in self.namespaces]}

    async def create(self, body: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any] | None:
        self.made.append(body)
        return dict(body)


class Following:
    """Played: it notes what it is to watch."""

    def __init__(self) -> None:
        self.watched: list[str] = []

    async def watch(self, namespace: str) -> None:
        self.watched.append(namespace)


def driver(home: Path, cluster: Cluster, following: Following, **options: str) -> KubernetesDriver:
    made: Any = KubernetesDriver.configured(home, "k8s", {**OPTIONS, **options})
    made._cluster, made._following, made._endpoint = cluster, following, "http://10.0.0.1:9000"
    return made


def test_a_survey_makes_nothing(tmp_path: Path) -> None:
    """Namespaces of this control plane may be those of other backends, with other queues."""
    cluster, following = Cluster("ground-one", "ground-two"), Following()
    asyncio.run(driver(tmp_path, cluster, following)._survey())
    assert following.watched == ["ground-one", "ground-two"]
    assert cluster.made == []
    fixed = Following()
    asyncio.run(driver(tmp_path, cluster, fixed, namespace="theirs")._survey())
    assert (fixed.watched, cluster.made) == (["theirs"], [])


def test_a_run_makes_what_its_project_needs_once(tmp_path: Path) -> None:
    cluster, following = Cluster(), Following()
    launch = Launch("run.0.0.1", 1, "run", "fit", "", Command(("true",)), {}, project="trial", team="research")

    async def twice() -> None:
        one = driver(tmp_path, cluster, following)
        for _ in range(2):
            await one._ensure("ground-trial", launch)

    asyncio.run(twice())
    assert [each["kind"] for each in cluster.made] == ["Namespace", "NetworkPolicy", "NetworkPolicy", "LocalQueue"]
    for each in cluster.made:
        labels = each["metadata"]["labels"]
        assert labels[f"{objects.DOMAIN}/project"] == "trial"
        assert labels[f"{objects.DOMAIN}/team"] == "research"
    assert following.watched == ["ground-trial"]
