"""Why a task waits or how it ended, by statuses as clusters (1.29 to 1.36) report them."""

from __future__ import annotations

from typing import Any

import pytest

from groundplane.drivers import kubernetes_reasons as reasons
from groundplane.drivers.kubernetes_api import Refused
from groundplane.model.reasons import Fault

IMAGE = "10.200.0.1:5000/none:1"


def waiting(why: str, said: str = "", name: str = "work", key: str = "containerStatuses") -> dict[str, Any]:
    state = {"waiting": {"reason": why, "message": said}}
    return {"status": {"phase": "Pending", key: [{"name": name, "image": IMAGE, "state": state}]}}


def terminated(code: int, why: str) -> dict[str, Any]:
    state = {"terminated": {"exitCode": code, "reason": why}}
    return {"status": {"phase": "Failed", "containerStatuses": [{"name": "work", "state": state}]}}


def condition(kind: str, status: str, why: str, said: str, phase: str = "Pending") -> dict[str, Any]:
    found = {"type": kind, "status": status, "reason": why, "message": said}
    return {"status": {"phase": phase, "conditions": [found]}}


UNSCHEDULABLE = condition(
    "PodScheduled", "False", "Unschedulable",
    "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. no new claims to deallocate, "
    "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
)  # fmt: skip
NOT_FOUND = f'failed to pull and unpack image "{IMAGE}": failed to resolve reference "{IMAGE}": {IMAGE}: not found'
PLAIN = (
    f'Back-off pulling image "{IMAGE}": ErrImagePull: failed to pull and unpack image "{IMAGE}": failed to do request: '
    f'Head "https://10.200.0.1:5000/v2/none/manifests/1": http: server gave HTTP response to HTTPS client'
)
NO_SHELL = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: "
    'unable to start container process: error during container init: exec: "sh": executable file not found in $PATH'
)


def test_a_place_is_waited_for() -> None:
    found = reasons.waits(UNSCHEDULABLE)
    assert found is not None and not found.over
    assert (found.reason.code, found.reason.fault) == ("unschedulable", Fault.BACKEND)
    assert "didn't match Pod's node affinity/selector" in found.reason.message and found.reason.hint


@pytest.mark.parametrize("why", ["ErrImagePull", "ImagePullBackOff"])
@pytest.mark.parametrize("key", ["containerStatuses", "initContainerStatuses"])
def test_an_image_that_is_not_there_is_not_waited_for(why: str, key: str) -> None:
    found = reasons.waits(waiting(why, NOT_FOUND, key=key))
    assert found is not None and found.over
    assert found.reason.code == "image_missing" and IMAGE in found.reason.message


@pytest.mark.parametrize("why", ["ErrImagePull", "ImagePullBackOff"])
@pytest.mark.parametrize("said", [PLAIN, "dial tcp: lookup r.example: no such host", "429 Too Many Requests", ""])
def test_a_registry_that_cannot_be_reached_is_waited_for(why: str, said: str) -> None:
    found = reasons.waits(waiting(why, said))
    assert found is not None and not found.over
    assert (found.reason.code, found.reason.fault) == ("image_pull", Fault.BACKEND)
    assert IMAGE in found.reason.message and found.reason.hint
    assert ("speaks no TLS" in found.reason.hint) == (said == PLAIN)


def test_what_can_never_start_is_not_waited_for() -> None:
    for why, said, code in (
        ("InvalidImageName", "couldn't parse image name", "image_missing"),
        ("CreateContainerConfigError", "container has runAsNonRoot and image will run as root", "start_failed"),
        ("RunContainerError", NO_SHELL, "start_failed"),
    ):
        found = reasons.waits(waiting(why, said))
        assert found is not None and found.over and found.reason.code == code, why
    no_shell = reasons.waits(waiting("StartError", NO_SHELL))
    assert no_shell is not None and "has no `sh`" in no_shell.reason.message and no_shell.reason.hint


def test_what_comes_of_itself_is_no_reason() -> None:
    for why in ("ContainerCreating", "PodInitializing"):
        assert reasons.waits(waiting(why)) is None
    assert reasons.waits(waiting("CreateContainerConfigError", 'secret "ground-x" not found')) is None
    assert reasons.waits({"status": {}}) is None
    assert reasons.waits({}) is None
    assert reasons.waits(condition("PodScheduled", "True", "", "")) is None


