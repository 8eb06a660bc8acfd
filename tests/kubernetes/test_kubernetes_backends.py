"""Clusters as backends: what `check` finds missing, where credentials lie, and what is tidied up."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from groundplane.client import kubeconfig
from groundplane.drivers.kubernetes_objects import ATTEMPT, MINE
from tests.cluster import Site, eventually

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def site(kubernetes: Site, tmp_path: Path) -> Iterator[Site]:
    """A folder of one's own, and no backend but `k8s` in the end."""
    kubernetes.ground.work = tmp_path / kubernetes.project
    kubernetes.ground.work.mkdir()
    yield kubernetes
    for each in kubernetes.ground.json("backends", "list"):
        if each["name"] not in ("local", "docker", "k8s"):
            kubernetes.ground("backends", "rm", each["name"])


def missing(site: Site, name: str) -> list[str]:
    """What `check` says is missing."""
    (found,) = json.loads(site.ground("backends", "check", name, "--json", code=3).stdout)
    assert not found["ok"]
    return [text for key, text in found["facts"].items() if key.startswith("missing")]


def test_a_cluster_that_lacks_nothing_says_what_it_is(site: Site) -> None:
    (found,) = site.ground.json("backends", "check", "k8s")
    assert (found["ok"], found["message"], found["driver"]) == (True, "ready", "kubernetes")
    assert found["cpus"] > 0 and found["memory"] > 1 << 20
    assert site.api.server in found["facts"]["cluster"]
    assert "ENFORCED" in found["facts"]["network"].upper()


