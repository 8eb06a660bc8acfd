"""What Kueue says of Jobs that it has not admitted yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from groundplane.drivers.kubernetes_api import Cluster, Refused


async def positions(cluster: Cluster, namespace: str, queue: str) -> dict[str, int]:
    """Job's uid -> how many are before it, as Kueue's visibility API has it."""
    path = f"/apis/visibility.kueue.x-k8s.io/v1beta2/namespaces/{namespace}/localqueues/{queue}/pendingworkloads"
    try:
        found = await cluster.ask("GET", path)
    except Refused:  # it is not installed everywhere
        return {}
    return places(found)


def places(pending: Mapping[str, Any]) -> dict[str, int]:
    """Job's uid -> how many are before it in its ClusterQueue: those of other namespaces, that is projects, count too.

    pending: a PendingWorkloadsSummary of one LocalQueue.
    """
    return {
        owner["uid"]: int(item["positionInClusterQueue"])
        for item in pending.get("items") or ()
        for owner in item["metadata"].get("ownerReferences") or ()
    }


async def words(cluster: Cluster, namespace: str) -> dict[str, str]:
    """Job's uid -> why Kueue has not admitted it."""
    words: dict[str, str] = {}
    for workload in (await cluster.listing("Workload", namespace))["items"]:
        said = next(
            (
                str(condition.get("message", ""))
                for condition in workload.get("status", {}).get("conditions") or ()
                if condition["type"] == "QuotaReserved" and condition["status"] == "False"
            ),
            "",
        )
        for owner in workload["metadata"].get("ownerReferences") or ():
            words[owner["uid"]] = said
    return words
