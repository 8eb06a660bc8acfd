"""An attempt on several nodes: what a cluster is told of it, and what becomes of it as its nodes go on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from groundplane.drivers import kubernetes_objects as objects
from groundplane.drivers.kubernetes_nodes import Followed, remembered, together
from groundplane.drivers.kubernetes_objects import ATTEMPT, INDEX, Placing, Task
from groundplane.model.reasons import Fault, Reason
from groundplane.model.resources import Resources
from groundplane.spi.launch import Observation, Phase, Usage
from groundplane.spi.pod import rendezvous

NAME = "01a22109-1b39-7d45-9725-89296f593581.0.1.2"


def task(nodes: int | None, attempt: str = NAME) -> Task:
    return Task(
        attempt=attempt, run="r", task="train", project="p", team="t", epoch=3, control_plane="c", namespace="ground-p",
        image="i", staging="s", resources=Resources(nodes=nodes), network=False, grace=5.0,
    )  # fmt: skip


def job(nodes: int | None) -> dict[str, Any]:
    return objects.job(task(nodes), Placing())


# --- what a cluster is told -----------------------------------------------------------------------------------------


def test_several_nodes_are_an_indexed_job_whose_pods_have_names() -> None:
    spec = job(4)["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 4, 4)
    assert spec["template"]["spec"]["subdomain"] == objects.name_of(NAME)
    service, policy = objects.meeting(task(4), policed=True)
    assert service["metadata"]["name"] == spec["template"]["spec"]["subdomain"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"]
    labels = spec["template"]["metadata"]["labels"]
    chosen = {ATTEMPT: labels[ATTEMPT]}
    assert service["spec"]["selector"] == chosen
    peers = [{"podSelector": {"matchLabels": chosen}}]
    assert policy["spec"]["podSelector"] == {"matchLabels": chosen}
    assert (policy["spec"]["ingress"], policy["spec"]["egress"]) == ([{"from": peers}], [{"to": peers}])
    assert objects.notes_of(service)[ATTEMPT] == objects.notes_of(policy)[ATTEMPT] == NAME
    assert [each["kind"] for each in objects.meeting(task(4), policed=False)] == ["Service"]


@pytest.mark.parametrize("nodes", [None, 1])
def test_one_node_is_a_plain_job(nodes: int | None) -> None:
    spec = job(nodes)["spec"]
    assert "completionMode" not in spec
    assert "subdomain" not in spec["template"]["spec"]
    assert (spec["completions"], spec["parallelism"]) == (1, 1)
    assert set(objects.notes_of(job(nodes))) == {ATTEMPT, objects.RUN, objects.TASK, objects.EPOCH}


def test_a_host_has_a_name_that_names_may_have() -> None:
    attempt = f"{NAME}.{'9' * 60}"
    first, service = objects.master_of(attempt).split(".")
    assert service == objects.name_of(attempt)
    assert first == f"{service}-0"
    assert len(f"{service}-9999") <= 63


def test_the_variables_are_those_of_torchrun() -> None:
    found = rendezvous("m-0.m", 4, 2, 8)
    assert {name: found[f"PET_{name}"] for name in ("NNODES", "NODE_RANK", "NPROC_PER_NODE", "MASTER_ADDR")} == {
        "NNODES": "4", "NODE_RANK": "2", "NPROC_PER_NODE": "8", "MASTER_ADDR": "m-0.m",
    }  # fmt: skip
    assert found["PET_MASTER_PORT"] == found["MASTER_PORT"] == "29500"
    assert (found["MASTER_ADDR"], found["WORLD_SIZE"], found["RANK"]) == ("m-0.m", "4", "2")
    assert found["LOCAL_RANK"] == "0"


# --- what becomes of it ---------------------------------------------------------------------------------------------


def followed(nodes: int = 2) -> Followed:
    made = Followed(NAME, "r", "train", "ground-p", 3, Observation(NAME, Phase.ACCEPTED), lost={"t.csv": ("dates",)})
    made.spread(nodes)
    return made


def news(whole: Followed, index: int, phase: Phase, **fields: Any) -> Observation | None:
    """A node's, and what is told of the whole then."""
    node = whole.nodes[index]
    node.told = Observation(NAME, phase, **fields)
    told = together(whole, node)
    whole.told = told or whole.told
    return told


