"""`--on` a Kubeflow backend, against the stand-in of tests/kfp_server.py: no real server is to be had here. It executes
what is submitted; what Groundplane then has must be what a local run of the same project has."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from groundplane.drivers import kubeflow_backend
from groundplane.drivers.kubeflow import KubeflowDriver
from groundplane.spi.blobs import open_store
from groundplane.spi.launch import Called, Launch, Phase, Whole
from groundplane.spi.toolchain import Command
from tests.e2e.cli_ground import SETTLED, Ground, until
from tests.integration.test_kubeflow_compile import LINEAR, SCRIPTS
from tests.kfp_server import KfpServer, serving
from tests.parts import require

ONE = """\
[project]
name = "trial"
environment = "tiny"

[environments.tiny]
image = "tiny:1"

[pipelines.main.steps.first]
run = "first.sh"
outputs = ["first.txt"]

[pipelines.main.steps.second]
run = "second.sh"
inputs = { "first.txt" = "first/first.txt" }
outputs = ["second.txt"]
"""


@pytest.fixture
def kfp(tmp_path: Path) -> Iterator[KfpServer]:
    with serving(tmp_path / "kfp") as made:
        yield made


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    made = Ground(tmp_path)
    yield made
    made.close()


def added(ground: Ground, kfp: KfpServer, *words: str) -> None:
    ground("backends", "add", "kf", "--driver", "kubeflow", "--url", kfp.url, *words)


def linear(ground: Ground) -> None:
    ground.write("ground.toml", LINEAR)
    for name, text in SCRIPTS.items():
        ground.write(name, text)


def one(ground: Ground, first: str, second: str = "cat first.txt > second.txt\n", toml: str = ONE) -> None:
    ground.write("ground.toml", toml)
    ground.write("first.sh", first)
    ground.write("second.sh", second)


def latest(ground: Ground) -> dict[str, Any]:
    return ground.json("runs", "show", "latest")


def artifacts(ground: Ground) -> dict[str, tuple[str, int, str]]:
    found = ground.json("artifacts", "list", "latest")
    return {each["name"]: (each["kind"], each["size"], each["sha256"]) for each in found}


def runs_of(kfp: KfpServer) -> list[dict[str, Any]]:
    return [each.json for each in kfp.runs.values()]


def running(ground: Ground) -> bool:
    return latest(ground)["tasks"][0]["state"] == "running"


def test_the_same_artifacts_and_metrics_as_of_a_local_run(ground: Ground, kfp: KfpServer) -> None:
    linear(ground)
    added(ground, kfp)
    word = "Ä 'b' \"c\" \\ $d"
    done = ground("run", "main", "--on", "kf", "-p", f"word={word}")
    there, run = artifacts(ground), latest(ground)
    assert "n 2" in " ".join(done.stderr.split())
    assert {task["backend"] for task in run["tasks"]} == {"kf"}
    assert run["metrics"] == {"n": 2}
    (made,) = runs_of(kfp)
    assert made["display_name"] == f"main {run['id']}"
    assert made["runtime_config"]["parameters"] == {"word": word}
    assert [each["display_name"] for each in kfp.experiments] == [run["project"]]
    # What the images of the steps would be is nothing to a run here.
    ground.write("ground.toml", LINEAR.replace('environment = "tiny"\n', ""))
    ground("run", "main", "--on", "local", "--fresh", "-p", f"word={word}")
    here = artifacts(ground)
    assert latest(ground)["metrics"] == {"n": 2}
    assert len(here) == 8
    assert there == here


def test_logs_and_tasks_are_followed(ground: Ground, kfp: KfpServer) -> None:
    go = ground.work / "go"
    one(ground, f"echo early\nwhile [ ! -e {go} ]; do sleep 0.05; done\necho late\necho 1 > first.txt\n")
    added(ground, kfp)
    ground("run", "main", "--on", "kf", "--detach")
    until(lambda: ground("runs", "logs", "latest").stdout == "early\n", "the log while it runs")
    tasks = {task["name"]: task["state"] for task in latest(ground)["tasks"]}
    assert tasks == {"first": "running", "second": "queued"}
    go.touch()
    ground("runs", "wait", "latest")
    assert ground("runs", "logs", "latest").stdout == "early\nlate\n"
    assert latest(ground)["tasks"][0]["usage"]["wall_seconds"] > 0


def test_a_step_that_fails_says_why(ground: Ground, kfp: KfpServer) -> None:
    toml = ONE.replace('run = "first.sh"', 'run = "first.py"\nretries = 2')
    one(ground, "", toml=toml)
    count = ground.work.parent / "count"
    ground.write("first.py", f"open({str(count)!r}, 'a').write('x')\nopen('nothing.csv')\n")
    added(ground, kfp)
    done = ground("run", "main", "--on", "kf", code=1)
    assert "No such file or directory: 'nothing.csv'" in done.stderr
    run = latest(ground)
    first, second = run["tasks"]
    assert (first["state"], first["exit_code"], first["attempts"]) == ("failed", 1, 1)
    assert first["reason"]["fault"] == "user"
    assert (second["state"], second["reason"]["code"]) == ("cancelled", "upstream_failed")
    assert count.read_text() == "xxx"  # the retries are Kubeflow's
    assert len(kfp.runs) == 1


def test_a_missing_output_and_a_timeout(ground: Ground, kfp: KfpServer) -> None:
    one(ground, "true\n")
    added(ground, kfp)
    assert "the step left no first.txt" in ground("run", "main", "--on", "kf", code=1).stderr
    one(ground, "sleep 60\n", toml=ONE.replace('run = "first.sh"', 'run = "first.sh"\ntimeout = "1s"'))
    ground("run", "main", "--on", "kf", code=1)
    assert latest(ground)["tasks"][0]["reason"]["code"] == "timeout"


def test_a_cancelled_run_is_terminated_there(ground: Ground, kfp: KfpServer) -> None:
    one(ground, "echo begun\nexec sleep 60\n")
    added(ground, kfp)
    ground("run", "main", "--on", "kf", "--detach")
    until(lambda: running(ground), "it runs")
    ground("runs", "cancel", "latest")
    ground("runs", "wait", "latest", code=None)
    assert latest(ground)["state"] == "cancelled"
    (made,) = runs_of(kfp)
    until(lambda: made["state"] == "CANCELED", "it is terminated")
    assert [each["state"] for each in made["run_details"]["task_details"]].count("CANCELED") == 2


def test_a_control_plane_that_is_killed_loses_nothing(ground: Ground, kfp: KfpServer) -> None:
    go = ground.work / "go"
    one(ground, f"echo a\nwhile [ ! -e {go} ]; do sleep 0.05; done\necho b\necho 1 > first.txt\n")
    added(ground, kfp)
    ground("run", "main", "--on", "kf", "--detach")
    until(lambda: ground("runs", "logs", "latest").stdout == "a\n", "its first line")
    os.kill(ground.pid(), signal.SIGKILL)
    go.touch()
    (made,) = runs_of(kfp)
    until(lambda: made["state"] == "SUCCEEDED", "it runs on by itself")
    ground("runs", "wait", "latest")
    assert ground("runs", "logs", "latest").stdout == "a\nb\n"
    assert set(artifacts(ground)) == {"first/first.txt", "second/second.txt"}
    assert len(kfp.runs) == 1
    assert [task["attempts"] for task in latest(ground)["tasks"]] == [1, 1]


def test_a_server_that_is_away_for_a_while(ground: Ground, kfp: KfpServer) -> None:
    go = ground.work / "go"
    one(ground, f"while [ ! -e {go} ]; do sleep 0.05; done\necho 1 > first.txt\n")
    added(ground, kfp)
    ground("run", "main", "--on", "kf", "--detach")
    until(lambda: running(ground), "it runs")
    kfp.down()
    go.touch()
    (made,) = runs_of(kfp)
    until(lambda: made["state"] == "SUCCEEDED", "it runs on by itself")
    time.sleep(1.5)  # some rounds in which nobody answers
    assert latest(ground)["state"] == "running"
    told = ground.json("backends", "check", "kf", code=3)[0]
    assert "does not answer" in told["message"]
    kfp.up()
    ground("runs", "wait", "latest")
    assert set(artifacts(ground)) == {"first/first.txt", "second/second.txt"}
    kfp.down()
    done = ground("run", "main", "--on", "kf", code=3)
    assert "does not answer" in done.stderr
    kfp.up()


def test_an_answer_that_got_lost_makes_no_second_run(ground: Ground, kfp: KfpServer) -> None:
    one(ground, "echo 1 > first.txt\n")
    added(ground, kfp)
    kfp.fails_after_creating = 1
    ground("run", "main", "--on", "kf")
    assert len(kfp.runs) == 1


def test_a_run_that_somebody_deletes_is_not_made_again(ground: Ground, kfp: KfpServer) -> None:
    one(ground, "exec sleep 60\n")
    added(ground, kfp)
    ground("run", "main", "--on", "kf", "--detach")
    until(lambda: running(ground), "it runs")
    for run in list(kfp.runs.values()):
        run.stop()
        del kfp.runs[run.id]
    ground("runs", "wait", "latest", code=None)
    reason = latest(ground)["tasks"][0]["reason"]
    assert (reason["code"], reason["fault"]) == ("run_gone", "backend")
    assert "ground runs rerun" in reason["hint"]
    assert not kfp.runs


def launch(task: str, epoch: int = 1, **whole: Any) -> Launch:
    called = {"first": Called("first", {}), "second": Called("second", {}, first=False)}
    body = {"root": {"dag": {"tasks": {}}}, "pipelineInfo": {"name": "p"}}
    made = Whole("p", json.dumps(body), called)
    return Launch(f"uid.0.0.{whole.get('n', 1)}", epoch, "uid", task, "", Command(()), {}, whole=made)


def test_only_what_may_be_the_first_makes_a_run(kfp: KfpServer, tmp_path: Path) -> None:
    driver = KubeflowDriver(tmp_path, "kf", kubeflow_backend.read(tmp_path, "kf", {"url": kfp.url}))
    assert driver.observe(["uid.0.0.1"])[0].phase is Phase.UNKNOWN
    assert driver.submit([launch("second", epoch=3)])[0].refused is None
    (told,) = until(lambda: [o for o in driver.observe(["uid.0.0.1"]) if o.phase is Phase.ENDED], "its end")
    assert (told.reason.code if told.reason else "", told.epoch) == ("run_gone", 3)
    assert not kfp.runs
    refused = driver.submit([launch("second", epoch=2)])[0].refused
    assert refused is not None
    assert refused.code == "stale"
    driver.cleanup(["uid.0.0.1"])
    assert driver.observe(["uid.0.0.1"])[0].phase is Phase.UNKNOWN
    driver.submit([launch("first", n=2)])
    (told,) = until(lambda: [o for o in driver.observe(["uid.0.0.2"]) if o.phase is Phase.ENDED], "its end")
    assert told.reason is not None  # this pipeline has no such task
    assert "never began it" in told.reason.message
    assert len(kfp.runs) == 1
    assert [seen.attempt for seen in driver.changes("", 1.0).observations] == ["uid.0.0.2"]
    driver.close()


def test_its_own_cache_counts_and_not_ours(ground: Ground, kfp: KfpServer) -> None:
    count = ground.work.parent / "count"
    one(ground, f"echo x >> {count}\necho 1 > first.txt\n")
    added(ground, kfp)
    ground("run", "main", "--on", "kf")
    first = artifacts(ground)
    ground("run", "main", "--on", "kf")
    assert not any(task["reused"] for task in latest(ground)["tasks"])
    assert artifacts(ground) == first
    assert count.read_text() == "x\n"
    ground("run", "main", "--on", "kf", "--fresh")
    assert count.read_text() == "x\nx\n"


def test_what_failed_is_run_again_as_a_run_of_its_own(ground: Ground, kfp: KfpServer) -> None:
    mended, count = ground.work.parent / "mended", ground.work.parent / "count"
    one(ground, f"echo x >> {count}\necho 1 > first.txt\n", f"test -e {mended} || exit 4\ncp first.txt second.txt\n")
    added(ground, kfp)
    ground("run", "main", "--on", "kf", code=1)
    mended.touch()
    ground("runs", "rerun", "latest", "--failed")
    assert set(artifacts(ground)) == {"first/first.txt", "second/second.txt"}
    assert count.read_text() == "x\n"  # Kubeflow's cache had it
    assert len(kfp.runs) == 2


def test_outputs_that_are_not_given_away_fail_the_task_and_say_so(ground: Ground, kfp: KfpServer) -> None:
    one(ground, "echo 1 > first.txt\n")
    added(ground, kfp)
    kfp.gives_artifacts = False
    told = ground.json("backends", "check", "kf")[0]
    assert told["facts"]["artifacts"].startswith("its API gives none away: outputs stay there")
    ground("run", "main", "--on", "kf", code=3)
    reason = latest(ground)["tasks"][0]["reason"]
    assert (reason["code"], reason["fault"]) == ("result_not_given", "backend")
    assert "'first.txt'" in reason["message"]
    assert len(kfp.runs) == 1


def test_outputs_come_from_the_storage_where_the_api_gives_none_away(ground: Ground, kfp: KfpServer) -> None:
    require("s3")
    from tests.s3_server import server

    linear(ground)
    toml = LINEAR.replace('["north", "south"]', '["north", "south", "north"]')
    ground.write("ground.toml", toml)
    kfp.gives_artifacts, kfp.tells_nothing = False, True
    with server() as s3:
        s3.make_bucket("kubeflow")
        kfp.store_url = "s3://kubeflow/artifacts"
        kfp.store = open_store(kfp.store_url, s3.variables)
        ground.env |= s3.variables
        added(ground, kfp, "--storage", kfp.store_url)
        for name in s3.variables:
            del ground.env[name]
        told = ground.json("backends", "check", "kf")[0]
        assert told["facts"]["artifacts"] == "fetched from s3://kubeflow/artifacts"
        ground("run", "main", "--on", "kf", "-p", "word=w")
        there = artifacts(ground)
        assert ground.json("runs", "show", "latest")["metrics"] == {"n": 2}
    (made,) = runs_of(kfp)
    assert made["runtime_config"]["pipeline_root"] == f"s3://kubeflow/artifacts/{latest(ground)['id']}"
    (spec,) = (run.spec for run in kfp.runs.values())
    assert not any(task.get("cachingOptions") for task in spec["root"]["dag"]["tasks"].values())
    ground.write("ground.toml", toml.replace('environment = "tiny"\n', ""))
    ground("run", "main", "--on", "local", "--fresh", "-p", "word=w")
    assert len(there) == 9
    assert artifacts(ground) == there


def test_a_token_and_a_namespace(ground: Ground, tmp_path: Path) -> None:
    one(ground, "echo 1 > first.txt\n")
    with serving(tmp_path / "other", token="s3cr3t-token", multi_user=True) as kfp:
        done = ground("backends", "add", "kf", "--driver", "kubeflow", "--url", kfp.url)
        assert "does not know who asks" in done.stdout
        assert "KF_PIPELINES_TOKEN" in done.stdout
        ground("backends", "rm", "kf")
        ground.env["KF_PIPELINES_TOKEN"] = "s3cr3t-token"
        done = ground("backends", "add", "kf", "--driver", "kubeflow", "--url", kfp.url)
        assert "--namespace NS" in done.stdout
        ground("backends", "rm", "kf")
        added(ground, kfp, "--namespace", "team-a")
        del ground.env["KF_PIPELINES_TOKEN"]
        told = ground.json("backends", "check", "kf")[0]
        assert "untested against a real Kubeflow server" in told["message"]
        assert told["facts"]["version"] == "stand-in"
        secret = ground.home / "backends" / "kf.json"
        assert secret.stat().st_mode & 0o777 == 0o600
        ground("down")  # the token is there for the next control plane
        ground("run", "main", "--on", "kf")
        assert [each["namespace"] for each in kfp.experiments] == ["team-a"]
        for path in (path for path in ground.home.rglob("*") if path.is_file() and path != secret):
            assert b"s3cr3t-token" not in path.read_bytes(), path
        ground("backends", "rm", "kf")
        assert not secret.exists()


def test_what_cannot_run_there_is_refused_before_anything_is_sent(ground: Ground, kfp: KfpServer) -> None:
    one(ground, "echo 1 > first.txt\n")
    added(ground, kfp)
    before = len(kfp.requests)
    said = ground("run", "first.sh", "--on", "kf", code=2).stderr
    assert "is a script alone" in said
    said = ground("run", "main", "--on", "kf", "-e", "KEY=1", code=2).stderr
    assert "KFP cannot hold KEY" in said
    ground.write("ground.toml", ONE.replace('run = "second.sh"', 'run = "second.sh"\non = "docker"'))
    ground.write(
        "ground.toml", (ground.work / "ground.toml").read_text().replace('name = "trial"', 'name = "trial"\non = "kf"')
    )
    said = ground("run", "main", code=2).stderr
    assert "step 'second' runs on 'docker', and backend 'kf' runs a pipeline whole" in said
    ground.write("ground.toml", ONE.replace('image = "tiny:1"', 'toolchain = "r@4.5"'))
    assert "is in no registry" in ground("run", "main", "--on", "kf", code=2).stderr
    ground.write("ground.toml", ONE.replace("first/first.txt", "https://example.org/x"))
    assert "KFP cannot hold the input" in ground("run", "main", "--on", "kf", code=2).stderr
    ground.write("ground.toml", ONE)
    steps = ground.json("plan", "main", "--on", "kf")["steps"]
    assert {step["reuse"] for step in steps} == {"its backend's cache decides"}
    assert [each for each in kfp.requests[before:] if "/runs" in each[1]] == []


def test_what_was_left_there_is_ended(ground: Ground, kfp: KfpServer) -> None:
    one(ground, "exec sleep 60\n")
    added(ground, kfp)
    ground("run", "main", "--on", "kf", "--detach")
    until(lambda: running(ground), "it runs")
    assert ground("backends", "gc", "kf").stdout == "kf: nothing was left\n"
    (made,) = kfp.runs.values()
    made.json["display_name"] = "main 00000000-0000-7000-8000-000000000000"  # as of a run that nobody has any more
    assert "kf: deleted run main 0000" in ground("backends", "gc", "kf").stdout
    until(lambda: made.json["state"] == "CANCELED", "it is ended")
    until(lambda: latest(ground)["state"] in SETTLED, "it is told")


def test_the_real_sdks_client_reads_the_stand_in(ground: Ground, kfp: KfpServer) -> None:
    """What it answers is of the published OpenAPI: the client that was made from it takes it, and knows each field."""
    require("kfp")
    one(ground, "echo 1 > first.txt\n")
    added(ground, kfp)
    ground("run", "main", "--on", "kf")
    program = """
import json, sys
import kfp_server_api as api
client = api.ApiClient(api.Configuration(host=sys.argv[1]))
runs = api.RunServiceApi(client)
(run,) = runs.run_service_list_runs(filter=json.dumps({"predicates": [
    {"key": "display_name", "operation": "EQUALS", "string_value": sys.argv[2]}]})).runs
whole = runs.run_service_get_run(run.run_id)
health = api.HealthzServiceApi(client).healthz_service_get_healthz()
told = json.loads(runs.run_service_get_run(run.run_id, _preload_content=False).data)
known = set(api.V2beta1Run.attribute_map.values())
tasks = set(api.V2beta1PipelineTaskDetail.attribute_map.values())
print(json.dumps({"state": whole.state, "multi_user": health.multi_user, "unknown": sorted(set(told) - known),
    "unknown of tasks": sorted({key for each in told["run_details"]["task_details"] for key in each} - tasks)}))
"""
    name = runs_of(kfp)[0]["display_name"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, kfp.url, name], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "state": "SUCCEEDED", "multi_user": False, "unknown": [], "unknown of tasks": [],
    }  # fmt: skip
