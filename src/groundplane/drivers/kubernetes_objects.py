"""What a task is on Kubernetes: a Job of one pod or one a node, its Secret, and what its namespace has. Pure."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from groundplane.model.resources import Resources
from groundplane.spi.pod import MAIN, STOP, agent

BASE = "/ground"
"""The folder that the pod's containers share."""
ORDER = "/order/order.json"
WORK, STAGE = "work", "stage"
DOMAIN = "groundplane.io"
ATTEMPT, RUN, TASK, MINE = (f"{DOMAIN}/{name}" for name in ("attempt", "run", "task", "control-plane"))
EPOCH, NODES, LOST = (f"{DOMAIN}/{name}" for name in ("epoch", "nodes", "lost"))
INDEX = "batch.kubernetes.io/job-completion-index"
_NETWORK = f"{DOMAIN}/network"
_QUEUE = "kueue.x-k8s.io/queue-name"
_KUEUE = "kueue.x-k8s.io/v1beta2"
_USER = 1000
_LONGEST = 63
_LONGEST_NAME = _LONGEST - 6
"""Of a Job: a pod's host is called by it and its number."""
_KEPT = 3600
"""Seconds that an ended Job stays, should nobody come to clean it up."""
_LAST_WORDS = 30
"""Seconds beyond a task's own grace in which its outputs are stored when it is stopped."""
_LEAST = {"cpu": "100m", "memory": "64Mi"}
"""What a task asks for that says nothing of it: the scheduler must know something."""
BESIDE = {"cpu": "10m", "memory": "48Mi"}
"""What the staging container asks for, of the same node as the work."""


@dataclass(frozen=True, slots=True)
class Placing:
    """What a backend says of all of its pods. selector: labels that their node must have."""

    queue: str = ""
    priority: str = ""
    account: str = ""
    runtime: str = ""
    selector: Mapping[str, str] = field(default_factory=dict[str, str])
    tolerations: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """One attempt as the cluster is told of it. image, staging: references. grace: seconds from SIGTERM to SIGKILL.
    lost: input -> what its conversion lost."""

    attempt: str
    run: str
    task: str
    project: str
    team: str
    epoch: int
    control_plane: str
    namespace: str
    image: str
    staging: str
    resources: Resources
    network: bool
    grace: float
    lost: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])

    @property
    def nodes(self) -> int:
        return self.resources.nodes or 1


def name_of(attempt: str) -> str:
    """What an attempt's Job and Secret are called."""
    name = re.sub(r"[^a-z0-9]+", "-", f"ground-{attempt}".lower()).strip("-")
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 9]}-{_short(attempt)}"


def master_of(attempt: str) -> str:
    """The first node's host, as the other pods of the attempt call it."""
    return f"{name_of(attempt)}-0.{name_of(attempt)}"


def namespace_of(project: str) -> str:
    """The namespace of a project where the backend names none."""
    name = re.sub(r"[^a-z0-9]+", "-", project.lower()).strip("-") or _short(project)
    same = name == project and len(name) <= _LONGEST - 7
    return f"ground-{name}" if same else f"ground-{name[: _LONGEST - 16].rstrip('-')}-{_short(project)}"


def label(text: str) -> str:
    """A value of a label that tells the text as well as labels may."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-_.")
    if plain == text and len(text) <= _LONGEST:
        return plain
    return f"{plain[: _LONGEST - 9].rstrip('-_.')}-{_short(text)}".lstrip("-")


def notes_of(found: Mapping[str, Any]) -> dict[str, str]:
    """What an object notes of its attempt."""
    return dict(found["metadata"].get("annotations") or {})


def memory_of(pod: Mapping[str, Any]) -> int | None:
    """The work's limit in bytes; None when it has none."""
    limits: dict[str, Any] = pod["spec"]["containers"][0].get("resources", {}).get("limits") or {}
    text = str(limits.get("memory", ""))
    return int(text) if text.isdigit() else None


