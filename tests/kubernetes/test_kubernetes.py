"""Work on a real cluster, as a user sees it. The first session of a version builds its staging image, for minutes."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from groundplane.drivers import kubernetes_objects as objects
from groundplane.drivers import kubernetes_reasons as reasons
from groundplane.drivers.kubernetes_api import Refused
from groundplane.drivers.kubernetes_objects import DOMAIN, Placing, Task
from groundplane.model.resources import Resources
from tests.cluster import Site, eventually

pytestmark = pytest.mark.timeout(600)

LABELS = {f"{DOMAIN}/{name}" for name in ("team", "project", "run", "task", "attempt", "control-plane")}


@pytest.fixture
def site(kubernetes: Site, tmp_path: Path) -> Iterator[Site]:
    """A folder of one's own; no Job is left behind."""
    kubernetes.ground.work = tmp_path / kubernetes.project
    kubernetes.ground.work.mkdir()
    yield kubernetes
    eventually(lambda: not kubernetes.mine("Job"))


def script(site: Site, text: str, *words: str, code: int = 0, on: str = "k8s") -> Any:
    """Runs a script there; the run's document."""
    site.ground.write("do.sh", text)
    return site.ground.json("run", "do.sh", "--on", on, "--fresh", *words, code=code)


def begun(site: Site, text: str, *words: str, on: str = "k8s") -> str:
    """Starts a script there; the run's id."""
    site.ground.write("do.sh", text)
    return site.ground.json("run", "do.sh", "--on", on, "--fresh", "--detach", *words)["id"]


def shown(site: Site, run: str) -> Any:
    return site.ground.json("runs", "show", run)


def task(site: Site, run: str) -> Any:
    """The only task of a run."""
    (found,) = shown(site, run)["tasks"]
    return found


def ended(site: Site, run: str) -> Any:
    """Waits for a run's end; its only task."""
    site.ground("runs", "wait", run, code=None)
    return task(site, run)


def pod_of(site: Site, run: str) -> Any:
    """Waits for a run's pod that prints already."""
    eventually(lambda: task(site, run)["state"] == "running")
    (found,) = site.api.listing("Pod", run=run)
    return found


# --- what a cluster is told ------------------------------------------------------------------------------------------


def made(namespace: str, **fields: Any) -> Task:
    given: dict[str, Any] = {
        "attempt": "01a22109-1b39-7d45-9725-89296f593581.0.1.1", "run": "01a22109-1b39-7d45-9725-89296f593581",
        "task": "fit[é, 'x']", "project": "My Project", "team": "R & D", "epoch": 1,
        "control_plane": "0123456789abcdef", "namespace": namespace,
        "image": "registry.example:5000/a@sha256:" + "0" * 64, "staging": "registry.example/s:1",
        "resources": Resources(cpus=0.5, memory=1 << 28, gpus=2, timeout=60.0), "network": True, "grace": 5.0,
    }  # fmt: skip
    return Task(**{**given, **fields})


def test_a_cluster_takes_every_object_with_every_option(site: Site) -> None:
    namespace = site.make_namespace({"pod-security.kubernetes.io/enforce": "restricted"})
    placing = Placing(
        queue="q" if site.api.has_kueue() else "",
        priority="system-cluster-critical",
        account="default",
        runtime="gvisor",
        selector={"disk": "ssd", "kubernetes.io/os": "linux"},
        tolerations=("gpu", "team=a:NoSchedule", ":NoExecute"),
    )
    full = made(namespace)
    labels = objects.labels_in(full.project, full.team, full.control_plane)
    bodies = [
        objects.namespace("ground-dry-run", labels),
        objects.secret(full, "{}"),
        objects.job(full, placing),
        objects.job(made(namespace, resources=Resources(), network=False), Placing()),
        *objects.network_policies(namespace, labels, "http://10.1.2.3:9000"),
        *objects.network_policies(namespace, labels, "https://s3.example.com"),
    ]
    if site.api.has_kueue():
        bodies.append(objects.local_queue(namespace, labels, "q"))
    for body in bodies:
        assert site.api.create(body, dry_run=True) is not None, body["kind"]
    template = objects.job(full, Placing(tolerations=placing.tolerations))["spec"]["template"]
    head = {**template["metadata"], "name": "dry", "namespace": namespace}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": head, "spec": template["spec"]}
    # The namespace takes nothing but restricted pods.
    assert site.api.create(pod, dry_run=True) is not None
    pod["spec"]["containers"][0]["securityContext"] = {}
    with pytest.raises(Refused, match="violates PodSecurity"):
        site.api.create(pod, dry_run=True)


