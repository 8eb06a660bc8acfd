"""The process that the agent starts for work in a container: it stands for the container as long as that lives.

See `COMMAND`: started by its name or as a module it would be compiled, or looked for, each time.

The container's output is its output, a SIGTERM to it is one to the container, and at its end `Spec.verdict` says how
the container ended. The work's variables come as its own, each name behind `PREFIX`, so that none is in a file. An
engine on this host mounts the working copy; to an engine elsewhere it is carried, and back. It imports little, for its
start is part of every container's.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping

from groundplane.drivers.docker_usage import Usage
from groundplane.model.errors import Unavailable
from groundplane.model.faults import Fault
from groundplane.oci.address import Address
from groundplane.oci.engine import Engine, Refused, frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

COMMAND = ("-I", "-c", "import sys; from groundplane.drivers.docker_container import main; main(sys.argv[1])")
"""Arguments of an interpreter; the path of the `Spec` follows."""
PREFIX = "GROUND_WORK_"
WORK, SUPPORT = "/ground/work", "/ground/support"
_PATIENCE = 60.0
_AGAIN = 0.2
_SAMPLES = 0.1
_LINGERS = 2.0
_LOOKS = 0.004
_SHARED_MEMORY = 1 << 30
"""Bytes that `/dev/shm` may hold: the engine's 64 MiB are too few for what shares arrays between processes."""
_LARGEST_LOG = "1000g"
"""Never reached: the engine's log is only read where its stream broke, and must then have it all."""


class Spec:
    """A JSON object with all of these names.

    tree, support: folders of this host, mounted where the engine shares its files. verdict: file. user: as `User` of
    the engine's API. pinned: to the cores that this process may use. grace: seconds between SIGTERM and SIGKILL.
    """

    def __init__(self, body: Mapping[str, Any]) -> None:
        self.address = Address(body["url"], body["tls"])
        self.image: str = body["image"]
        self.argv: list[str] = body["argv"]
        self.attempt: str = body["attempt"]
        self.agent: str = body["agent"]
        self.tree: str = body["tree"]
        self.support: str = body["support"]
        self.verdict: str = body["verdict"]
        self.user: str = body["user"]
        self.network: bool = body["network"]
        self.pinned: bool = body["pinned"]
        self.cpus: float | None = body["cpus"]
        self.memory: int | None = body["memory"]
        self.grace: float = body["grace"]

    @property
    def folders(self) -> dict[str, str]:
        """Path in the container -> folder of this host."""
        return {WORK: self.tree, SUPPORT: self.support}

    @property
    def name(self) -> str:
        """The container's."""
        return container_name(self.attempt)

    @property
    def task(self) -> str:
        """The attempt without its number."""
        return self.attempt.rpartition(".")[0]


def container_name(attempt: str) -> str:
    """What an attempt's container is called."""
    return f"ground-{attempt}"


class Ended(Exception):
    """The work cannot be followed to an end of its own; reason: as `model.reasons.Reason` in JSON."""

    def __init__(self, code: str, message: str, hint: str = "", fault: Fault = Fault.USER) -> None:
        super().__init__(message)
        self.reason = {"code": code, "message": message, "hint": hint, "fault": fault}