def test_it_runs_with_the_first_node_and_ends_with_the_last() -> None:
    whole = followed()
    assert news(whole, 1, Phase.RUNNING, started_at=4) is None
    told = news(whole, 0, Phase.RUNNING, started_at=5)
    assert told is not None
    assert (told.phase, told.started_at, told.epoch) == (Phase.RUNNING, 5, 3)
    assert (
        news(whole, 0, Phase.ENDED, exit_code=0, started_at=5, stdout="a", sentinel=True, usage=Usage(3, 2, 70)) is None
    )
    told = news(whole, 1, Phase.ENDED, exit_code=0, started_at=4, stdout="b", usage=Usage(4, 1.5, 90))
    assert told is not None
    assert (told.phase, told.exit_code, told.stdout, told.started_at) == (Phase.ENDED, 0, "a", 5)
    assert told.usage == Usage(4, 3.5, 90)
    assert told.lost == {"t.csv": ("dates",)}
    assert not told.sentinel, "all of them must have come to their end"
    assert whole.over and all(node.over for node in whole.nodes)


def test_the_first_node_that_fails_counts_and_is_named() -> None:
    whole = followed(3)
    news(whole, 0, Phase.RUNNING, started_at=5)
    told = news(whole, 2, Phase.ENDED, exit_code=3, stderr="Traceback\nKeyError: 'x'\n", usage=Usage(1, 1, 10))
    assert told is not None
    assert (told.phase, told.exit_code) == (Phase.ENDED, 3)
    assert told.reason is not None
    assert (told.reason.code, told.reason.fault) == ("error", Fault.USER)
    assert told.reason.message == "node 2 of 3 exited with code 3: KeyError: 'x'"
    assert all(node.over for node in whole.nodes), "nothing of the others counts any more"
    assert news(whole, 1, Phase.ENDED, exit_code=1) is None


def test_how_the_script_failed_on_the_first_node_is_told_by_its_toolchain() -> None:
    told = news(followed(), 0, Phase.ENDED, exit_code=3, stderr="KeyError")
    assert told is not None
    assert (told.exit_code, told.stderr, told.reason) == (3, "KeyError", None)


@pytest.mark.parametrize("phase", [Phase.ENDED, Phase.LOST])
def test_a_reason_stays_what_it_is_and_names_the_node(phase: Phase) -> None:
    reason = Reason("node_lost", "its node was lost", "again", Fault.BACKEND)
    told = news(followed(), 0, phase, reason=reason)
    assert told is not None
    assert told.phase is phase
    assert told.reason == replace(reason, message="node 0 of 2: its node was lost")


def test_why_a_node_waits_is_told_until_the_first_runs() -> None:
    whole, reason = followed(), Reason("unschedulable", "no node takes it")
    told = news(whole, 1, Phase.ACCEPTED, reason=reason)
    assert told is not None
    assert (told.phase, told.reason) == (Phase.ACCEPTED, reason)
    assert news(whole, 1, Phase.ACCEPTED, reason=reason) is None
    told = news(whole, 1, Phase.ACCEPTED)
    assert told is not None
    assert told.reason is None
    news(whole, 0, Phase.RUNNING, started_at=5)
    assert news(whole, 1, Phase.ACCEPTED, reason=reason) is None


def test_a_pod_tells_which_node_of_what_it_is() -> None:
    pod = job(4)["spec"]["template"]
    pod["metadata"]["namespace"] = "ground-p"
    pod["metadata"]["annotations"] = {**pod["metadata"]["annotations"], INDEX: "3"}
    whole = remembered(NAME, pod)
    assert (whole.run, whole.task, whole.epoch, whole.namespace) == ("r", "train", 3, "ground-p")
    assert [node.index for node in whole.nodes] == [0, 1, 2, 3]
    assert whole.part(pod) is whole.nodes[3]
    alone = remembered(NAME, None)
    assert alone.parts == [alone]
    assert alone.part({"metadata": {}}) is alone
    assert len(remembered(NAME, None, 4).nodes) == 4
