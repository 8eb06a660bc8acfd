"""What a pod, a Job and their events say of why a task waits, or how it ended. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from groundplane.drivers.kubernetes_api import Refused
from groundplane.drivers.kubernetes_objects import STAGE, WORK
from groundplane.model.reasons import Fault, Reason

_GONE = ("not found", "manifest unknown", "name unknown", "does not exist", "no such host")
_PULLING = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError"})
_BROKEN = frozenset({"CreateContainerError", "RunContainerError", "StartError", "ContainerCannotRun"})
_NODE = frozenset({"NodeLost", "NodeShutdown", "Terminated", "NodeAffinity", "UnexpectedAdmissionError"})


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a task does not run yet. over: it will never, and this is the reason to end it with. endless: however long
    the backend's patience is, which is for images and places."""

    reason: Reason
    over: bool = False

    @property
    def endless(self) -> bool:
        return self.reason.code not in ("unschedulable", "image_pull")


@dataclass(frozen=True, slots=True)
class Stop:
    """How the work's container ended: exit code as the cluster tells it, and whether its memory ran out."""

    exit_code: int
    out_of_memory: bool
    finished: bool = True


def waits(pod: Mapping[str, Any]) -> Wait | None:
    """Why the pod's containers do not run; None when they do, or when it is only a matter of course."""
    status = pod.get("status", {})
    for found in _statuses(pod):
        waiting: dict[str, Any] = found.get("state", {}).get("waiting") or {}
        why, said = waiting.get("reason", ""), _first(waiting.get("message", ""))
        if why in _PULLING:
            return _pulling(found.get("image", ""), why, said)
        if why == "InvalidImageName":
            return Wait(_missing(f"{found.get('image', '')} is no name of an image"), over=True)
        if why in ("CreateContainerConfigError",) and "secret" not in said:
            return Wait(Reason("start_failed", f"its container cannot be made: {said}", fault=Fault.BACKEND), over=True)
        if why in _BROKEN:
            return Wait(_unstartable(said), over=True)
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            said = _first(condition.get("message", ""))
            return Wait(
                Reason("unschedulable", f"no node takes it: {said}", "it waits for one; ask for less, or add nodes",
                       Fault.BACKEND)
            )  # fmt: skip
    return None


def has_begun(pod: Mapping[str, Any]) -> bool:
    """Whether the staging container has."""
    for found in pod.get("status", {}).get("initContainerStatuses") or ():
        if found.get("name") == STAGE:
            state = found.get("state", {})
            return "running" in state or "terminated" in state
    return False


def stopped(pod: Mapping[str, Any]) -> Stop | None:
    """How the work's container ended; None while it runs, or when it never began."""
    for found in pod.get("status", {}).get("containerStatuses") or ():
        if found.get("name") == WORK and (ended := found.get("state", {}).get("terminated")):
            oom = ended.get("reason") == "OOMKilled"
            return Stop(int(ended.get("exitCode", 1)), oom)
    return None


def failed(pod: Mapping[str, Any]) -> Reason | None:
    """What the cluster says has become of a pod as a whole, or that its work could not even be started; None when it
    says nothing of the kind."""
    status = pod.get("status", {})
    why, said = status.get("reason", ""), _first(status.get("message", ""))
    for condition in status.get("conditions") or ():
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            cause = condition.get("reason", "")
            text = _first(condition.get("message", ""))
            if cause == "DeletionByTaintManager":
                return node_lost(text)
            return Reason("evicted", f"its pod was evicted: {text or cause}", _AGAIN, Fault.BACKEND)
    if why in ("Evicted", "Preempting"):
        return Reason("evicted", f"its pod was evicted: {said}", _AGAIN, Fault.BACKEND)
    if why == "DeadlineExceeded":
        return _overdue(said)
    if why in _NODE:
        return node_lost(said or why)
    for found in status.get("containerStatuses") or ():
        ended: dict[str, Any] = found.get("state", {}).get("terminated") or {}
        if found.get("name") == WORK and ended.get("reason") in _BROKEN:
            return _unstartable(_first(ended.get("message", "")))
    return None


def is_adrift(pod: Mapping[str, Any]) -> bool:
    """Whether its node has gone, and takes its pods' ends with it."""
    if not pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(each.get("reason") == "DeletionByTaintManager" and each.get("status") == "True" for each in conditions)


def is_going(pod: Mapping[str, Any]) -> bool:
    """Whether the cluster has said that its end has come, and by that why."""
    ended = pod.get("status", {}).get("phase") in ("Failed", "Succeeded")
    return ended or bool(pod.get("metadata", {}).get("deletionTimestamp")) or failed(pod) is not None