class Proxy:
    """One container, from its creation to its end."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._engine = Engine(spec.address)
        self._aside = Engine(spec.address)  # signal handlers speak here, in the middle of what the other one does
        self._written = {1: 0, 2: 0}
        self._usage = Usage(self._aside, spec.name, here=spec.address.shares_files)
        self._kill_at = 0.0
        self._stopping = False
        self._running = False

    def run(self) -> dict[str, Any]:
        """The `spi.launch.Verdict` as JSON has it."""
        signal.signal(signal.SIGTERM, self._on_stop)
        try:
            self._make()
            state = self._follow()
            if not self._spec.address.shares_files:
                self._carrying().fetch(self._engine, self._spec.name, self._spec.folders)
            reason = _out_of_memory(self._spec, state)
        except Ended as ended:
            return {"reason": ended.reason}
        except Unavailable as error:
            return {"reason": _lost(error.message).reason}
        except Refused as refused:
            return {"reason": _lost(refused.message).reason}
        cpu, memory = self._usage.figures
        return {"exit_code": state["ExitCode"], "cpu": cpu, "memory": memory, "reason": reason}

    def _carrying(self) -> Any:
        from groundplane.drivers import docker_carrying  # what an engine on this host has no need of

        return docker_carrying

    # --- before the start ---------------------------------------------------------------------------------------------

    def _make(self) -> None:
        self._remove_earlier()
        try:
            self._create()
        except Refused as refused:
            if refused.status == 404:
                text = f"the engine has no image {self._spec.image}"
                raise Ended("image_missing", text, "it is brought there again", Fault.BACKEND) from refused
            raise Ended("start_failed", f"its container could not be made: {refused.message}") from refused
        if not self._spec.address.shares_files:
            self._carrying().carry(self._engine, self._spec.name, self._spec.folders, self._spec.user)

    def _remove_earlier(self) -> None:
        """What an earlier attempt left running must not run beside this one."""
        if self._spec.attempt.endswith(".1"):
            return
        wanted = json.dumps({"label": [f"ground.task={self._spec.task}"]})
        for found in self._patiently("GET", "/containers/json", {"all": 1, "filters": wanted}):
            self._patiently("DELETE", f"/containers/{found['Id']}", {"force": 1, "v": 1}, allowed=(404, 409))

    def _create(self) -> None:
        try:
            self._patiently("POST", "/containers/create", {"name": self._spec.name}, _body(self._spec))
        except Refused as refused:
            if refused.status != 409:
                raise
            # Asked twice, for the first answer was lost; or a leftover of the same attempt. It has not begun.
            self._patiently("DELETE", f"/containers/{self._spec.name}", {"force": 1, "v": 1}, allowed=(404,))
            self._patiently("POST", "/containers/create", {"name": self._spec.name}, _body(self._spec))

    # --- while it runs ------------------------------------------------------------------------------------------------

    def _follow(self) -> Mapping[str, Any]:
        """Copies its output until its end; its state then, as the engine tells it."""
        sock, reader = self._engine.attach(self._spec.name)
        if self._stopping:
            raise Ended("cancelled", "it was cancelled before it began")
        self._running = True
        try:
            self._engine.call("POST", f"/containers/{self._spec.name}/start", tries=1)
        except Refused as refused:
            raise _not_started(self._spec, refused.message) from refused
        signal.signal(signal.SIGALRM, self._on_sample)
        signal.setitimer(signal.ITIMER_REAL, _SAMPLES, _SAMPLES)
        try:
            self._copy(frames(reader), skip={})
            sock.close()
            return self._end()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _end(self) -> Mapping[str, Any]:
        """Waits until the engine says that it has ended; where its stream broke, its output goes on from there."""
        broken = False
        while True:
            try:
                state = self._state()
                if not state["Running"]:
                    if state["ExitCode"] < 128 or self._stopping or state["OOMKilled"] or broken or self._answers():
                        return state
                    raise ConnectionAbortedError("it is ending, and its containers with it")  # noqa: TRY301
                self._copy(self._logged(), skip=dict(self._written))
            except (Unavailable, ConnectionAbortedError) as error:
                if not self._patiently("GET", "/info")["LiveRestoreEnabled"]:
                    raise _lost("it was restarted, and its containers ended with it") from error
                self._copy(self._logged(), skip=dict(self._written))
            broken = True

    def _state(self) -> Mapping[str, Any]:
        """How it is: its stream ends a moment before it does, so one that still runs is asked again for a while."""
        deadline = time.monotonic() + _LINGERS
        while True:
            state = self._engine.call("GET", f"/containers/{self._spec.name}/json", tries=1)["State"]
            if not state["Running"] or time.monotonic() > deadline:
                return state
            time.sleep(_LOOKS)

    def _logged(self) -> Iterator[tuple[int, bytes]]:
        """What the engine's own log has, until the container's end or the next outage."""
        query = {"stdout": 1, "stderr": 1, "follow": 1}
        try:
            yield from self._engine.framed("GET", f"/containers/{self._spec.name}/logs", query)
        except Unavailable:
            return

    def _copy(self, found: Iterator[tuple[int, bytes]], skip: dict[int, int]) -> None:
        """skip: bytes of each stream that were copied before."""
        try:
            for number, data in found:
                known = min(skip.get(number, 0), len(data))
                if known:
                    skip[number] -= known
                    data = data[known:]
                self._written[number] += len(data)
                while data:
                    data = data[os.write(number, data) :]
        except (ConnectionError, TimeoutError):
            return  # the engine ended: what it has not sent is in its log

    def _answers(self) -> bool:
        """Whether the engine takes requests: one that is ending ends its containers after it stopped listening."""
        probe = Engine(self._spec.address)
        try:
            probe.call("GET", "/_ping", tries=1)
        except ValueError:
            return True  # it says OK, which is no JSON
        except (Unavailable, Refused):
            return False
        finally:
            probe.close()
        return True

    # --- signals ------------------------------------------------------------------------------------------------------

    def _on_stop(self, *_: object) -> None:
        self._stopping = True
        if not self._kill_at:
            self._kill_at = time.monotonic() + self._spec.grace
            self._signal("SIGTERM")

    def _on_sample(self, *_: object) -> None:
        self._usage.sample()
        if self._kill_at and time.monotonic() > self._kill_at:
            self._kill_at = time.monotonic() + 1.0
            self._signal("SIGKILL")

    def _signal(self, name: str) -> None:
        if self._running:
            try:
                self._aside.call("POST", f"/containers/{self._spec.name}/kill", {"signal": name})
            except (Refused, Unavailable) as error:  # it has ended; or the engine has, and then it is found out
                sys.stderr.write(f"groundplane: {name} was not delivered: {error}\n")

    def _patiently(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        body: object = None,
        allowed: tuple[int, ...] = (),
    ) -> Any:
        """The same call until the engine answers, for a minute. allowed: errors that are as good as an answer."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return self._engine.call(method, path, query, body)
            except Unavailable as error:
                if time.monotonic() > deadline or self._stopping:
                    raise _lost(error.message) from error
                time.sleep(_AGAIN)
            except Refused as refused:
                if refused.status in allowed:
                    return None
                raise


