"""What work can have at most on a node: less than the node has, for it is not alone there."""

from __future__ import annotations

from typing import Any

import pytest

from groundplane.drivers.kubernetes_capacity import Room, bytes_of, cpus_of, largest

NODE = {"status": {"allocatable": {"cpu": "2", "memory": "24581684Ki", "pods": "110"}}}  # of a real one


def daemon(requests: dict[str, str], on: int = 1, **more: Any) -> dict[str, Any]:
    """A DaemonSet's part that counts. on: nodes."""
    spec = {"containers": [{"name": "a", "resources": {"requests": requests}}], **more}
    return {"spec": {"template": {"spec": spec}}, "status": {"desiredNumberScheduled": on}}


@pytest.mark.parametrize(
    ("text", "bytes_"), [("24581684Ki", 24581684 << 10), ("1Gi", 1 << 30), ("5M", 5_000_000), ("2000m", 2), ("7", 7)]
)
def test_a_quantity_of_bytes(text: str, bytes_: int) -> None:
    assert bytes_of(text) == bytes_


def test_a_quantity_of_cpus() -> None:
    assert (cpus_of("2"), cpus_of("1930m"), cpus_of("0.5")) == (2.0, 1.93, 0.5)


def test_the_staging_container_is_there_too() -> None:
    assert largest([NODE], [], "") == Room(1.99, (24581684 << 10) - (48 << 20), 0)


def test_daemon_sets_on_every_node_are_there_too() -> None:
    network = daemon({"cpu": "250m", "memory": "100Mi"})
    assert largest([NODE], [network], "") == Room(1.74, (24581684 << 10) - (148 << 20), 0)
    assert largest([NODE, NODE], [network], "").cpus == 1.99  # on one of the two alone, nobody knows which


def test_of_a_daemon_set_counts_what_lasts() -> None:
    begun = {"name": "setup", "resources": {"requests": {"cpu": "1"}}}
    lasting = {"name": "proxy", "restartPolicy": "Always", "resources": {"limits": {"cpu": "100m"}}}
    silent = {"name": "b"}
    found = daemon({"cpu": "50m"}, initContainers=[begun, lasting])
    found["spec"]["template"]["spec"]["containers"].append(silent)
    assert largest([NODE], [found], "").cpus == 1.84


def test_a_priority_may_push_them_aside_but_for_the_systems_own() -> None:
    plain, system = daemon({"cpu": "100m"}), daemon({"cpu": "200m"}, priorityClassName="system-node-critical")
    assert largest([NODE], [plain, system], "").cpus == 1.69
    assert largest([NODE], [plain, system], "high").cpus == 1.79


def test_the_largest_of_each_counts_and_nothing_is_less_than_none() -> None:
    small = {"status": {"allocatable": {"cpu": "5m", "memory": "1Mi", "nvidia.com/gpu": "4"}}}
    assert largest([small], [], "") == Room(0.0, 0, 4)
    assert largest([small, NODE], [], "") == Room(1.99, (24581684 << 10) - (48 << 20), 4)
    assert largest([], [], "") == Room()