def test_memory_that_ran_out_is_told_by_the_container() -> None:
    stop = reasons.stopped(terminated(137, "OOMKilled"))
    assert stop is not None and stop.out_of_memory and stop.exit_code == 137
    killed = reasons.stopped(terminated(137, "Error"))
    assert killed is not None and not killed.out_of_memory
    told = reasons.out_of_memory(64 << 20)
    assert (told.code, told.fault) == ("out_of_memory", Fault.USER) and "64" in told.message
    assert "node" in reasons.out_of_memory(None).message


def test_only_the_works_own_container_counts() -> None:
    pod = terminated(0, "Completed")
    pod["status"]["containerStatuses"][0]["name"] = "stage"
    assert reasons.stopped(pod) is None
    assert reasons.stopped({"status": {"containerStatuses": [{"name": "work", "state": {"running": {}}}]}}) is None


@pytest.mark.parametrize(
    ("pod", "code", "words"),
    [
        (
            {"status": {"phase": "Failed", "reason": "Evicted",
                        "message": "The node was low on resource: ephemeral-storage."}},
            "evicted", "ephemeral-storage",
        ),
        (
            condition("DisruptionTarget", "True", "EvictionByEvictionAPI", "Eviction API: evicting", "Running"),
            "evicted", "evicting",
        ),
        (
            condition("DisruptionTarget", "True", "PreemptionByScheduler", "default-scheduler: preempting to "
                      "accommodate a higher priority pod", "Running"),
            "evicted", "higher priority",
        ),
        (
            condition("DisruptionTarget", "True", "DeletionByTaintManager", "Taint manager: deleting due to NoExecute "
                      "taint", "Running"),
            "node_lost", "taint",
        ),
        (
            {"status": {"phase": "Failed", "reason": "DeadlineExceeded",
                        "message": "Pod was active on the node longer than the specified deadline"}},
            "deadline_exceeded", "deadline",
        ),
        ({"status": {"phase": "Failed", "reason": "NodeLost", "message": "Node n1 which was running pod"}},
         "node_lost", "n1"),
        (
            {"status": {"phase": "Failed", "reason": "Terminated",
                        "message": "Pod was terminated in response to imminent node shutdown."}},
            "node_lost", "shutdown",
        ),
    ],
)  # fmt: skip
def test_what_became_of_a_pod_is_the_backends_fault(pod: dict[str, Any], code: str, words: str) -> None:
    found = reasons.failed(pod)
    assert found is not None
    assert (found.code, found.fault) == (code, Fault.BACKEND)
    assert words in found.message and found.hint


def test_a_script_that_failed_is_nothing_of_the_clusters() -> None:
    assert reasons.failed(terminated(3, "Error")) is None
    unstarted = terminated(128, "StartError")
    unstarted["status"]["containerStatuses"][0]["state"]["terminated"]["message"] = NO_SHELL
    told = reasons.failed(unstarted)
    assert told is not None and told.code == "start_failed" and "no `sh`" in told.message
    assert reasons.failed({}) is None


def event(said: str, at: str, count: int | None = 1) -> dict[str, Any]:
    return {"reason": "FailedCreate", "message": said, "lastTimestamp": at, "count": count, "metadata": {}}


QUOTA = 'pods "ground-x-1" is forbidden: exceeded quota: none, requested: pods=1, used: pods=0, limited: pods=0'
PASSING = 'admission webhook "mpod.kb.io" denied the request: Job.batch "ground-x" not found'


def test_a_full_quota_is_waited_for() -> None:
    found = reasons.held_back([event(QUOTA, "2026-01-01T00:00:01Z")])
    assert found is not None and found.endless and not found.over
    told = found.reason
    assert (told.code, told.fault) == ("waiting_for_quota", Fault.BACKEND) and "requested: pods=1" in told.message


COUNTED = (
    'jobs.batch "ground-x" is forbidden: exceeded quota: one, requested: count/jobs.batch=1, used: count/jobs.batch=1, '
    "limited: count/jobs.batch=1"
)


def test_a_quota_of_objects_is_waited_for_like_one_of_pods() -> None:
    told = reasons.refused(Refused(403, "Forbidden", COUNTED))
    assert reasons.Wait(told).endless
    assert (told.code, told.fault) == (
        "waiting_for_quota",
        Fault.BACKEND,
    ) and "used: count/jobs.batch=1" in told.message
    other = reasons.refused(
        Refused(403, "Forbidden", 'jobs.batch is forbidden: User "u" cannot create resource "jobs"')
    )
    assert other.code == "backend_unavailable"