@pytest.mark.parametrize(
    ("words", "addresses", "said"),
    [
        (("--namespace", "ground-none-such"), {}, "namespace: there is no ground-none-such"),
        (("--queue", "none-such"), {}, "queue: there is no ClusterQueue none-such"),
        (("--queue", "none-such", "--namespace", "default"), {}, "queue: there is no LocalQueue none-such"),
        (("--runtime", "none-such"), {}, "runtime class: there is no none-such"),
        (("--priority", "none-such"), {}, "priority class: there is no none-such"),
        (("--account", "none-such"), {}, "service account: there is no none-such in any namespace"),
        (("--account", "nobody", "--namespace", "default"), {}, "service account: there is no nobody in namespace"),
        ((), {"registry": "http://127.0.0.1:1"}, "registry: "),
        ((), {"storage": "s3://none-such/x"}, "storage: "),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_in_a_line(
    site: Site, words: tuple[str, ...], addresses: dict[str, str], said: str
) -> None:
    made = site.add("lacking", *words, **addresses)
    assert not made["ok"]
    (line,) = missing(site, "lacking")
    assert line.startswith(said), line


def test_permissions_that_an_account_lacks_are_named(site: Site, tmp_path: Path) -> None:
    namespace = site.make_namespace()
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody", "namespace": namespace}}
    site.api.create(account)
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    made = site.api.ask("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts/nobody/token", asked)
    config = json.loads(kubeconfig.read(None, ""))
    user = {"token": made["status"]["token"]}
    config["users"] = [{"name": each["name"], "user": user} for each in config["users"]]
    file = tmp_path / "config"
    file.write_text(json.dumps(config))
    site.add("nobody", "--kubeconfig", str(file), "--namespace", namespace)
    lines = missing(site, "nobody")
    for wanted in ("create, get, list, delete jobs", "get, list, watch, delete pods", "get pods/log", "list events"):
        assert f"permission: may not {wanted} in namespace {namespace}" in lines, (wanted, lines)
    assert [line for line in lines if line.endswith(f"secrets in namespace {namespace}")], lines


def test_a_kubeconfig_that_cannot_be_used_is_refused(site: Site, tmp_path: Path) -> None:
    for words, said in (
        (("--kubeconfig", str(tmp_path / "none")), "cannot be read"),
        (("--context", "none-such"), "no context 'none-such'"),
    ):
        refused = site.add("bad", *words, code=2)
        assert said in refused.stderr and "hint:" in refused.stderr
    refused = site.ground("backends", "add", "bad", "--driver", "kubernetes", code=2)
    assert "--image-registry" in refused.stderr


def test_secrets_lie_in_one_file_for_its_owner_alone(site: Site) -> None:
    site.add("secret")
    kept = site.ground.home / "backends" / "secret.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o077 == 0
    key = site.s3.variables["AWS_SECRET_ACCESS_KEY"]
    words = [key, site.s3.variables["AWS_ACCESS_KEY_ID"], *user_secrets()]
    text = kept.read_text()
    assert all(word in text for word in words)
    said = site.ground("backends", "list", "--json").stdout + site.ground("backends", "check", "secret").stdout
    files = [path for path in site.ground.home.rglob("*") if path.is_file() and path.parent.name != "backends"]
    assert any(path.name == "ground.db" for path in files)
    for word in words:
        assert word not in said
        assert not [path for path in files if word.encode() in path.read_bytes()]
    site.ground("backends", "rm", "secret")
    assert not kept.exists()
    assert "secret" not in [each["name"] for each in site.ground.json("backends", "list")]


def test_a_backend_that_has_lost_its_credentials_holds_up_nothing_else(site: Site) -> None:
    ground = site.ground
    site.add("lost")
    ground.write("do.sh", "echo begun; sleep 15; echo done\n")
    run = ground.json("run", "do.sh", "--on", "lost", "--fresh", "--detach")["id"]
    eventually(lambda: ground.json("runs", "show", run)["state"] == "running")
    ground("down")
    kept = ground.home / "backends" / "lost.json"
    kept.write_text("{")
    ground.write("here.sh", "echo here\n")
    assert ground("run", "here.sh").stdout.startswith("here")
    (found,) = json.loads(ground("backends", "check", "lost", "--json", code=3).stdout)
    assert (found["ok"], found["driver"]) == (False, "kubernetes")
    assert "credentials of backend 'lost'" in found["message"] and str(kept) in found["message"]
    assert "ground backends add lost" in found["hint"]
    assert {each["name"]: each["ok"] for each in ground.json("backends", "list")}["k8s"] is True
    refused = ground("run", "here.sh", "--on", "lost", "--fresh", code=3)
    assert "credentials of backend 'lost'" in refused.stderr and "ground backends add lost" in refused.stderr
    assert site.add("lost")["ok"]
    ground("runs", "wait", run)
    assert ground("runs", "logs", run).stdout == "begun\ndone\n"
    assert ground.json("runs", "show", run)["tasks"][0]["attempts"] == 1
    kept.unlink()
    ground("backends", "rm", "lost")


def test_what_a_bucket_has_thrown_away_is_sent_again(site: Site) -> None:
    """A lifecycle rule that is eager. The pod asks for a minute: what it wants may still be on its way up."""
    site.ground.write("data.txt", "given\n")
    site.ground.write("do.sh", "cat data.txt\n")
    assert site.ground("run", "do.sh", "--on", "k8s", "--fresh").stdout.startswith("given\n")
    store = site.store()
    sent = [*store.listing("snapshots/"), *store.listing("blobs/")]
    assert sent
    store.delete(sent)
    done = site.ground.json("run", "do.sh", "--on", "k8s", "--fresh", patience=240)
    assert (done["state"], done["tasks"][0]["attempts"]) == ("succeeded", 2)
    assert site.ground("runs", "logs", done["id"]).stdout.splitlines()[-1] == "given"


def user_secrets() -> list[str]:
    """What proves who the tests' own user is."""
    (user,) = json.loads(kubeconfig.read(None, ""))["users"]
    return [value for name, value in user["user"].items() if name in ("token", "client-key-data")]


def test_the_same_again_changes_nothing_and_another_is_refused(site: Site) -> None:
    site.add("twice")
    site.add("twice")
    refused = site.add("twice", "--namespace", "default", code=2)
    assert "there is a backend 'twice' already" in refused.stderr


def test_what_was_left_is_deleted_and_nobody_elses(site: Site) -> None:
    namespace = site.make_namespace()
    site.add("gc", "--namespace", namespace)

    def left(name: str, control_plane: str) -> None:
        head: dict[str, Any] = {
            "name": name, "namespace": namespace, "labels": {MINE: control_plane},
            "annotations": {ATTEMPT: f"{name}.0.0.1"},
        }  # fmt: skip
        data = {"order.json": base64.b64encode(b"{}").decode()}
        site.api.create({"apiVersion": "v1", "kind": "Secret", "metadata": head, "data": data})
        pod = {
            "restartPolicy": "Never",
            "containers": [{"name": "work", "image": "none.invalid/none:1", "command": ["sh"]}],
        }
        spec = {"suspend": True, "template": {"spec": pod}}
        site.api.create({"apiVersion": "batch/v1", "kind": "Job", "metadata": head, "spec": spec})

    left("mine", site.control_plane)
    left("another", "0123456789abcdef")
    site.ground.write("do.sh", "echo begun; sleep 3")
    running = site.ground.json("run", "do.sh", "--on", "gc", "--fresh", "--detach")["id"]
    eventually(lambda: site.api.listing("Pod", namespace, run=running))
    said = site.ground("backends", "gc", "gc").stdout
    assert f"gc: deleted Job {namespace}/mine" in said
    assert f"gc: deleted Secret {namespace}/mine" in said
    assert "another" not in said and running not in said
    assert site.ground.json("runs", "wait", running)["state"] == "succeeded"
    for kind in ("Job", "Secret"):
        names = {found["metadata"]["name"] for found in site.api.listing(kind, namespace)}
        assert "another" in names and "mine" not in names
    eventually(lambda: not site.api.listing("Pod", namespace, run=running))
    assert site.ground("backends", "gc", "gc").stdout == "gc: nothing was left\n"
    site.ground("backends", "gc", "none-such", code=2)