def _body(spec: Spec) -> dict[str, Any]:
    """The container as the engine's API describes it."""
    env = [f"{name.removeprefix(PREFIX)}={value}" for name, value in os.environ.items() if name.startswith(PREFIX)]
    env += [f"GROUND_ATTEMPT={spec.attempt}", f"TMPDIR={SUPPORT}/tmp", "HOME=/tmp"]  # noqa: S108
    host: dict[str, Any] = {
        "NetworkMode": "bridge" if spec.network else "none",
        "ReadonlyRootfs": True,
        "Tmpfs": {"/tmp": "rw,nosuid,nodev,mode=1777"},  # noqa: S108
        "ShmSize": _SHARED_MEMORY,
        "Init": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "UsernsMode": "host",
        "LogConfig": {"Type": "local", "Config": {"max-size": _LARGEST_LOG, "max-file": "1", "compress": "false"}},
    }
    if spec.address.shares_files:
        host["Mounts"] = [
            {"Type": "bind", "Source": source, "Target": target} for target, source in spec.folders.items()
        ]
    else:
        host["Mounts"] = [{"Type": "volume", "Target": target} for target in spec.folders]
    if spec.cpus:
        host["NanoCpus"] = round(spec.cpus * 1e9)
    if spec.memory:
        host |= {"Memory": spec.memory, "MemorySwap": spec.memory}
    cores = sorted(os.sched_getaffinity(0))
    if spec.pinned:
        host["CpusetCpus"] = ",".join(map(str, cores))
    if devices := os.environ.get("CUDA_VISIBLE_DEVICES"):
        host["DeviceRequests"] = [{"Driver": "nvidia", "DeviceIDs": devices.split(","), "Capabilities": [["gpu"]]}]
    return {
        "Image": spec.image,
        "Entrypoint": [spec.argv[0]],
        "Cmd": list(spec.argv[1:]),
        "Env": env,
        "User": spec.user,
        "WorkingDir": WORK,
        "AttachStdout": True,
        "AttachStderr": True,
        "Labels": {"ground.attempt": spec.attempt, "ground.task": spec.task, "ground.agent": spec.agent},
        "HostConfig": host,
    }


def _out_of_memory(spec: Spec, state: Mapping[str, Any]) -> Mapping[str, str] | None:
    if not (spec.memory and state["OOMKilled"] and state["ExitCode"]):
        return None
    from groundplane.model.quantities import format_size

    text = f"it used all of its {format_size(spec.memory)} of memory"
    return Ended("out_of_memory", text, "ask for more memory, or work on less at a time").reason


def _not_started(spec: Spec, said: str) -> Ended:
    if "executable file not found" in said or "no such file or directory" in said:
        return Ended("missing_engine", f"image {spec.image} has no {spec.argv[0]}", "choose an image that has it")
    return Ended("start_failed", f"its container did not start: {said}")


def _lost(said: str) -> Ended:
    return Ended(
        "backend_unavailable",
        f"the Docker engine was lost while it ran: {said}",
        "it is run again by itself, unless the step says rerun = false",
        Fault.BACKEND,
    )


def main(path: str) -> None:
    """The process's exit code tells nothing: the verdict does."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        spec = Spec(json.load(file))
    os.unlink(path)
    verdict = Proxy(spec).run()
    fresh = f"{spec.verdict}.new"
    with open(fresh, "w", encoding="utf-8") as file:
        json.dump(verdict, file)
    os.rename(fresh, spec.verdict)
