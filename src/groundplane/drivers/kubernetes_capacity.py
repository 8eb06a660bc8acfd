"""What work can have at most on a node of a cluster: quantities, and what is there besides it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from groundplane.drivers.kubernetes_objects import BESIDE

_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SYSTEM = "system-"
"""How the names of those PriorityClasses begin that no other outranks."""


class Room(NamedTuple):
    """CPUs, bytes and GPUs."""

    cpus: float = 0.0
    memory: int = 0
    gpus: int = 0


def largest(nodes: Sequence[Mapping[str, Any]], daemons: Sequence[Mapping[str, Any]], priority: str) -> Room:
    """The most of each that the work of one pod can have on any node: what is allocatable there, less the staging
    container's request and those of DaemonSets that are on every node.

    priority: the PriorityClass of the pods, "" for none. Who has one may push a DaemonSet's pods aside.
    """
    beside = [
        daemon["spec"]["template"]["spec"]
        for daemon in daemons
        if daemon.get("status", {}).get("desiredNumberScheduled", 0) >= len(nodes)
        and (not priority or daemon["spec"]["template"]["spec"].get("priorityClassName", "").startswith(_SYSTEM))
    ]
    cpus = cpus_of(BESIDE["cpu"]) + sum(cpus_of(asked) for pod in beside for asked in _asked(pod, "cpu"))
    memory = bytes_of(BESIDE["memory"]) + sum(bytes_of(asked) for pod in beside for asked in _asked(pod, "memory"))
    has = [node["status"]["allocatable"] for node in nodes]
    return Room(
        max((max(0.0, round(cpus_of(each.get("cpu", "0")) - cpus, 3)) for each in has), default=0.0),
        max((max(0, bytes_of(each.get("memory", "0")) - memory) for each in has), default=0),
        max((int(each.get("nvidia.com/gpu", "0")) for each in has), default=0),
    )


def _asked(pod: Mapping[str, Any], what: str) -> list[str]:
    """What a pod's lasting containers request; where they say nothing of it, their limit is their request."""
    lasting = [each for each in pod.get("initContainers") or () if each.get("restartPolicy") == "Always"]
    found: list[str] = []
    for container in (*lasting, *pod["containers"]):
        given: dict[str, dict[str, Any]] = container.get("resources") or {}
        asked = {**(given.get("limits") or {}), **(given.get("requests") or {})}
        found.append(str(asked.get(what, "0")))
    return found


def bytes_of(text: str) -> int:
    for unit, factor in _UNITS.items():
        if text.endswith(unit):
            return int(float(text.removesuffix(unit)) * factor)
    return int(float(text.removesuffix("m")) / 1000) if text.endswith("m") else int(text)


def cpus_of(text: str) -> float:
    return float(text.removesuffix("m")) / 1000 if text.endswith("m") else float(text)