def out_of_memory(limit: int | None) -> Reason:
    """The kernel killed it for its memory."""
    from groundplane.model.quantities import format_size

    had = f"its limit of {format_size(limit)}" if limit else "the memory that its node had for it"
    return Reason("out_of_memory", f"it used more than {had}", "ask for more memory, or use less")


def node_lost(said: str) -> Reason:
    return Reason("node_lost", f"its node was lost: {said}", _AGAIN, Fault.BACKEND)


def overdue(job: Mapping[str, Any]) -> Reason | None:
    """Whether its Job's deadline took its pods away: they do not tell so themselves."""
    for condition in job.get("status", {}).get("conditions") or ():
        ends = condition.get("type") in ("FailureTarget", "Failed") and condition.get("status") == "True"
        if ends and condition.get("reason") == "DeadlineExceeded":
            return _overdue(_first(condition.get("message", "")))
    return None


def deleted(name: str) -> Reason:
    """Somebody, or something, took it away."""
    return Reason("pod_deleted", f"its pod {name} was deleted before it ended", _AGAIN, Fault.BACKEND)


def held_back(events: Iterable[Mapping[str, Any]]) -> Wait | None:
    """Why a Job has no pod, by its newest events. The first one may be a passing one (a webhook that did not know the
    Job yet), and is not believed. What is no quota counts as a place that is not there: it is waited for as long."""
    failures = [event for event in events if event.get("reason") == "FailedCreate"]
    if not failures:
        return None
    newest = max(failures, key=_when)
    said = _first(newest.get("message", ""))
    if "exceeded quota" in said or "must specify" in said:
        return Wait(_quota(said))
    if len(failures) == 1 and int(newest.get("count") or 1) == 1:
        return None
    text, hint = f"the cluster makes no pod of it: {said}", "`ground backends check` may say what is missing"
    return Wait(Reason("unschedulable", text, hint, Fault.BACKEND))


def queued(queue: str, position: int | None, said: str) -> Reason:
    """Kueue has not admitted it yet. position: from 0."""
    where = f", {position} before it" if position else ", first in line" if position == 0 else ""
    told = f": {said}" if said else ""
    return Reason("waiting_for_quota", f"it waits in Kueue's queue {queue}{where}{told}", _QUOTA, Fault.BACKEND)


def refused(said: Refused) -> Reason:
    """What the API server would not do, as a reason."""
    if said.status == 403 and "exceeded quota" in said.message:
        return _quota(said.message)
    if said.status == 401:
        text = f"the cluster does not know who asks: {said.message}"
        hint = "its token may have expired: add the backend again, with a new one"
        return Reason("backend_unavailable", text, hint, Fault.BACKEND)
    if said.status == 403:
        hint = "ground backends check says which permissions are missing"
        return Reason("backend_unavailable", f"the cluster refuses: {said.message}", hint, Fault.BACKEND)
    if said.status == 404:
        text, hint = f"the cluster lacks what this needs: {said.message}", "ground backends check says what is missing"
        return Reason("backend_unavailable", text, hint, Fault.BACKEND)
    return Reason("start_failed", f"the cluster refuses it: {said.message}", fault=Fault.BACKEND)


_AGAIN = "it is tried again by itself"
_QUOTA = "it starts by itself when others have ended"


def _quota(said: str) -> Reason:
    return Reason("waiting_for_quota", f"the namespace's quota is used up: {said}", _QUOTA, Fault.BACKEND)


def _overdue(said: str) -> Reason:
    return Reason("deadline_exceeded", f"the cluster ended it: {said}", _AGAIN, Fault.BACKEND)


def _statuses(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _pulling(image: str, why: str, said: str) -> Wait:
    if any(word in said.lower() for word in _GONE[:-1]):
        return Wait(_missing(f"its registry does not have {image}: {said}"), over=True)
    hint = "it waits for the registry; can the nodes reach it, and may they pull?"
    if "HTTP response to HTTPS client" in said:
        hint = "the registry speaks no TLS, and the nodes do not know: their container runtime has to be told"
    return Wait(Reason("image_pull", f"{image} cannot be pulled ({why}): {said}", hint, Fault.BACKEND))


def _missing(text: str) -> Reason:
    return Reason("image_missing", text, "`ground images push` puts one there; or correct its name")


def _unstartable(said: str) -> Reason:
    if '"sh"' in said or "exec: sh" in said:
        text = "its image has no `sh`, which work on Kubernetes is started by"
        return Reason("start_failed", text, "add one to the image (busybox), or run it in Docker")
    return Reason("start_failed", f"its container cannot be started: {said}", "is the image whole?", Fault.BACKEND)


def _when(event: Mapping[str, Any]) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or "")


def _first(text: str) -> str:
    """One line, of a length that people read."""
    line = " ".join(text.split())
    return line if len(line) <= 400 else f"{line[:399]}…"
