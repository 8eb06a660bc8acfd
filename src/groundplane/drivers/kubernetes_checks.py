"""Whether a cluster can take work: what is missing, a line each."""

from __future__ import annotations

import asyncio
from typing import Any

from groundplane.drivers.kubernetes_api import Cluster, Refused
from groundplane.drivers.kubernetes_backend import Backend
from groundplane.drivers.kubernetes_capacity import largest
from groundplane.model.errors import GroundError
from groundplane.oci import registry
from groundplane.spi.blobs import BlobStore
from groundplane.spi.driver import Health

_NEEDED = (
    ("batch", "jobs", ("create", "get", "list", "delete")),
    ("", "pods", ("get", "list", "watch", "delete")),
    ("", "pods/log", ("get",)),
    ("", "secrets", ("create", "patch", "list", "delete")),
    ("", "services", ("create", "patch", "list", "delete")),
    ("", "events", ("list",)),
)
_NEEDED_FOR_NAMESPACES = (
    ("", "namespaces", ("create", "get", "list")),
    ("networking.k8s.io", "networkpolicies", ("create", "patch", "list", "delete")),
)
_NEEDED_FOR_QUEUES = (
    ("kueue.x-k8s.io", "localqueues", ("create", "get")),
    ("kueue.x-k8s.io", "workloads", ("list",)),
)
_ENFORCERS = (
    "calico", "canal", "cilium", "antrea", "weave", "kube-router", "ovn", "kube-network-policies", "azure-npm",
)  # fmt: skip


async def check(cluster: Cluster, backend: Backend, store: BlobStore) -> Health:
    """What a look at the cluster, its registry and its storage finds. Raises Unavailable when it does not answer."""
    version = (await cluster.ask("GET", "/version")).get("gitVersion", "?")
    looks = await asyncio.gather(
        _permissions(cluster, backend),
        _namespace(cluster, backend),
        _queue(cluster, backend),
        _runtime(cluster, backend),
        _priority(cluster, backend),
        _account(cluster, backend),
        asyncio.to_thread(_registry, backend),
        asyncio.to_thread(_storage, store),
    )
    missing = [line for look in looks for line in look]
    nodes, daemons = await asyncio.gather(_listed(cluster, "Node"), _listed(cluster, "DaemonSet"))
    room = largest(nodes or (), daemons or (), backend.placing.priority)
    facts = {
        "cluster": f"Kubernetes {version} at {cluster.server}",
        "network": _enforced(daemons),
        "requests": f"{cluster.requests} since this control plane began",
        **(await _quotas(cluster, backend)),
        **{f"missing {number}": line for number, line in enumerate(missing, 1)},
    }
    return Health(
        ok=not missing,
        message="ready" if not missing else missing[0],
        hint="" if len(missing) < 2 else f"and {len(missing) - 1} more: ground backends check",
        cpus=room.cpus,
        memory=room.memory,
        gpus=room.gpus,
        facts=facts,
    )


async def _permissions(cluster: Cluster, backend: Backend) -> list[str]:
    wanted: list[tuple[str, str, tuple[str, ...]]] = list(_NEEDED)
    if not backend.namespace:
        wanted += _NEEDED_FOR_NAMESPACES
    if backend.placing.queue:
        wanted += _NEEDED_FOR_QUEUES
    asked = [(group, resource, verb) for group, resource, verbs in wanted for verb in verbs]
    allowed = await asyncio.gather(*(_may(cluster, backend, *each) for each in asked))
    refused: dict[str, list[str]] = {}
    for (_, resource, verb), may in zip(asked, allowed, strict=True):
        if not may:
            refused.setdefault(resource, []).append(verb)
    where = f"in namespace {backend.namespace}" if backend.namespace else "in all namespaces"
    return [f"permission: may not {', '.join(verbs)} {what} {where}" for what, verbs in refused.items()]


async def _may(cluster: Cluster, backend: Backend, group: str, resource: str, verb: str) -> bool:
    name, _, sub = resource.partition("/")
    asked = {"namespace": backend.namespace, "verb": verb, "group": group, "resource": name, "subresource": sub}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "metadata": {},
        "spec": {"resourceAttributes": asked},
    }
    found = await cluster.create(body)
    return bool((found or {}).get("status", {}).get("allowed"))