def test_a_namespace_that_is_not_there_is_named() -> None:
    told = reasons.refused(Refused(404, "NotFound", 'namespaces "nonsuch" not found'))
    assert (told.code, told.fault) == ("backend_unavailable", Fault.BACKEND)
    assert 'namespaces "nonsuch" not found' in told.message and "ground backends check" in told.hint


@pytest.mark.parametrize(
    "said",
    [
        'pods "ground-x-" is forbidden: no PriorityClass with name zzz was found',
        'pods "ground-x-" is forbidden: error looking up service account p/nope: serviceaccount "nope" not found',
        'pods "ground-x-wx7" is forbidden: maximum cpu usage per Container is 50m, but limit is 100m',
    ],
)
def test_a_pod_that_is_never_made_is_waited_for_no_longer_than_a_place(said: str) -> None:
    found = reasons.held_back([event(said, "2026-01-01T00:00:05Z"), event(said, "2026-01-01T00:00:06Z")])
    assert found is not None and not found.endless
    assert (found.reason.code, found.reason.fault) == ("unschedulable", Fault.BACKEND)
    assert "makes no pod" in found.reason.message and said in found.reason.message and found.reason.hint


def of_job(kind: str, status: str, why: str) -> dict[str, Any]:
    said = "Job was active longer than specified deadline"
    return {"status": {"conditions": [{"type": kind, "status": status, "reason": why, "message": said}]}}


def test_a_deadline_of_the_job_is_told_by_the_job() -> None:
    for kind in ("FailureTarget", "Failed"):
        told = reasons.overdue(of_job(kind, "True", "DeadlineExceeded"))
        assert told is not None and (told.code, told.fault) == ("deadline_exceeded", Fault.BACKEND)
        assert "longer than specified deadline" in told.message and told.hint
    assert reasons.overdue(of_job("Failed", "True", "BackoffLimitExceeded")) is None
    assert reasons.overdue(of_job("FailureTarget", "False", "DeadlineExceeded")) is None
    assert reasons.overdue({}) is None


def test_a_pod_that_goes_says_so() -> None:
    assert reasons.is_going({"metadata": {"deletionTimestamp": "2026-01-01T00:00:01Z"}})
    assert reasons.is_going(condition("DisruptionTarget", "True", "EvictionByEvictionAPI", "", "Running"))
    assert reasons.is_going({"metadata": {}, "status": {"phase": "Failed"}})
    assert not reasons.is_going({"metadata": {}, "status": {"phase": "Running"}})
    assert not reasons.is_going({})


def test_a_first_failure_that_passes_is_not_believed() -> None:
    assert reasons.held_back([event(PASSING, "2026-01-01T00:00:01Z")]) is None
    assert reasons.held_back([event(PASSING, "2026-01-01T00:00:01Z", None)]) is None
    assert reasons.held_back([]) is None
    assert reasons.held_back([{"reason": "SuccessfulCreate", "metadata": {}}]) is None
    again = reasons.held_back([event(PASSING, "2026-01-01T00:00:05Z", 2)])
    assert again is not None and again.reason.code == "unschedulable"


def test_the_newest_event_counts() -> None:
    events = [event(QUOTA, "2026-01-01T00:00:09Z"), event(PASSING, "2026-01-01T00:00:01Z")]
    for each in (events, events[::-1]):
        found = reasons.held_back(each)
        assert found is not None and found.reason.code == "waiting_for_quota"
    since = {"reason": "FailedCreate", "message": QUOTA, "metadata": {"creationTimestamp": "2026-01-01T00:00:10Z"}}
    found = reasons.held_back([events[1], since])
    assert found is not None and found.reason.code == "waiting_for_quota"


def test_a_queue_says_where_a_task_stands() -> None:
    said = "couldn't assign flavors to pod set main: insufficient unused quota for cpu in flavor a, 100m more needed"
    first, third = reasons.queued("q", 0, said), reasons.queued("q", 2, "")
    assert first.code == third.code == "waiting_for_quota"
    assert "first in line" in first.message and said in first.message
    assert "2 before it" in third.message
    assert reasons.queued("q", None, "").message.endswith("queue q")


def test_messages_are_one_line_of_a_readable_length() -> None:
    found = reasons.waits(waiting("ErrImagePull", "a\nb " * 1000))
    assert found is not None
    assert "\n" not in found.reason.message and len(found.reason.message) < 600
