"""What a cluster is told of a task: names that it takes, nothing secret, and pods that may do nothing."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from groundplane.drivers import kubernetes_objects as objects
from groundplane.drivers.kubernetes_objects import DOMAIN, Placing, Task
from groundplane.model.resources import Resources

NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
WORDS = st.text(min_size=1, max_size=120)
IDS = st.tuples(st.uuids(version=4), *[st.integers(0, 10**6)] * 3).map(lambda parts: ".".join(map(str, parts)))
LABELS = objects.labels_in("trial", "default", "0123456789abcdef")
PLACING = Placing("q", "high", "runner", "gvisor", {"disk": "ssd"}, ("gpu", "team=a:NoSchedule"))


def made(**fields: Any) -> Task:
    given: dict[str, Any] = {
        "attempt": "01a22109-1b39-7d45-9725-89296f593581.0.1.2", "run": "01a22109-1b39-7d45-9725-89296f593581",
        "task": "fit[a, b]", "project": "trial", "team": "default", "epoch": 3, "control_plane": "0123456789abcdef",
        "namespace": "ground-trial", "image": "r:5000/a@sha256:0", "staging": "r:5000/ground-staging:1",
        "resources": Resources(), "network": False, "grace": 5.0,
    }  # fmt: skip
    return Task(**{**given, **fields})


def pod(task: Task, placing: Placing = PLACING) -> dict[str, Any]:
    return objects.job(task, placing)["spec"]["template"]["spec"]


def parts(spec: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The staging container and the work's."""
    (stage,), (work,) = spec["initContainers"], spec["containers"]
    assert (stage["name"], work["name"]) == (objects.STAGE, objects.WORK)
    return stage, work


# --- names -----------------------------------------------------------------------------------------------------------


@given(WORDS)
def test_any_project_has_a_namespace(text: str) -> None:
    assert NAME.fullmatch(objects.namespace_of(text)), objects.namespace_of(text)


@given(WORDS, WORDS)
def test_two_projects_never_share_a_namespace(one: str, other: str) -> None:
    assert (objects.namespace_of(one) == objects.namespace_of(other)) == (one == other)


def test_names_that_look_alike_stay_apart() -> None:
    alike = ["my-trial", "My-Trial", "my_trial", "my trial", "-my-trial", "äß", "é", "a" * 60, "a" * 61]
    assert len({objects.namespace_of(each) for each in alike}) == len(alike)
    assert len({objects.label(each) for each in alike}) == len(alike)
    assert objects.namespace_of("my-trial") == "ground-my-trial"
    assert objects.label("My_trial.2") == "My_trial.2"


@given(IDS, IDS)
def test_attempts_have_names_of_their_own(one: str, other: str) -> None:
    assert NAME.fullmatch(objects.name_of(one))
    assert (objects.name_of(one) == objects.name_of(other)) == (one == other)


@given(WORDS, WORDS)
def test_labels_are_valid_and_tell_texts_apart(one: str, other: str) -> None:
    assert LABEL.fullmatch(objects.label(one)), objects.label(one)
    assert (objects.label(one) == objects.label(other)) == (one == other)


# --- what is said, and what is not ----------------------------------------------------------------------------------


@given(WORDS, WORDS, WORDS)
def test_everything_carries_the_six_labels(task: str, project: str, team: str) -> None:
    told = made(task=task, project=project, team=team)
    job = objects.job(told, PLACING)
    for found in (objects.secret(told, "{}"), job, job["spec"]["template"]):
        labels = found["metadata"]["labels"]
        assert {f"{DOMAIN}/{name}" for name in ("team", "project", "run", "task", "attempt", "control-plane")} <= set(
            labels
        )
        assert all(LABEL.fullmatch(value) for value in labels.values()), labels
        assert objects.notes_of(found)[objects.ATTEMPT] == told.attempt
        assert objects.notes_of(found)[objects.TASK] == task


def test_the_same_task_is_the_same_object() -> None:
    for make in (
        lambda: objects.job(made(), PLACING),
        lambda: objects.secret(made(), "{}"),
        lambda: objects.network_policies("n", LABELS, "http://10.0.0.1:9000"),
    ):
        assert json.dumps(make()) == json.dumps(make())
    one = objects.job(made(), PLACING)
    one["spec"]["template"]["spec"]["nodeSelector"]["disk"] = "changed"
    one["metadata"]["labels"]["x"] = "changed"
    assert "changed" not in json.dumps(objects.job(made(), PLACING))


def test_what_is_secret_is_in_the_secret_alone() -> None:
    order = json.dumps({"launch": {"command": {"argv": ["sh", "-c", "TOP"], "env": {"KEY": "TOP"}}}, "result": "TOP"})
    assert objects.secret(made(), order)["stringData"] == {"order.json": order}
    job = json.dumps(objects.job(made(), PLACING))
    assert "TOP" not in job
    stage, work = parts(pod(made()))
    assert [each["name"] for each in work["env"]] == ["HOME"] and "env" not in stage
    mounts = {each["name"]: each for each in stage["volumeMounts"]}
    assert mounts["order"]["readOnly"]
    assert "order" not in {each["name"] for each in work["volumeMounts"]}  # it is not handed to the work


def test_the_secret_goes_with_its_job() -> None:
    (owner,) = objects.owned("uid-1", made())["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Job", objects.name_of(made().attempt), "uid-1")


# --- the pod ---------------------------------------------------------------------------------------------------------