# --- what a user sees ------------------------------------------------------------------------------------------------


def test_a_script_prints_leaves_files_and_gets_its_parameters_as_they_are(site: Site) -> None:
    value = """it's "so"\n$HOME `x` \\ äß→"""
    site.ground.write("data/in.txt", "given\n")
    site.ground.write(
        "do.sh", 'cat data/in.txt; printf "%s" "$GROUND_PARAM_P"; echo to err >&2; mkdir -p o; id -u >o/é.txt\n'
    )
    done = site.ground("run", "do.sh", "--on", "k8s", "--fresh", "-p", f"p={value}", "--out", "got")
    assert done.stdout.startswith(f"given\n{value}"), done.stdout
    assert "to err\n" in done.stderr
    assert (site.ground.work / "got" / "o" / "é.txt").read_text() == "1000\n"
    run = shown(site, "latest")
    assert (run["state"], run["backend"], run["tasks"][0]["exit_code"]) == ("succeeded", "k8s", 0)
    assert run["tasks"][0]["usage"]["wall_seconds"] > 0


PIPELINE = """
[project]
name = "{project}"
[pipelines.p.steps.made]
run = "made.sh"
outputs = ["table.csv", "metrics.json"]
[pipelines.p.steps.each]
run = "each.sh"
for_each = {{ k = [1, 2] }}
inputs = {{ "table.tsv" = "made/table.csv" }}
outputs = ["part.txt"]
[pipelines.p.steps.joined]
run = "joined.sh"
inputs = {{ "parts/" = "each/part.txt", "table.parquet" = "made/table.csv" }}
outputs = ["all.txt", "table.parquet"]
"""


def test_a_pipeline_gives_the_same_artifacts_here_and_there(site: Site) -> None:
    site.ground.write("ground.toml", PIPELINE.format(project=site.project))
    site.ground.write("made.sh", """printf 'a,b\\n1,x\\n2,é\\n' >table.csv; echo '{"rows": 2}' >metrics.json\n""")
    site.ground.write("each.sh", 'cat table.tsv >part.txt; echo "$GROUND_PARAM_K" >>part.txt\n')
    site.ground.write("joined.sh", "for each in parts/*; do cat $each; done >all.txt\n")
    here, there = (site.ground.json("run", "p", "--on", on, "--fresh") for on in ("local", "k8s"))
    assert artifacts(there) == artifacts(here)
    assert len(artifacts(there)) == 6
    assert there["metrics"] == here["metrics"] == {"rows": 2}


def artifacts(run: Any) -> dict[str, str]:
    return {f"{each['name']}/{out['name']}": out["sha256"] for each in run["tasks"] for out in each["outputs"]}


def test_how_work_ends_is_told(site: Site) -> None:
    failed = begun(site, "echo why >&2; exit 3")
    full = begun(site, "tail /dev/zero", "--memory", "64MiB")
    late = begun(site, "echo begun; sleep 60", "--timeout", "1s")
    found = ended(site, failed)
    assert (found["exit_code"], found["reason"]["code"], found["reason"]["fault"]) == (3, "error", "user")
    assert "why" in found["reason"]["message"]
    assert ended(site, full)["reason"]["code"] == "out_of_memory"
    assert ended(site, late)["reason"]["code"] == "timeout"
    assert {task(site, run)["attempts"] for run in (failed, full, late)} == {1}


