"""A STAND-IN for a Kubeflow Pipelines server: no real one is to be had here.

Its paths and field names are those of KFP's published OpenAPI (the run, experiment, healthz and artifacts services of
v2beta1) and of the log's v1alpha1 path. It runs the components of a PipelineSpec as processes of this machine, in no
image, with their retries, deadlines and cache; it knows of a spec what Groundplane's compiler writes: containers, a DAG
of them, and loops over values that are written down.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from graphlib import TopologicalSorter
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from groundplane.spi.blobs import BlobStore

Body = dict[str, Any]
FINAL = ("SUCCEEDED", "FAILED", "CANCELED")
_PLACE = re.compile(r"\{\{\$(?:\.(inputs|outputs)\.(parameters|artifacts)\['([^']+)'\](?:\.(path|uri))?)?\}\}")


def now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


class Stopped(Exception):
    """The run was terminated, or another task has failed."""


class Failed(Exception):
    """A task did."""


class _Running:
    """One run: its JSON as the API tells it, and a thread that plays the workflow engine."""

    def __init__(self, server: KfpServer, body: Body) -> None:
        self.server = server
        self.id = str(uuid.uuid4())
        self.folder = server.folder / self.id
        self.json: Body = {
            **body, "run_id": self.id, "state": "PENDING", "created_at": now(), "storage_state": "AVAILABLE",
            "run_details": {"task_details": []},
        }  # fmt: skip
        given = body["pipeline_spec"]
        self.spec: Body = given.get("pipeline_spec", given)
        platforms = given.get("platform_spec", {}).get("platforms", {})
        self.platform: Body = platforms.get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
        self.logs: dict[str, Path] = {}
        self.stopping = threading.Event()
        self.processes: set[subprocess.Popen[bytes]] = set()
        threading.Thread(target=self.play, daemon=True).start()

    @property
    def details(self) -> list[Body]:
        return self.json["run_details"]["task_details"]

    def play(self) -> None:
        self.json["state"] = "RUNNING"
        declared = self.spec["root"].get("inputDefinitions", {}).get("parameters", {})
        values = {name: each.get("defaultValue") for name, each in declared.items()}
        values |= self.json["runtime_config"].get("parameters", {})
        try:
            self.dag(self.spec["root"]["dag"], values, {}, self.detail("root", ""))
            state = "SUCCEEDED"
        except Stopped:
            state = "CANCELED"
        except Failed as failed:
            state = "FAILED"
            self.json["error"] = {"code": 13, "message": str(failed)}
        self.json |= {"state": state, "finished_at": now()}

    def stop(self) -> None:
        self.json["state"] = "CANCELING"
        self.stopping.set()
        for process in list(self.processes):
            os.killpg(process.pid, signal.SIGTERM)

    def detail(self, name: str, parent: str) -> Body:
        made: Body = {
            "run_id": self.id, "task_id": str(uuid.uuid4()), "display_name": name, "create_time": now(),
            "start_time": now(), "state": "RUNNING", **({"parent_task_id": parent} if parent else {}),
        }  # fmt: skip
        self.details.append(made)
        return made

    def dag(self, dag: Body, values: Body, artifacts: Body, around: Body) -> Body:
        """Its outputs: name -> list of artifacts."""
        tasks, outputs = dag["tasks"], {}
        sorter = TopologicalSorter({name: task.get("dependentTasks", []) for name, task in tasks.items()})
        sorter.prepare()
        problem: list[Exception] = []
        lock, threads, changed = threading.Lock(), [], threading.Event()

        def run(name: str) -> None:
            try:
                made = self.task(name, tasks[name], values, artifacts, outputs, around["task_id"])
                with lock:
                    outputs[name] = made
                    sorter.done(name)
            except (Stopped, Failed) as error:
                problem.append(error)
            changed.set()

        while sorter.is_active() and not problem:  # as Argo: when one has failed, no other begins
            changed.clear()
            with lock:
                ready = sorter.get_ready()
            for name in ready:
                threads.append(threading.Thread(target=run, args=(name,), daemon=True))
                threads[-1].start()
            changed.wait(0.2)
        for thread in threads:
            thread.join()
        if problem:
            around |= {"state": "CANCELED" if isinstance(problem[0], Stopped) else "FAILED", "end_time": now()}
            raise problem[0]
        around |= {"state": "SUCCEEDED", "end_time": now()}
        return {
            name: [each for one in told["artifactSelectors"] for each in
                   outputs[one["producerSubtask"]][one["outputArtifactKey"]]]
            for name, told in dag.get("outputs", {}).get("artifacts", {}).items()
        }  # fmt: skip

    def task(self, name: str, task: Body, values: Body, artifacts: Body, made: Body, parent: str) -> Body:
        if self.stopping.is_set():
            raise Stopped
        component = self.spec["components"][task["componentRef"]["name"]]
        inputs = task.get("inputs", {})
        given = {
            key: source["runtimeValue"]["constant"] if "runtimeValue" in source
            else values[source["componentInputParameter"]]
            for key, source in inputs.get("parameters", {}).items()
        }  # fmt: skip
        read = {
            key: made[source["taskOutputArtifact"]["producerTask"]][source["taskOutputArtifact"]["outputArtifactKey"]]
            if "taskOutputArtifact" in source else artifacts[source["componentInputArtifact"]]
            for key, source in inputs.get("artifacts", {}).items()
        }  # fmt: skip
        if "parameterIterator" in task:
            return self.loop(name, task, component, given, read, parent)
        return self.container(name, task, component, given, read, parent)

    def loop(self, name: str, task: Body, component: Body, given: Body, read: Body, parent: str) -> Body:
        around = self.detail(name, parent)
        items = json.loads(task["parameterIterator"]["items"]["raw"])
        limit = threading.Semaphore(task.get("iteratorPolicy", {}).get("parallelismLimit", len(items)))
        results: list[Any] = [None] * len(items)

        def one(number: int, item: str) -> None:
            with limit:
                inside = self.detail(f"{name}-iteration({number}:{number})", around["task_id"])
                try:
                    values = {**given, task["parameterIterator"]["itemInput"]: item}
                    results[number] = self.dag(component["dag"], values, read, inside)
                except (Stopped, Failed) as error:
                    results[number] = error

        threads = [threading.Thread(target=one, args=each, daemon=True) for each in enumerate(items)]
        # The last first: nobody may take the order in which they are told for that of the items.
        for thread in reversed(threads):
            thread.start()
        for thread in threads:
            thread.join()
        for result in results:
            if isinstance(result, Exception):
                around |= {"state": "FAILED", "end_time": now()}
                raise result
        around |= {"state": "SUCCEEDED", "end_time": now()}
        names = component["dag"].get("outputs", {}).get("artifacts", {})
        return {key: [each for result in results for each in result[key]] for key in names}

    def container(self, name: str, task: Body, component: Body, given: Body, read: Body, parent: str) -> Body:
        detail = self.detail(name, parent)
        label = component["executorLabel"]
        container = self.spec["deploymentSpec"]["executors"][label]["container"]
        folder = self.folder / name / detail["task_id"]
        folder.mkdir(parents=True)
        detail["pod_name"] = pod = f"{name}-{detail['task_id'][:8]}"
        self.logs[pod] = folder / "log"
        declared = component.get("outputDefinitions", {}).get("artifacts", {})
        out = {key: {"name": key, "uri": str(folder / key), "type": kind["artifactType"]["schemaTitle"]}
               for key, kind in declared.items()}  # fmt: skip
        key = _key(container, given, read) if task.get("cachingOptions", {}).get("enableCache") else ""
        if key in self.server.cache:
            self.logs.pop(pod)
            detail |= {"state": "SKIPPED", "end_time": now(), "outputs": self.server.cache[key]["told"]}
            return self.server.cache[key]["made"]
        tries = 1 + task.get("retryPolicy", {}).get("maxRetryCount", 0)
        deadline = self.platform.get(label, {}).get("activeDeadlineSeconds")
        for left in reversed(range(tries)):
            code = self.execute(container, given, read, out, folder, deadline)
            if self.stopping.is_set():
                detail |= {"state": "CANCELED", "end_time": now()}
                raise Stopped
            if code == 0:
                break
            if not left:
                said = "Pod was active on the node longer than the specified deadline" if code is None else (
                    f"main: Error (exit code {code})")  # fmt: skip
                detail |= {"state": "FAILED", "end_time": now(), "error": {"code": 13, "message": said}}
                raise Failed(f"{name}: {said}")
        for each in out.values():
            self.server.keep(each, self.json.get("namespace", ""))
        told = {key: {"artifact_ids": [each["id"]]} for key, each in out.items()}
        detail |= {"state": "SUCCEEDED", "end_time": now(), **({} if self.server.tells_nothing else {"outputs": told})}
        made = {key: [each] for key, each in out.items()}
        if root := self.json["runtime_config"].get("pipeline_root"):
            pipeline = self.spec["pipelineInfo"]["name"]
            place = f"{root.removeprefix(self.server.store_url)}/{pipeline}/{self.id}/{name}/{detail['task_id']}"
            self.server.upload(place.lstrip("/"), folder, list(out))
        if key:
            self.server.cache[key] = {"made": made, "told": told}
        return made

    def execute(self, container: Body, given: Body, read: Body, out: Body, folder: Path, deadline: Any) -> int | None:
        executor_input = json.dumps(
            {
                "inputs": {"parameterValues": given, "artifacts": {key: {"artifacts": of} for key, of in read.items()}},
                "outputs": {
                    "artifacts": {key: {"artifacts": [of]} for key, of in out.items()},
                    "outputFile": str(folder / "executor_output.json"),
                },
            }
        )

        def filled(hit: re.Match[str]) -> str:
            if hit[1] is None:
                return executor_input
            if hit[2] == "parameters":
                return str(given[hit[3]])
            return (read[hit[3]][0] if hit[1] == "inputs" else out[hit[3]])["uri"]

        argv = [_PLACE.sub(filled, word) for word in (*container["command"], *container["args"])]
        with (folder / "log").open("ab") as log, subprocess.Popen(
            argv, cwd=folder, env={"PATH": os.environ["PATH"], "TMPDIR": str(folder)}, stdin=subprocess.DEVNULL,
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        ) as process:  # fmt: skip
            self.processes.add(process)
            try:
                return process.wait(deadline)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                return None
            finally:
                self.processes.discard(process)


def _key(container: Body, given: Body, read: Body) -> str:
    digests = {key: [each["digest"] for each in of] for key, of in read.items()}
    return sha256(json.dumps([container, given, digests], sort_keys=True).encode()).hexdigest()


class KfpServer:
    """Runs in this process, on a port of its own. token: what it wants to hear. tells_nothing: task_details without
    `outputs`. gives_artifacts: whether it has the artifacts service. requests: (method, path) of each so far."""

    def __init__(self, folder: Path, token: str = "", multi_user: bool = False) -> None:
        self.folder = folder
        self.token = token
        self.multi_user = multi_user
        self.tells_nothing = False
        self.gives_artifacts = True
        self.runs: dict[str, _Running] = {}
        self.experiments: list[Body] = []
        self.artifacts: dict[str, Body] = {}
        self.cache: dict[str, Body] = {}
        self.requests: list[tuple[str, str]] = []
        self.fails_after_creating = 0
        self.store: BlobStore | None = None  # where runs keep their artifacts that say a pipeline_root in there
        self.store_url = ""
        self._lock = threading.Lock()
        self._port = 0
        self._http: ThreadingHTTPServer | None = None
        self.up()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def up(self) -> None:
        handler = type("Handler", (_Handler,), {"kfp": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", self._port), handler)
        self._http.daemon_threads = True
        self._port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def down(self) -> None:
        """Nobody answers; what runs runs on."""
        assert self._http is not None
        self._http.shutdown()
        self._http.server_close()

    def upload(self, place: str, folder: Path, names: list[str]) -> None:
        assert self.store is not None
        for path in (each for name in names for each in [folder / name, *(folder / name).rglob("*")]):
            if path.is_file():
                self.store.put(f"{place}/{path.relative_to(folder)}", path)

    def keep(self, artifact: Body, namespace: str) -> None:
        path = Path(artifact["uri"])
        with self._lock:
            artifact["id"] = str(len(self.artifacts) + 1)
            self.artifacts[artifact["id"]] = {
                "artifact_id": artifact["id"], "uri": artifact["uri"], "artifact_type": artifact["type"],
                "namespace": namespace, "created_at": now(),
                **({"artifact_size": str(path.stat().st_size)} if path.is_file() else {}),
            }  # fmt: skip
        artifact["digest"] = _digest(path)


def _digest(path: Path) -> str:
    found = sha256()
    for each in [path, *sorted(path.rglob("*"))]:
        found.update(str(each.relative_to(path)).encode())
        if each.is_file():
            found.update(each.read_bytes())
    return found.hexdigest()


class _Handler(BaseHTTPRequestHandler):
    kfp: KfpServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.answer("GET")

    def do_POST(self) -> None:
        self.answer("POST")

    def do_DELETE(self) -> None:
        self.answer("DELETE")

    def answer(self, method: str) -> None:
        parted = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parted.query).items()}
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        self.kfp.requests.append((method, parted.path))
        if parted.path.startswith("/store/"):
            self.store(parted.path.removeprefix("/store/"), query)
            return
        if self.kfp.token and self.headers.get("Authorization") != f"Bearer {self.kfp.token}":
            self.reply(401, {"code": 16, "message": "Unauthenticated"})
            return
        for wanted, pattern, do in _ROUTES:
            hit = re.fullmatch(pattern, parted.path)
            if wanted == method and hit:
                do(self, query, body, *hit.groups())
                return
        self.reply(404, {"code": 5, "message": "Not Found"})

    def reply(self, status: int, body: Any) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def healthz(self, query: Mapping[str, str], body: Body) -> None:
        self.reply(200, {"tag_name": "stand-in", "multi_user": self.kfp.multi_user, "pipeline_store": "database"})

    def list_of(self, key: str, found: list[Body], query: Mapping[str, str]) -> None:
        for each in json.loads(query.get("filter", "{}")).get("predicates", []):
            assert each["operation"] == "EQUALS", each
            found = [one for one in found if one.get(each["key"]) == each["string_value"]]
        if self.kfp.multi_user:
            if "namespace" not in query:
                self.reply(400, {"code": 3, "message": "Invalid input error: Namespace cannot be empty"})
                return
            spaces = {each["experiment_id"]: each.get("namespace") for each in self.kfp.experiments}
            found = [each for each in found if spaces[each["experiment_id"]] == query["namespace"]]
        start, size = int(query.get("page_token", 0)), int(query.get("page_size", 10))
        more = {"next_page_token": str(start + size)} if len(found) > start + size else {}
        self.reply(200, {key: found[start : start + size], "total_size": len(found), **more})

    def list_experiments(self, query: Mapping[str, str], body: Body) -> None:
        self.list_of("experiments", self.kfp.experiments, query)

    def create_experiment(self, query: Mapping[str, str], body: Body) -> None:
        made = {**body, "experiment_id": str(uuid.uuid4()), "created_at": now()}
        self.kfp.experiments.append(made)
        self.reply(200, made)

    def list_runs(self, query: Mapping[str, str], body: Body) -> None:
        self.list_of("runs", [each.json for each in self.kfp.runs.values()], query)

    def create_run(self, query: Mapping[str, str], body: Body) -> None:
        if not body.get("display_name") or "pipeline_spec" not in body:
            self.reply(400, {"code": 3, "message": "Invalid input error: the run has no name or no pipeline"})
            return
        made = _Running(self.kfp, body)
        self.kfp.runs[made.id] = made
        if self.kfp.fails_after_creating:
            self.kfp.fails_after_creating -= 1
            self.reply(503, {"code": 14, "message": "upstream connect error"})
            return
        self.reply(200, made.json)

    def get_run(self, query: Mapping[str, str], body: Body, run: str) -> None:
        found = self.kfp.runs.get(run)
        self.reply(*((200, found.json) if found else (404, {"code": 5, "message": f"Run {run} not found"})))

    def delete_run(self, query: Mapping[str, str], body: Body, run: str) -> None:
        found = self.kfp.runs.pop(run)
        found.stop()
        self.reply(200, {})

    def terminate_run(self, query: Mapping[str, str], body: Body, run: str) -> None:
        self.kfp.runs[run].stop()
        self.reply(200, {})

    def read_log(self, query: Mapping[str, str], body: Body, run: str, node: str) -> None:
        path = self.kfp.runs[run].logs.get(node) if run in self.kfp.runs else None
        if path is None:
            self.reply(500, {"error_message": f"pods {node!r} not found", "error_details": ""})
        else:
            self.reply(200, path.read_bytes() if path.exists() else b"")

    def list_artifacts(self, query: Mapping[str, str], body: Body) -> None:
        if not self.kfp.gives_artifacts:
            self.reply(404, {"code": 5, "message": "Not Found"})
            return
        self.reply(200, {"artifacts": list(self.kfp.artifacts.values())[: int(query.get("max_result_size", 20))]})

    def get_artifact(self, query: Mapping[str, str], body: Body, artifact: str) -> None:
        found = self.kfp.artifacts.get(artifact) if self.kfp.gives_artifacts else None
        if found is None:
            self.reply(404, {"code": 5, "message": "Not Found"})
            return
        signed = {"download_url": f"{self.kfp.url}/store/{artifact}?X-Signature=s"}
        self.reply(200, {**found, **(signed if query.get("view") == "DOWNLOAD" else {})})

    def store(self, artifact: str, query: Mapping[str, str]) -> None:
        """The object store behind it: it has files, and no folders."""
        path = Path(self.kfp.artifacts[artifact]["uri"])
        if query.get("X-Signature") != "s" or not path.is_file():
            self.reply(404, b"<Code>NoSuchKey</Code>")
            return
        self.reply(200, path.read_bytes())


_V2 = "/apis/v2beta1"
_ROUTES: list[tuple[str, str, Callable[..., None]]] = [
    ("GET", f"{_V2}/healthz", _Handler.healthz),
    ("GET", f"{_V2}/experiments", _Handler.list_experiments),
    ("POST", f"{_V2}/experiments", _Handler.create_experiment),
    ("GET", f"{_V2}/runs", _Handler.list_runs),
    ("POST", f"{_V2}/runs", _Handler.create_run),
    ("GET", f"{_V2}/runs/([^/:]+)", _Handler.get_run),
    ("DELETE", f"{_V2}/runs/([^/:]+)", _Handler.delete_run),
    ("POST", f"{_V2}/runs/([^/:]+):terminate", _Handler.terminate_run),
    ("GET", "/apis/v1alpha1/runs/([^/]+)/nodes/([^/]+)/log", _Handler.read_log),
    ("GET", f"{_V2}/artifacts", _Handler.list_artifacts),
    ("GET", f"{_V2}/artifacts/([^/:]+)", _Handler.get_artifact),
]


@contextmanager
def serving(folder: Path, **how: Any) -> Iterator[KfpServer]:
    """One that ends with all that it runs."""
    made = KfpServer(folder, **how)
    try:
        yield made
    finally:
        made.down()
        for run in made.runs.values():
            run.stop()
        shutil.rmtree(folder, ignore_errors=True)