async def _namespace(cluster: Cluster, backend: Backend) -> list[str]:
    if not backend.namespace:
        return []
    try:
        found = await cluster.get("Namespace", backend.namespace)
    except Refused:  # it may not be asked for; what needs it will tell
        return []
    return [] if found else [f"namespace: there is no {backend.namespace}"]


async def _queue(cluster: Cluster, backend: Backend) -> list[str]:
    queue = backend.placing.queue
    if not queue:
        return []
    try:
        if backend.namespace:
            found = await cluster.get("LocalQueue", queue, backend.namespace)
            return [] if found else [f"queue: there is no LocalQueue {queue} in namespace {backend.namespace}"]
        found = await cluster.get("ClusterQueue", queue)
        return [] if found else [f"queue: there is no ClusterQueue {queue}"]
    except Refused as refused:
        return [f"queue: {refused.message}"]


async def _runtime(cluster: Cluster, backend: Backend) -> list[str]:
    name = backend.placing.runtime
    if not name:
        return []
    try:
        return [] if await cluster.get("RuntimeClass", name) else [f"runtime class: there is no {name}"]
    except Refused as refused:
        return [f"runtime class: {refused.message}"]


async def _priority(cluster: Cluster, backend: Backend) -> list[str]:
    name = backend.placing.priority
    try:
        found = not name or await cluster.get("PriorityClass", name)
    except Refused:  # it may not be asked for; a task that waits will tell
        return []
    return [] if found else [f"priority class: there is no {name}"]


async def _account(cluster: Cluster, backend: Backend) -> list[str]:
    """Without a namespace for all projects it must be in those that use this backend, which nobody knows before."""
    name, namespace = backend.placing.account, backend.namespace
    if not name:
        return []
    try:
        found = (await cluster.listing("ServiceAccount", namespace, fields=f"metadata.name={name}"))["items"]
    except Refused:  # it may not be asked for; a task that waits will tell
        return []
    where = f"namespace {namespace}" if namespace else "any namespace"
    return [] if found else [f"service account: there is no {name} in {where}"]


def _registry(backend: Backend) -> list[str]:
    try:
        registry.ping(backend.registry.partition("/")[0], plain=backend.plain)
    except GroundError as error:
        return [f"registry: {error.message}"]
    return []


def _storage(store: BlobStore) -> list[str]:
    try:
        store.check()
    except GroundError as error:
        return [f"storage: {error.message}"]
    return []


async def _listed(cluster: Cluster, kind: str) -> list[dict[str, Any]] | None:
    """All of a kind; None where they may not be listed."""
    try:
        return (await cluster.listing(kind))["items"]
    except Refused:
        return None


async def _quotas(cluster: Cluster, backend: Backend) -> dict[str, str]:
    if not backend.namespace:
        return {}
    try:
        found = await cluster.listing("ResourceQuota", backend.namespace)
    except Refused:
        return {}
    told: dict[str, str] = {}
    for quota in found["items"]:
        hard, used = quota.get("status", {}).get("hard", {}), quota.get("status", {}).get("used", {})
        name = f"quota {quota['metadata']['name']}"
        told[name] = ", ".join(f"{what}: {used.get(what, '0')} of {limit}" for what, limit in sorted(hard.items()))
    return told


def _enforced(daemons: list[dict[str, Any]] | None) -> str:
    """NetworkPolicies are accepted by every cluster, and ignored by one without a network that knows them."""
    if daemons is None:
        return "whether NetworkPolicies are enforced cannot be seen: DaemonSets may not be listed"
    names = sorted({item["metadata"]["name"] for item in daemons})
    known = next((name for name in names if any(each in name for each in _ENFORCERS)), "")
    if known:
        return f"NetworkPolicies are enforced by {known}"
    return "NOT ENFORCED: nothing here is known to enforce NetworkPolicies; tasks reach what their node reaches"
