"""A pod played on this machine: a store behind signed URLs, the agent's container, and the one the work runs in."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from groundplane.agent.pod import MAIN
from groundplane.spi import segments, wire
from groundplane.spi.launch import Launch, Observation
from groundplane.spi.pod import STOP
from tests.conformance.driver_bench import PATIENCE
from tests.integration.agent_bench import alive

# Here the two containers share their process namespace with everybody: only what carries the attempt's id is the pod's.
_AGENT = """
import sys
from groundplane.agent import pod, pod_work, processes
attempt, change = sys.argv[1:3]
del sys.argv[1:3]
pod_work.everyone = lambda: {each.pid: each for each in processes.members({attempt: 0})[attempt]}
exec(change)
sys.exit(pod.main())
"""


class Store:
    """Signed URLs over HTTP. answers: what a path says instead, one after the other, before it works."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.answers: dict[str, list[int]] = {}
        self.asked: list[str] = []
        store = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                store.asked.append(f"GET {self.path}")
                status = store.status(self.path)
                data = store.content.get(self.path) if status == 200 else b"no"
                self.answer(404 if data is None else status, data or b"")

            def do_PUT(self) -> None:
                store.asked.append(f"PUT {self.path}")
                status = store.status(self.path)
                data = self.rfile.read(int(self.headers["Content-Length"]))
                if status == 200:
                    store.content[self.path] = data
                self.answer(status, b"")

            def answer(self, status: int, data: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def status(self, path: str) -> int:
        answers = self.answers.get(path)
        return answers.pop(0) if answers else 200

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}{path}"


@dataclass
class Told:
    """What a pod's agent said, and what it left in the store."""

    observation: Observation
    uploaded: bool
    log: bytes
    started: int
    result: dict[str, bytes]
    raw: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def output(self, stream: int) -> bytes:
        return b"".join(record.data for record, _ in segments.decode(self.log) if record.stream == stream)


class Pod:
    """One pod. shell: what the image's `sh` is."""

    def __init__(self, folder: Path, store: Store, launch: Launch, shell: tuple[str, ...] = ("dash",)) -> None:
        self.base = folder / "ground"
        self.base.mkdir(exist_ok=True)
        self.store = store
        self.launch = launch
        self._shell = shell
        self.lines: list[dict[str, Any]] = []
        self.agent: subprocess.Popen[bytes] | None = None
        self.main: subprocess.Popen[bytes] | None = None
        self.order: dict[str, Any] = {
            "launch": wire.plain(launch),
            "snapshot": "",
            "inputs": {},
            "result": store.url("/result?secret"),
        }

    @property
    def home(self) -> Path:
        return self.base / "home"

    def snapshot(self, files: dict[str, bytes]) -> None:
        """Members of the tar that the snapshot's URL gives."""
        self.store.content["/snapshot"] = _tar(files)
        self.order["snapshot"] = self.store.url("/snapshot")

    def input(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        self.store.content[f"/input/{digest}"] = data
        self.order["inputs"][digest] = self.store.url(f"/input/{digest}")
        return digest

    def start_agent(self, change: str = "") -> None:
        order = self.base.parent / "order.json"
        order.write_text(json.dumps(self.order))
        words = [sys.executable, "-I", "-c", _AGENT, self.launch.attempt, change, str(self.base), str(order)]
        self.agent = subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True)
        self._listener = threading.Thread(target=self._listen, args=(self.agent,), daemon=True)
        self._listener.start()

    def start_main(self) -> None:
        environment = {"PATH": os.environ["PATH"], "FROM_IMAGE": "yes"}
        words = [*self._shell, *MAIN[1:], str(self.base)]
        self.main = subprocess.Popen(words, env=environment, start_new_session=True)

    def stop(self) -> None:
        """As the preStop hook does."""
        subprocess.run([*STOP, str(self.base)], check=True)

    def terminate(self) -> None:
        assert self.agent is not None
        self.agent.send_signal(signal.SIGTERM)

    def _listen(self, agent: subprocess.Popen[bytes]) -> None:
        assert agent.stdout is not None
        with agent.stdout as lines:
            for line in lines:
                self.lines.append(wire.parse(line))

    def until(self, kind: str) -> dict[str, Any]:
        """The first line of that kind."""
        return self.eventually(lambda: next((line for line in self.lines if line["t"] == kind), None))

    def eventually(self, look: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE
        while not (found := look()):
            assert time.monotonic() < deadline, f"it did not come to be so: {self.lines[-3:]}"
            time.sleep(0.005)
        return found

    def run(self) -> Told:
        self.start_agent()
        self.start_main()
        return self.told()

    def told(self) -> Told:
        """Waits for the end, and checks what is so in every case."""
        ended = self.until("ended")
        log = b""
        for line in self.lines:
            if line["t"] == "log":
                assert line["from"] == len(log)
                data = base64.b64decode(line["data"])
                assert 0 < len(data) <= 8192
                log += data
        assert len(log) == ended["log_size"]
        observation = wire.decode(Observation, ended["observation"])
        assert observation.attempt == self.launch.attempt
        assert observation.epoch == self.launch.epoch
        result: dict[str, bytes] = {}
        if ended["uploaded"]:
            with tarfile.open(fileobj=io.BytesIO(self.store.content["/result?secret"])) as tar:
                for member in tar:
                    file = tar.extractfile(member)
                    assert file is not None
                    result[member.name] = file.read()
            assert result["log.seg"] == log
            assert wire.parse(result["observation.json"]) == ended["observation"]
        started = next((line["at"] for line in self.lines if line["t"] == "started"), 0)
        if started:
            assert observation.started_at == started
        return Told(observation, ended["uploaded"], log, started, result, self.lines)

    def close(self) -> None:
        """The kubelet's last word; nothing of it may be left."""
        if self.agent is not None:
            if self.agent.poll() is None:
                self.terminate()
            try:
                assert self.agent.wait(PATIENCE) == 0
            finally:
                self.agent.kill()
                self.agent.wait()
                self._listener.join()
        if self.main is not None:
            try:
                self.main.wait(PATIENCE)
            finally:
                self.main.kill()
                self.main.wait()


def _tar(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return target.getvalue()


@contextmanager
def store() -> Iterator[Store]:
    made = Store()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()


__all__ = ["Pod", "Store", "Told", "alive", "store"]
