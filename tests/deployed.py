"""Groundplane in a cluster of one node, as deploy/overlays/test installs it.

GROUND_TEST_REGISTRY: `[http://]HOST[:PORT]` that the cluster's nodes pull from. What is built stays for the next
session.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from groundplane.client import Client
from tests import docker_engine

REGISTRY = os.environ.get("GROUND_TEST_REGISTRY", "http://10.200.0.1:5000")
IMAGES = f"{REGISTRY}/deploy-test"
NAMESPACE, KEEPER, PROJECT = "groundplane-system", "groundplane-test-volume", "ground-deploytrial"
_ROOT = Path(__file__).parents[1]
_KEPT = Path("~/.cache/ground-tests").expanduser()
_VOLUME = "/host/groundplane-test"
_PATIENCE = 120.0


class Cluster:
    """The one that KUBECONFIG names, by kubectl."""

    def __call__(
        self, *words: str, namespace: str = NAMESPACE, given: bytes | None = None, code: int | None = 0
    ) -> str:
        argv = ["kubectl", "--namespace", namespace, *words]
        done = subprocess.run(argv, input=given, capture_output=True, timeout=_PATIENCE * 2, check=False)
        assert code is None or done.returncode == code, (words, done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout.decode(errors="replace")

    def json(self, *words: str, namespace: str = NAMESPACE) -> Any:
        return json.loads(self(*words, "-o", "json", namespace=namespace))


class Installed:
    """It runs, and this is who uses it. project: a folder beside it, to be run there."""

    def __init__(self, cluster: Cluster, token: str) -> None:
        self.cluster = cluster
        self.project = Path()
        service = cluster.json("get", "service", "control-plane")
        self.url = f"http://{service['spec']['clusterIP']}"
        self.token = token

    def client(self) -> Client:
        return Client(self.url, self.token)

    def replicas(self) -> list[str]:
        """The names of the pods of control planes that are ready."""
        pods = self.cluster.json("get", "pods", "-l", "app.kubernetes.io/name=control-plane")["items"]
        return [
            pod["metadata"]["name"]
            for pod in pods
            if "deletionTimestamp" not in pod["metadata"]
            and any(
                each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", ())
            )
        ]

    def until_ready(self) -> None:
        until(
            lambda: len(self.replicas()) == 2, lambda: self.cluster("describe", "pods", "-l", "app.kubernetes.io/name")
        )

    def kill(self, replica: str) -> None:
        """At once, as when its node is gone."""
        self.cluster("delete", "pod", replica, "--grace-period=0", "--force")

    def inside(self, *words: str) -> str:
        """What a command says in a control plane's pod."""
        return self.cluster("exec", "deploy/control-plane", "--", *words)

    def put(self, name: str, folder: Path, only: Sequence[str] = (".",)) -> None:
        """Files onto the volume, below a folder of it, as the control planes' own."""
        put(self.cluster, name, folder, only)


def until(holds: Callable[[], Any], said: Callable[[], str], patience: float = _PATIENCE) -> Any:
    """What `holds` gives, once it gives something."""
    deadline = time.monotonic() + patience
    while not (found := holds()):
        assert time.monotonic() < deadline, said()
        time.sleep(0.3)
    return found


def put(cluster: Cluster, name: str, folder: Path, only: Sequence[str] = (".",)) -> None:
    packed = io.BytesIO()

    def own(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 1000
        member.uname = member.gname = ""
        return member

    with tarfile.open(fileobj=packed, mode="w") as tar:
        for each in only:
            tar.add(folder / each, each, filter=own)
    target = f"{_VOLUME}/{name}"
    command = f"mkdir -p {target} && chown 1000:1000 {target} && tar -x --same-owner -C {target}"
    cluster("exec", "-i", "keeper", "--", "sh", "-c", command, namespace=KEEPER, given=packed.getvalue())


@contextmanager
def installed(folder: Path) -> Iterator[Installed]:
    """Builds and pushes the images, and installs; all of it is gone afterwards, but for the images."""
    cluster = Cluster()
    with ExitStack() as stack:
        if not docker_engine.responds(f"{REGISTRY}/v2/"):
            host, _, port = REGISTRY.removeprefix("http://").partition(":")
            stack.enter_context(docker_engine.registry(_KEPT / "registry", host=host, port=int(port)))
        deploy = folder / "deploy"
        shutil.copytree(_ROOT / "deploy", deploy, ignore=shutil.ignore_patterns("secrets", "images"))
        overlay = deploy / "overlays" / "test"
        tool = [sys.executable, _ROOT / "tools" / "deploy_images.py", "--registry", IMAGES, "-o", overlay / "images"]
        done = subprocess.run(tool, env={**os.environ, "GROUND_HOME": str(home())}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        names = dict(line.split() for line in done.stdout.splitlines())
        subprocess.run([deploy / "make-secrets", overlay / "secrets"], check=True)
        stack.callback(_removed, cluster)
        _keep_volume(cluster, names["postgres"])
        manifests = cluster("kustomize", str(overlay)).encode()
        cluster("apply", "-f", "-", given=manifests)
        found = Installed(cluster, (overlay / "secrets" / "token").read_text())
        found.until_ready()
        yield found


def home() -> Path:
    """Where images are built."""
    return _KEPT / "deploy"


def _keep_volume(cluster: Cluster, image: str) -> None:
    """A pod that makes the folder of the node which pods of control planes may only use."""
    mount = {"name": "host", "mountPath": "/host"}
    container = {"name": "keeper", "image": image, "command": ["sleep", "infinity"], "volumeMounts": [mount]}
    spec = {
        "containers": [container],
        "securityContext": {"runAsUser": 0, "runAsGroup": 0},
        "terminationGracePeriodSeconds": 0,
        "volumes": [{"name": "host", "hostPath": {"path": "/var/tmp"}}],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "keeper"}, "spec": spec}
    cluster("create", "namespace", KEEPER)
    until(lambda: cluster("get", "serviceaccount", "default", namespace=KEEPER, code=None), lambda: "no account")
    cluster("apply", "-f", "-", namespace=KEEPER, given=json.dumps(pod).encode())
    cluster("wait", "pod/keeper", "--for=condition=Ready", "--timeout=120s", namespace=KEEPER)
    command = f"mkdir -p {_VOLUME} && chown 1000:1000 {_VOLUME}"
    cluster("exec", "keeper", "--", "sh", "-c", command, namespace=KEEPER)


def _removed(cluster: Cluster) -> None:
    """Nothing is left in the cluster and on its node."""
    roles = ("clusterrole/groundplane-control-plane", "clusterrolebinding/groundplane-control-plane")
    cluster(
        "delete",
        f"namespace/{NAMESPACE}",
        f"namespace/{PROJECT}",
        *roles,
        "--ignore-not-found",
        "--timeout=120s",
        code=None,
    )
    cluster("delete", "persistentvolume/groundplane-test", "--ignore-not-found", "--timeout=60s", code=None)
    cluster("exec", "keeper", "--", "rm", "-rf", _VOLUME, namespace=KEEPER, code=None)
    cluster("delete", f"namespace/{KEEPER}", "--ignore-not-found", "--timeout=120s")
    assert NAMESPACE not in cluster("get", "namespaces", "-o", "name")
