"""A place in Kueue's line, as its visibility API tells it."""

from __future__ import annotations

from typing import Any

from groundplane.drivers import kubernetes_queue
from groundplane.drivers import kubernetes_reasons as reasons


def summary(namespace: str, job: str, cluster: int, local: int) -> dict[str, Any]:
    """A PendingWorkloadsSummary of one, in the form that Kueue 0.19 gives it."""
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": f"ground-{job}", "uid": job}
    return {
        "kind": "PendingWorkloadsSummary",
        "apiVersion": "visibility.kueue.x-k8s.io/v1beta2",
        "metadata": {},
        "items": [
            {
                "metadata": {"name": f"job-ground-{job}", "namespace": namespace, "ownerReferences": [owner]},
                "priority": 0,
                "localQueueName": "cq",
                "positionInClusterQueue": cluster,
                "positionInLocalQueue": local,
            }
        ],
    }


def test_those_of_other_projects_are_before_it_too() -> None:
    """Each project has a LocalQueue of its own, in which it is the first."""
    first = kubernetes_queue.places(summary("ground-given", "one", cluster=0, local=0))
    second = kubernetes_queue.places(summary("ground-w11", "two", cluster=1, local=0))
    assert (first, second) == ({"one": 0}, {"two": 1})
    assert "first in line" in reasons.queued("cq", first["one"], "").message
    assert "cq, 1 before it" in reasons.queued("cq", second["two"], "").message


def test_an_empty_line_has_no_places() -> None:
    assert kubernetes_queue.places({"metadata": {}, "items": None}) == {}