def test_a_long_log_is_whole_when_the_pod_is_gone(site: Site) -> None:
    run = script(site, "seq 1 450000", "--memory", "64MiB")["id"]
    eventually(lambda: not site.api.listing("Pod", run=run))
    printed = site.ground("runs", "logs", run).stdout.splitlines()
    assert printed == [str(number) for number in range(1, 450001)]


def test_what_is_cancelled_leaves_nothing(site: Site) -> None:
    run = begun(site, "trap 'echo last; exit 0' TERM; echo begun; sleep 60 & wait")
    pod_of(site, run)
    site.ground("runs", "cancel", run)
    found = ended(site, run)
    assert (found["state"], found["reason"]["code"]) == ("cancelled", "cancelled")
    for kind in ("Job", "Pod", "Secret"):
        eventually(lambda kind=kind: not site.api.listing(kind, run=run))
    eventually(lambda: not [key for key in site.store().listing("attempts/") if run in key])


@pytest.mark.parametrize("fixed", [False, True], ids=["project's", "--namespace"])
def test_every_object_says_whose_it_is(site: Site, fixed: bool) -> None:
    namespace, backend = site.namespace, "k8s"
    if fixed:
        namespace, backend = site.make_namespace(), "fixed"
        assert site.add("fixed", "--namespace", namespace)["ok"]
    run = begun(site, "echo begun; sleep 2", on=backend)
    pod_of(site, run)
    for kind in ("Job", "Pod", "Secret"):
        (found,) = site.api.listing(kind, namespace, run=run)
        labels = found["metadata"]["labels"]
        assert set(labels) >= LABELS, kind
        assert labels[f"{DOMAIN}/control-plane"] == site.control_plane
        assert labels[f"{DOMAIN}/project"] == site.project
        assert labels[f"{DOMAIN}/task"] == "do.sh"
    secrets = [str(value) for name, value in site.s3.variables.items() if "KEY" in name]
    for kind in ("Job", "Pod"):
        text = str(site.api.listing(kind, namespace, run=run))
        assert "echo begun" not in text and "X-Amz" not in text and not [each for each in secrets if each in text]
    assert not [each for each in secrets if each in str(site.api.listing("Secret", namespace, run=run))]
    policies = site.api.listing("NetworkPolicy", namespace)
    for each in (*policies, *([] if fixed else [site.api.get("Namespace", namespace)])):
        for name in ("project", "team"):
            assert each["metadata"]["labels"][f"{DOMAIN}/{name}"] == labels[f"{DOMAIN}/{name}"], each["kind"]
    assert {each["metadata"]["name"] for each in policies} == (set() if fixed else {"ground-default", "ground-network"})
    assert ended(site, run)["state"] == "succeeded"
    if fixed:
        site.ground("backends", "rm", "fixed")


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_a_pod_that_is_taken_away_is_made_again_at_no_charge(site: Site) -> None:
    taken: dict[str, str] = {}
    for how in ("pod_deleted", "evicted", "deadline_exceeded of Pod", "deadline_exceeded of Job"):
        run = begun(site, "echo begun; sleep 3; echo done")
        take_away(site, pod_of(site, run), *how.split(" of "))
        taken[run] = how.partition(" ")[0]
    for run, code in taken.items():
        eventually(lambda run=run: task(site, run)["attempts"] == 2)
        found = ended(site, run)
        assert (found["state"], found["attempts"]) == ("succeeded", 2)
        assert site.ground("runs", "logs", run).stdout.splitlines()[-1] == "done"
        with closing(sqlite3.connect(f"file:{site.ground.home}/ground.db?mode=ro", uri=True)) as database:
            asked = "SELECT reason FROM attempts WHERE uid LIKE ? ORDER BY number"
            (first,), (second,) = database.execute(asked, (f"{run}.%",)).fetchall()
        assert f'"{code}"' in first, first
        assert second is None