def labels_of(task: Task) -> dict[str, str]:
    """What every object of the task carries."""
    return {
        **labels_in(task.project, task.team, task.control_plane),
        RUN: label(task.run),
        TASK: label(task.task),
        ATTEMPT: label(task.attempt),
    }


def labels_in(project: str, team: str, control_plane: str) -> dict[str, str]:
    """What a project's namespace carries, and what lies there for all of its tasks."""
    return {f"{DOMAIN}/team": label(team), f"{DOMAIN}/project": label(project), MINE: control_plane}


def secret(task: Task, order: str) -> dict[str, Any]:
    """What the staging container is told: it holds signed URLs and the task's variables."""
    return {**_head(task, "v1", "Secret"), "type": "Opaque", "stringData": {ORDER.rpartition("/")[2]: order}}


def meeting(task: Task, policed: bool) -> list[dict[str, Any]]:
    """What pods of one attempt need to talk to each other: names, and leave to do so where we have `policed` it."""
    mine = {ATTEMPT: label(task.attempt)}
    service = _head(task, "v1", "Service")
    service["spec"] = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": mine}
    if not policed:
        return [service]
    policy = _head(task, "networking.k8s.io/v1", "NetworkPolicy")
    each_other = [{"podSelector": {"matchLabels": mine}}]
    policy["spec"] = {
        "podSelector": {"matchLabels": mine},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": each_other}],
        "egress": [{"to": each_other}],
    }
    return [service, policy]


def owned(job_uid: str, task: Task) -> dict[str, Any]:
    """A change that lets an object go with its Job."""
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name_of(task.attempt), "uid": job_uid}
    return {"metadata": {"ownerReferences": [owner]}}


def job(task: Task, placing: Placing) -> dict[str, Any]:
    """The task's Job. A pod has two containers of one user that see each other's processes: the work, and before it
    the staging one, which stays beside it (a native sidecar). There is a numbered pod for each node."""
    body = _head(task, "batch/v1", "Job")
    if placing.queue:
        body["metadata"]["labels"][_QUEUE] = placing.queue
    labels = {**labels_of(task), **({_NETWORK: "true"} if task.network else {})}
    body["spec"] = {
        "backoffLimit": 0,
        **({"completionMode": "Indexed"} if task.nodes > 1 else {}),
        "completions": task.nodes,
        "parallelism": task.nodes,
        "ttlSecondsAfterFinished": _KEPT,
        "suspend": bool(placing.queue),
        "template": {
            "metadata": {"labels": labels, "annotations": body["metadata"]["annotations"]},
            "spec": _pod(task, placing),
        },
    }
    return body


def namespace(name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """A namespace of ours: it takes nothing but restricted pods."""
    labels = {
        **labels,
        "app.kubernetes.io/managed-by": "groundplane",
        "pod-security.kubernetes.io/enforce": "restricted",
    }
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def network_policies(name: str, labels: Mapping[str, str], storage: str) -> list[dict[str, Any]]:
    """Nothing comes in; out go names and staging, and all of it for tasks with `network = true`. storage: its URL."""
    found = urlsplit(storage)
    port = found.port or (80 if found.scheme == "http" else 443)
    reach: dict[str, Any] = {"ports": [{"port": port, "protocol": "TCP"}]}
    try:
        address = ipaddress.ip_address(found.hostname or "")
        reach["to"] = [{"ipBlock": {"cidr": f"{address}/{address.max_prefixlen}"}}]
    except ValueError:
        pass  # a name: policies know addresses alone, so its port is open
    names = {"ports": [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]}
    wide = {"matchLabels": {_NETWORK: "true"}}
    return [
        _policy(name, labels, "ground-default", {}, [names, reach], ["Ingress", "Egress"]),
        _policy(name, labels, "ground-network", wide, [{}], ["Egress"]),
    ]


def local_queue(name: str, labels: Mapping[str, str], queue: str) -> dict[str, Any]:
    """A LocalQueue for the ClusterQueue of that name."""
    return {
        "apiVersion": _KUEUE,
        "kind": "LocalQueue",
        "metadata": {"name": queue, "namespace": name, "labels": dict(labels)},
        "spec": {"clusterQueue": queue},
    }


def _policy(
    namespace: str, labels: Mapping[str, str], name: str, pods: Mapping[str, Any], egress: list[Any], types: list[str]
) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        "spec": {"podSelector": dict(pods), "policyTypes": types, "egress": egress},
    }


