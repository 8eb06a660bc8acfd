"""A Kubernetes cluster that is there, a registry and a storage that its pods reach, and a home that knows all three.

The cluster is the one that KUBECONFIG or ~/.kube/config names. GROUND_TEST_HOST: this machine's address for its pods.
GROUND_TEST_REGISTRY: `[http://]HOST[:PORT]` that its nodes pull from; where nothing answers, Debian's registry is
started there, over a folder that stays, so that a version's staging image is built once and not by every session.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from groundplane.blobs.s3 import S3
from groundplane.client import kubeconfig
from groundplane.drivers.kubernetes_api import Cluster, Refused
from groundplane.drivers.kubernetes_objects import DOMAIN, MINE
from groundplane.spi.agent import agent_id
from groundplane.spi.blobs import BlobStore, open_store
from tests import docker_engine, s3_server
from tests.docker_drill import tiny_image
from tests.e2e.cli_ground import Ground, until

HOST = os.environ.get("GROUND_TEST_HOST", "10.200.0.1")
REGISTRY = os.environ.get("GROUND_TEST_REGISTRY", f"http://{HOST}:5000")
_KEPT = Path("~/.cache/ground-tests/registry").expanduser()
_BUCKET = "ground"


class Api:
    """The cluster as an administrator sees it, call by call. Raises what `Cluster` does."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        try:
            self._cluster = Cluster(kubeconfig.read(None, ""))
        except BaseException:
            self._loop.close()
            raise
        self.server = self._cluster.server

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run_until_complete(self._cluster.close())
        self._loop.close()

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            return "gitVersion" in self.ask("GET", "/version")
        except Refused:
            return False

    def has_kueue(self) -> bool:
        """Whether Kueue is installed."""
        try:
            return bool(self.ask("GET", "/apis/kueue.x-k8s.io/v1beta2"))
        except Refused:
            return False

    def ask(self, method: str, path: str, body: Any = None, **query: str) -> dict[str, Any]:
        return self._loop.run_until_complete(self._cluster.ask(method, path, query=query, body=body))

    def get(self, kind: str, name: str, namespace: str = "") -> dict[str, Any] | None:
        return self._loop.run_until_complete(self._cluster.get(kind, name, namespace))

    def listing(self, kind: str, namespace: str = "", **labels: str) -> list[dict[str, Any]]:
        """labels: without their domain, `_` for `-`."""
        chosen = ",".join(f"{DOMAIN}/{name.replace('_', '-')}={value}" for name, value in labels.items())
        return self._loop.run_until_complete(self._cluster.listing(kind, namespace, chosen))["items"]

    def create(self, body: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any] | None:
        return self._loop.run_until_complete(self._cluster.create(body, dry_run=dry_run))

    def patch(self, kind: str, name: str, namespace: str, change: Mapping[str, Any]) -> None:
        self._loop.run_until_complete(self._cluster.patch(kind, name, namespace, change))

    def delete(self, kind: str, name: str, namespace: str = "", grace: float | None = None) -> bool:
        return self._loop.run_until_complete(self._cluster.delete(kind, name, namespace, grace))


class Site:
    """What a test has. ground: the command line; its home has an image of this machine's shell, and the backend `k8s`.
    project: a name that nobody else uses; its namespace goes in the end."""

    def __init__(self, api: Api, ground: Ground, storage: s3_server.Server) -> None:
        self.api = api
        self.ground = ground
        self.s3 = storage
        self.project = f"kt{uuid.uuid4().hex[:8]}"
        self.namespace = f"ground-{self.project}"
        self.registry = REGISTRY
        self.storage = f"s3://{_BUCKET}/{self.project}"

    @property
    def control_plane(self) -> str:
        return agent_id(self.ground.home)

    def add(self, name: str, *words: str, code: int = 0, registry: str = "", storage: str = "", **env: str) -> Any:
        """`ground backends add`; its document."""
        done = self.ground(
            "backends", "add", name, "--driver", "kubernetes", "--image-registry", registry or self.registry,
            "--storage", storage or self.storage, *words, "--json", code=code, **env,
        )  # fmt: skip
        return json.loads(done.stdout) if code == 0 else done

    def mine(self, kind: str, namespace: str = "") -> list[dict[str, Any]]:
        """Objects of this home's control plane."""
        return self.api.listing(kind, namespace, control_plane=self.control_plane)

    def store(self) -> BlobStore:
        """What the backend's storage has."""
        found = open_store(self.storage, self.s3.variables)
        assert isinstance(found, S3)
        return found

    def make_namespace(self, labels: Mapping[str, str] | None = None) -> str:
        """An empty one, deleted in the end."""
        name = f"{self.project}-{uuid.uuid4().hex[:6]}"
        self.api.create(
            {
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": name, "labels": {MINE: self.control_plane, **(labels or {})}},
            }
        )  # fmt: skip
        return name

    def close(self) -> None:
        """Nothing of it is left."""
        mine = self.control_plane
        self.ground.close()
        for found in self.api.listing("Namespace", control_plane=mine):
            self.api.delete("Namespace", found["metadata"]["name"])


@contextmanager
def servers() -> Iterator[s3_server.Server]:
    """Registry and storage run while the block does."""
    with ExitStack() as stack:
        if not docker_engine.responds(f"{REGISTRY}/v2/"):
            host, _, port = REGISTRY.removeprefix("http://").partition(":")
            stack.enter_context(docker_engine.registry(_KEPT, host=host, port=int(port)))
        storage = stack.enter_context(s3_server.server(HOST))
        storage.make_bucket(_BUCKET)
        yield storage


@contextmanager
def opened(ground: Ground) -> Iterator[Site]:
    """A home that has what the cluster asks of it, and no backend yet; it is closed in the end."""
    with Api() as api, servers() as storage:
        plain = REGISTRY.removeprefix("http://") if REGISTRY.startswith("http://") else ""
        ground.env |= {"GROUND_INSECURE_REGISTRIES": plain, **storage.variables}
        made = Site(api, ground, storage)
        tiny_image(ground.home)
        try:
            yield made
        finally:
            made.close()


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    """A home below `folder` whose backend `k8s` is the cluster."""
    with opened(Ground(folder)) as made:
        assert made.add("k8s")["ok"], made.ground("backends", "check", "k8s", code=None).stdout
        yield made


def eventually(holds: Callable[[], Any]) -> Any:
    """What `holds` gives, once it gives something."""
    return until(holds, "it did not come to be so", seconds=60)
