"""A script on a cluster beside a bare Job of the same image, and how soon its pod is there.

GROUND_BENCH_CLUSTER holds the options of `ground backends add` (`--image-registry … --storage …`); kubectl, KUBECONFIG
and the AWS_* variables are as for these.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from bench.figures import Figure, median, ms
from bench.ground import Ground

_ROUNDS = 8
_SPEC = '[project]\nname = "bench"\n[environments.sh]\ntoolchain = "shell"\n'


def measure() -> Iterator[Figure]:
    """Nothing where no cluster is told."""
    options = os.environ.get("GROUND_BENCH_CLUSTER", "")
    if not options:
        print("kubernetes: not measured: GROUND_BENCH_CLUSTER tells of no cluster", file=sys.stderr)
        return
    with Ground() as ground:
        ground.write("ground.toml", _SPEC)
        ground.write("a.sh", "echo hello; echo 5 > out.txt\n")
        ground("env", "lock")
        ground("backends", "add", "bench", "--driver", "kubernetes", *shlex.split(options))
        run = ("run", "a.sh", "--env", "sh", "--on", "bench", "--fresh")
        seen = _Pods()
        ground(*run)
        image = seen.image()
        ours, bare, pods = list[float](), list[float](), list[float]()
        for _ in range(_ROUNDS):  # in turn: what slows one slows the other
            bare.append(_job(image))
            began = time.time()
            ours.append(ground(*run))
            pods.append(seen.first_since(began) - began)
        seen.end()
    yield Figure(
        "`ground run a.sh --on kubernetes`, warm", ms(median(ours)), f"{ms(median(bare))} (bare Job)",
        f"{median(ours) / median(bare):.2f}", "< bare + 1250 ms", median(ours) < median(bare) + 1.25,
    )  # fmt: skip
    yield Figure("from `ground run` to its pod", ms(median(pods)), "", "", "< 150 ms", median(pods) < 0.15)


def _job(image: str) -> float:
    """Seconds from a Job's creation to its condition Complete."""
    name = f"bare-{time.monotonic_ns():x}"
    shell = ["sh", "-c", "echo hello; echo 5 > /tmp/out.txt"]
    pod = {"restartPolicy": "Never", "containers": [{"name": "a", "image": image, "command": shell}]}
    body = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"template": {"spec": pod}},
    }
    watching = subprocess.Popen(
        ["kubectl", "get", "--raw", "/apis/batch/v1/namespaces/default/jobs?watch=1&timeoutSeconds=60"],
        stdout=subprocess.PIPE,
    )
    time.sleep(0.5)
    _kubectl("create", "-f", "-", text=json.dumps(body))
    assert watching.stdout is not None
    began = 0.0
    try:
        for line in watching.stdout:
            event: Any = json.loads(line)
            if event["object"]["metadata"]["name"] != name:
                continue
            began = began or time.monotonic()
            conditions = event["object"].get("status", {}).get("conditions") or ()
            if any(each["type"] == "Complete" and each["status"] == "True" for each in conditions):
                return time.monotonic() - began
    finally:
        watching.kill()
        _kubectl("-n", "default", "delete", "job", name, "--wait=false")
    raise RuntimeError("the bare Job did not end within a minute")


class _Pods:
    """When the task's pods were created, as a watcher beside the measured command sees it."""

    def __init__(self) -> None:
        path = "/api/v1/pods?watch=1&timeoutSeconds=600&labelSelector=groundplane.io%2Ftask%3Da.sh"
        self._watching = subprocess.Popen(["kubectl", "get", "--raw", path], stdout=subprocess.PIPE)
        self._seen: list[tuple[float, str]] = []
        threading.Thread(target=self._follow, daemon=True).start()
        time.sleep(0.5)

    def _follow(self) -> None:
        assert self._watching.stdout is not None
        for line in self._watching.stdout:
            event: Any = json.loads(line)
            if event["type"] == "ADDED":
                self._seen.append((time.time(), event["object"]["spec"]["containers"][0]["image"]))

    def image(self) -> str:
        return self._seen[-1][1]

    def first_since(self, moment: float) -> float:
        return next(at for at, _ in self._seen if at >= moment)

    def end(self) -> None:
        self._watching.kill()


def _kubectl(*words: str, text: str = "") -> None:
    subprocess.run(["kubectl", *words], input=text.encode(), capture_output=True, check=True)