def take_away(site: Site, pod: Any, code: str, kind: str = "") -> None:
    """As somebody does for whom a task's pod then ends with this code."""
    head = pod["metadata"]
    if code == "evicted":
        where = f"/api/v1/namespaces/{head['namespace']}/pods/{head['name']}/eviction"
        name = {"name": head["name"], "namespace": head["namespace"]}
        site.api.ask("POST", where, {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": name})
    elif code == "deadline_exceeded":
        name = head["name"] if kind == "Pod" else head["ownerReferences"][0]["name"]
        site.api.patch(kind, name, head["namespace"], {"spec": {"activeDeadlineSeconds": 1}})
    else:
        assert site.api.delete("Pod", head["name"], head["namespace"], grace=0)


def test_a_control_plane_that_is_killed_loses_nothing(site: Site) -> None:
    run = begun(site, "for i in $(seq 60); do echo line $i; sleep 0.05; done")
    pod_of(site, run)
    os.kill(site.ground.pid(), signal.SIGKILL)
    found = ended(site, run)
    assert (found["state"], found["attempts"]) == ("succeeded", 1)
    lines = Counter(site.ground("runs", "logs", run).stdout.splitlines())
    assert lines == Counter(f"line {number}" for number in range(1, 61))


def test_an_image_that_its_registry_does_not_have_is_no_reason_to_wait(site: Site) -> None:
    image = f"{site.registry.removeprefix('http://')}/none:1"
    namespace = site.make_namespace()
    body = objects.job(made(namespace, image=image, staging=image, resources=Resources()), Placing())
    pod = {"restartPolicy": "Never", "containers": [{"name": "work", "image": image, "command": ["sh"]}]}
    body["spec"]["template"]["spec"] = pod
    site.api.create(body)
    try:
        found = eventually(lambda: next(filter(None, map(reasons.waits, site.api.listing("Pod", namespace))), None))
        assert found.over and found.reason.code == "image_missing", found
        assert image in found.reason.message
    finally:
        site.api.delete("Job", body["metadata"]["name"], namespace)


def test_a_place_that_no_node_has_is_waited_for_and_then_given_up(site: Site) -> None:
    site.add("nowhere", "--selector", "groundplane.io/none=such", "--patience", "4s")
    run = begun(site, "echo never", on="nowhere")
    told = waits(site, run, "unschedulable")
    assert "no node takes it" in told["message"] and told["fault"] == "backend"
    found = ended(site, run)
    assert (found["state"], found["reason"]["code"]) == ("failed", "unschedulable")
    site.ground("backends", "rm", "nowhere")


def test_what_the_cluster_makes_no_pod_of_is_waited_for_no_longer_than_a_place(site: Site) -> None:
    assert not site.add("podless", "--priority", "none-such", "--patience", "2s")["ok"]
    run = begun(site, "echo never", on="podless")
    assert "no PriorityClass with name none-such" in waits(site, run, "unschedulable")["message"]
    found = ended(site, run)
    assert (found["state"], found["reason"]["code"]) == ("failed", "unschedulable")
    site.ground("backends", "rm", "podless")


def test_a_namespace_that_is_not_there_is_named_at_once(site: Site) -> None:
    site.add("homeless", "--namespace", "ground-none-such")
    found = script(site, "echo never", code=3, on="homeless")["tasks"][0]
    assert found["reason"]["code"] == "backend_unavailable"
    assert "ground-none-such" in found["reason"]["message"]
    site.ground("backends", "rm", "homeless")


def test_a_bucket_that_is_not_there_is_named_while_it_is_waited_for(site: Site) -> None:
    site.add("bucketless", storage="s3://none-such/p")
    run = begun(site, "echo never", on="bucketless")
    told = waits(site, run, "storage_unavailable")
    assert "bucket none-such" in told["message"] and told["hint"]
    site.ground("runs", "cancel", run)
    assert ended(site, run)["state"] == "cancelled"
    site.ground("backends", "rm", "bucketless")


def test_a_full_quota_is_waited_for(site: Site) -> None:
    runs: dict[str, str] = {}
    for counted in ("pods", "count/jobs.batch"):
        namespace, name = site.make_namespace(), f"quota-{counted.partition('/')[0]}"
        quota = {
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": namespace},
            "spec": {"hard": {counted: "0"}},
        }  # fmt: skip
        site.api.create(quota)
        eventually(lambda at=namespace: (site.api.get("ResourceQuota", "none", at) or {}).get("status", {}).get("hard"))
        site.add(name, "--namespace", namespace, "--patience", "1s")
        assert f"{counted}: 0 of 0" in site.ground("backends", "check", name, code=None).stdout
        runs[begun(site, "echo after all", on=name)] = namespace
    for run, namespace in runs.items():
        assert "quota" in waits(site, run, "waiting_for_quota")["message"]
        site.api.delete("ResourceQuota", "none", namespace)
    for run in runs:
        assert ended(site, run)["state"] == "succeeded"
        assert task(site, run)["attempts"] == 1
        site.ground("backends", "rm", shown(site, run)["backend"])


def waits(site: Site, run: str, code: str) -> Any:
    """Waits until the run's task tells that it waits for this."""

    def told() -> Any:
        found = task(site, run)
        assert found["state"] in ("queued", "starting"), found
        return next((each for each in (found["waiting"], found["reason"]) if each and each["code"] == code), None)

    return eventually(told)


def test_kueue_says_where_a_task_stands_and_lets_it_go_on(site: Site) -> None:
    if not site.api.has_kueue():
        pytest.skip("this cluster has no Kueue")
    name = site.project
    site.api.ask("POST", "/apis/kueue.x-k8s.io/v1beta2/resourceflavors", flavor(name))
    site.api.ask("POST", "/apis/kueue.x-k8s.io/v1beta2/clusterqueues", cluster_queue(name))
    try:
        assert site.add("queued", "--queue", name)["ok"]
        first = begun(site, "echo begun; sleep 12", "--cpus", "0.1", on="queued")
        pod_of(site, first)
        others = [begun(site, "echo later", "--cpus", "0.1", on="queued") for _ in range(2)]
        told = [waits(site, run, "waiting_for_quota")["message"] for run in others]
        assert all(f"Kueue's queue {name}" in each for each in told), told

        def is_head(run: str) -> bool:
            said = (task(site, run)["waiting"] or {}).get("message", "")
            return "first in line" in said and "insufficient" in said

        # Kueue orders by seconds, so either of the two may be the first; it says why when it has looked at that one.
        eventually(lambda: any(map(is_head, others)))
        assert [ended(site, run)["state"] for run in (first, *others)] == ["succeeded"] * 3
        site.ground("backends", "rm", "queued")
    finally:
        for kind in ("clusterqueues", "resourceflavors"):
            site.api.ask("DELETE", f"/apis/kueue.x-k8s.io/v1beta2/{kind}/{name}")


def flavor(name: str) -> dict[str, Any]:
    return {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ResourceFlavor", "metadata": {"name": name}}


def cluster_queue(name: str) -> dict[str, Any]:
    """Room for one task that asks for a tenth of a CPU."""
    quotas = [{"name": "cpu", "nominalQuota": "150m"}, {"name": "memory", "nominalQuota": "1Gi"}]
    return {
        "apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ClusterQueue", "metadata": {"name": name},
        "spec": {
            "namespaceSelector": {},
            "resourceGroups": [
                {"coveredResources": ["cpu", "memory"], "flavors": [{"name": name, "resources": quotas}]}
            ],
        },
    }  # fmt: skip


def test_a_registry_that_nodes_cannot_pull_from_is_waited_for(site: Site, tmp_path: Path) -> None:
    from tests import docker_engine
    from tests.cluster import HOST

    # This machine reads from it without TLS; the nodes were told so of another one alone.
    with docker_engine.registry(tmp_path / "registry", host=HOST, proxy=site.registry) as address:
        site.add("closed", "--patience", "3s", registry=f"http://{address}")
        run = begun(site, "echo never", on="closed")
        assert address in waits(site, run, "image_pull")["message"]
        found = ended(site, run)
    assert (found["state"], found["reason"]["code"]) == ("failed", "image_pull")
    site.ground("backends", "rm", "closed")