def _head(task: Task, version: str, kind: str) -> dict[str, Any]:
    notes = {ATTEMPT: task.attempt, RUN: task.run, TASK: task.task, EPOCH: str(task.epoch)}
    if task.nodes > 1:
        notes[NODES] = str(task.nodes)
    if task.lost:
        notes[LOST] = json.dumps(task.lost)
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {
            "name": name_of(task.attempt),
            "namespace": task.namespace,
            "labels": labels_of(task),
            "annotations": notes,
        },
    }


def _pod(task: Task, placing: Placing) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "shareProcessNamespace": True,
        "terminationGracePeriodSeconds": round(task.grace) + _LAST_WORDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": [_staging(task)],
        "containers": [_work(task)],
        "volumes": [
            {"name": "ground", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
            {"name": "order", "secret": {"secretName": name_of(task.attempt), "defaultMode": 0o440}},
        ],
    }
    if task.nodes > 1:
        spec["subdomain"] = name_of(task.attempt)
    if placing.account:
        spec["serviceAccountName"] = placing.account
    if placing.priority:
        spec["priorityClassName"] = placing.priority
    if placing.runtime:
        spec["runtimeClassName"] = placing.runtime
    if placing.selector:
        spec["nodeSelector"] = dict(placing.selector)
    tolerated = [_toleration(text) for text in placing.tolerations]
    if task.resources.gpus:
        tolerated.append({"key": "nvidia.com/gpu", "operator": "Exists"})
    if tolerated:
        spec["tolerations"] = tolerated
    return spec


_LOCKED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def _staging(task: Task) -> dict[str, Any]:
    return {
        "name": STAGE,
        "image": task.staging,
        "restartPolicy": "Always",
        "command": list(agent(BASE, ORDER)),
        "securityContext": _LOCKED,
        "resources": {"requests": dict(BESIDE), "limits": {"memory": "512Mi"}},
        "volumeMounts": [
            {"name": "ground", "mountPath": BASE},
            {"name": "order", "mountPath": ORDER.rpartition("/")[0], "readOnly": True},
        ],
    }


def _work(task: Task) -> dict[str, Any]:
    return {
        "name": WORK,
        "image": task.image,
        "command": [*MAIN, BASE],
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108
        "workingDir": BASE,
        "securityContext": _LOCKED,
        "resources": _resources(task.resources),
        "lifecycle": {"preStop": {"exec": {"command": [*STOP, BASE]}}},
        "volumeMounts": [
            {"name": "ground", "mountPath": BASE},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
        ],
    }


def _resources(wanted: Resources) -> dict[str, Any]:
    limits: dict[str, str] = {}
    if wanted.cpus:
        limits["cpu"] = f"{max(1, round(wanted.cpus * 1000))}m"
    if wanted.memory:
        limits["memory"] = str(wanted.memory)
    asked = {**_LEAST, **limits}
    if wanted.gpus:
        limits["nvidia.com/gpu"] = str(wanted.gpus)
    return {"requests": asked, "limits": limits}


def _toleration(text: str) -> dict[str, str]:
    """KEY[=VALUE][:EFFECT] as the cluster takes it."""
    rest, _, effect = text.partition(":")
    key, equals, value = rest.partition("=")
    found = {"key": key, "operator": "Equal", "value": value} if equals else {"key": key, "operator": "Exists"}
    return {**found, "effect": effect} if effect else found


def _short(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:8]
