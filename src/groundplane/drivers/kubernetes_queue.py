"""What Kueue says of Jobs that it has not admitted yet."""

from __future__ import annotations

from groundplane.drivers.kubernetes_api import Cluster, Refused


async def positions(cluster: Cluster, namespace: str, queue: str) -> dict[str, int]:
    """Job's uid -> its place in the LocalQueue, from 0, as Kueue's visibility API has it."""
    path = f"/apis/visibility.kueue.x-k8s.io/v1beta2/namespaces/{namespace}/localqueues/{queue}/pendingworkloads"
    try:
        found = await cluster.ask("GET", path)
    except Refused:  # it is not installed everywhere
        return {}
    places: dict[str, int] = {}
    for item in found.get("items") or ():
        for owner in item["metadata"].get("ownerReferences") or ():
            places[owner["uid"]] = int(item.get("positionInLocalQueue", 0))
    return places


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