def test_a_pod_may_do_nothing_but_work() -> None:
    spec = pod(made())
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["restartPolicy"] == "Never"
    context = spec["securityContext"]
    assert context["runAsNonRoot"] and context["runAsUser"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    for each in parts(spec):
        locked = each["securityContext"]
        assert locked["allowPrivilegeEscalation"] is False
        assert locked["readOnlyRootFilesystem"] is True
        assert locked["capabilities"] == {"drop": ["ALL"]}
    assert not [each for each in spec["volumes"] if not {"emptyDir", "secret"} & set(each)]
    assert "hostNetwork" not in spec and "hostPID" not in spec


def test_a_job_is_tried_once_and_does_not_stay() -> None:
    spec = objects.job(made(), Placing())["spec"]
    assert (spec["backoffLimit"], spec["completions"], spec["parallelism"]) == (0, 1, 1)
    assert spec["ttlSecondsAfterFinished"] > 0
    assert spec["suspend"] is False
    assert parts(spec["template"]["spec"])[0]["restartPolicy"] == "Always"  # beside the work, not before it


def test_a_queue_holds_the_job_until_kueue_lets_it_go() -> None:
    job = objects.job(made(), Placing(queue="q"))
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "q"


def test_a_backend_says_where_its_pods_go() -> None:
    spec = pod(made(resources=Resources(gpus=1)))
    assert (spec["serviceAccountName"], spec["priorityClassName"], spec["runtimeClassName"]) == (
        "runner", "high", "gvisor",
    )  # fmt: skip
    assert spec["nodeSelector"] == {"disk": "ssd"}
    assert spec["tolerations"] == [
        {"key": "gpu", "operator": "Exists"},
        {"key": "team", "operator": "Equal", "value": "a", "effect": "NoSchedule"},
        {"key": "nvidia.com/gpu", "operator": "Exists"},
    ]
    bare = pod(made(), Placing())
    assert not {"serviceAccountName", "priorityClassName", "runtimeClassName", "nodeSelector", "tolerations"} & set(
        bare
    )


def test_resources_are_limits() -> None:
    asked = parts(pod(made(resources=Resources(cpus=0.25, memory=1 << 20, gpus=2))))[1]["resources"]
    assert asked["limits"] == {"cpu": "250m", "memory": "1048576", "nvidia.com/gpu": "2"}
    assert asked["requests"] == {"cpu": "250m", "memory": "1048576"}
    bare = parts(pod(made()))[1]["resources"]
    assert bare["limits"] == {} and set(bare["requests"]) == {"cpu", "memory"}
    assert parts(pod(made(resources=Resources(cpus=0.0001))))[1]["resources"]["limits"]["cpu"] == "1m"


def test_there_is_time_for_last_words() -> None:
    assert pod(made(grace=12.0))["terminationGracePeriodSeconds"] > 12


# --- the namespace ---------------------------------------------------------------------------------------------------


def test_a_namespace_takes_restricted_pods_alone() -> None:
    labels = objects.namespace("ground-x", LABELS)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert labels[objects.MINE] == "0123456789abcdef"


def test_what_a_project_has_for_all_its_tasks_says_whose_it_is() -> None:
    expected = {f"{DOMAIN}/project": "trial", f"{DOMAIN}/team": "default", objects.MINE: "0123456789abcdef"}
    found = [
        objects.namespace("ground-trial", LABELS),
        *objects.network_policies("ground-trial", LABELS, "http://10.0.0.1:9000"),
        objects.local_queue("ground-trial", LABELS, "q"),
    ]
    assert [each["kind"] for each in found] == ["Namespace", "NetworkPolicy", "NetworkPolicy", "LocalQueue"]
    for each in found:
        assert expected.items() <= each["metadata"]["labels"].items(), each["kind"]
        assert objects.ATTEMPT not in each["metadata"]["labels"]  # what has none is no leftover of an attempt
    assert expected.items() <= objects.labels_of(made()).items()


def test_any_project_and_team_make_labels_of_a_namespace() -> None:
    for value in objects.labels_in("My Project", "R & D", "0123456789abcdef").values():
        assert LABEL.fullmatch(value), value


def test_nothing_comes_in_and_only_staging_goes_out() -> None:
    default, wide = objects.network_policies("n", LABELS, "http://10.1.2.3:9000")
    assert default["spec"]["podSelector"] == {}
    assert default["spec"]["policyTypes"] == ["Ingress", "Egress"] and "ingress" not in default["spec"]
    _, reach = default["spec"]["egress"]
    assert reach == {"ports": [{"port": 9000, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}]}
    selected = wide["spec"]["podSelector"]["matchLabels"]
    template = objects.job(made(network=True), Placing())["spec"]["template"]["metadata"]["labels"]
    assert selected.items() <= template.items()
    assert not selected.items() <= objects.job(made(), Placing())["spec"]["template"]["metadata"]["labels"].items()


def test_a_storage_by_name_opens_its_port() -> None:
    for storage, port in (("https://s3.example.com", 443), ("http://s3.example.com", 80), ("http://[::1]:9", 9)):
        _, reach = objects.network_policies("n", LABELS, storage)[0]["spec"]["egress"]
        assert reach["ports"] == [{"port": port, "protocol": "TCP"}]
        assert reach.get("to", []) == ([{"ipBlock": {"cidr": "::1/128"}}] if "::1" in storage else [])
