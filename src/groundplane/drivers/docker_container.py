"""The process that the agent starts for work in a container: it stands for the container as long as that lives.

See `COMMAND`: started by its name or as a module it would be compiled, or looked for, each time.

The container's output is its output, a SIGTERM to it is one to the container, a SIGUSR1 (the grace is over) kills it,
and at its end `Spec.verdict` says how the container ended. The work's variables come as its own, each name behind
`PREFIX`, so that none is in a file. An engine on this host mounts the working copy; to an engine elsewhere it is
carried, and back. It imports little, for its start is part of every container's.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping

from groundplane.drivers.docker_output import Output, seconds
from groundplane.drivers.docker_spec import Spec, container
from groundplane.drivers.docker_usage import Usage, processes_of
from groundplane.model.errors import Unavailable
from groundplane.model.faults import Fault
from groundplane.oci.engine import Engine, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import BufferedReader
    from socket import socket
    from typing import Any, NoReturn

COMMAND = ("-I", "-c", "import sys; from groundplane.drivers.docker_container import main; main(sys.argv[1:])")
"""Arguments of an interpreter; the path of the `Spec` follows."""
_PATIENCE = 60.0  # seconds that an engine may be away before the start
_OUTAGE = 600.0  # and while the work runs: nothing is gained by giving it up earlier
_AGAIN = 0.2
_SAMPLES = 0.05
_LINGERS = 2.0
_LOOKS = 0.004
_ANSWERS_WITHIN = 30.0
_AT_ONCE = 0.5
_UNKNOWN = 255  # what an engine says of a container that ended while it was away, where nobody kept its exit code
_ENDING = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL, signal.SIGTERM})


class Ended(Exception):
    """The work has no end of its own that could be told; reason: as `model.reasons.Reason` in JSON."""

    def __init__(
        self, code: str, message: str, hint: str = "", fault: Fault = Fault.USER, exit_code: int | None = None
    ) -> None:
        super().__init__(message)
        self.reason = {"code": code, "message": message, "hint": hint, "fault": fault}
        self.exit_code = exit_code


class Proxy:
    """One container, from its creation to its end."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._engine = Engine(spec.address)
        self._output = Output(self._engine, spec.name)
        # A connection of its own: the handler speaks there, in the middle of what the other one does.
        self._usage = Usage(Engine(spec.address), spec.name, here=spec.address.shares_files)
        self._sock: socket
        self._reader: BufferedReader
        self._broke_at = 0.0  # when the engine went away instead of saying whether it has started it
        self._agent = os.getppid()
        self._kill_at = 0.0
        self._stopping = False
        self._running = False
        self._sampling = False

    def run(self) -> dict[str, Any]:
        """The `spi.launch.Verdict` as JSON has it."""
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGUSR1, self._on_kill)
        signal.signal(signal.SIGALRM, self._on_sample)
        signal.setitimer(signal.ITIMER_REAL, _SAMPLES)
        try:
            self._make()
            state = self._follow()
            if not self._spec.address.shares_files:
                self._carrying().fetch(self._engine, self._spec.name, self._spec.folders)
            reason = _out_of_memory(self._spec, state)
        except Ended as ended:
            return {"exit_code": ended.exit_code, "reason": ended.reason}
        except Unavailable as error:
            return {"reason": _lost(error.message).reason}
        except Refused as refused:
            return {"reason": _lost(refused.message).reason}
        except BrokenPipeError:
            self._abandon()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
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
        except UnicodeEncodeError as error:
            text = f"its command or a variable has bytes that are no text, and a container's cannot: {error.object!r}"
            raise Ended("start_failed", text, "give the file another name, or put the value into a file") from error
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
        while left := self._patiently("GET", "/containers/json", {"all": 1, "filters": wanted}):
            for found in left:
                self._patiently("DELETE", f"/containers/{found['Id']}", {"force": 1, "v": 1}, allowed=(404, 409))

    def _create(self) -> None:
        made = container(self._spec)
        try:
            self._patiently("POST", "/containers/create", {"name": self._spec.name}, made)
        except Refused as refused:
            if refused.status != 409:
                raise
            # Asked twice, for the first answer was lost; or a leftover of the same attempt. It has not begun.
            self._patiently("DELETE", f"/containers/{self._spec.name}", {"force": 1, "v": 1}, allowed=(404,))
            self._patiently("POST", "/containers/create", {"name": self._spec.name}, made)

    # --- while it runs ------------------------------------------------------------------------------------------------

    def _follow(self) -> Mapping[str, Any]:
        """Copies its output from its start to its end; its state then, as the engine tells it."""
        self._until_it_answers(self._start)
        self._running = True
        if self._stopping:  # told while it was being started
            self._signal(signal.SIGTERM)
        if self._spec.address.shares_files:  # its control group is found while it lives; elsewhere asking takes time
            self._sample()
        whole = self._output.copy(self._reader, self._broke_at)
        self._sample()  # its stream ends a moment before its control group goes
        self._sock.close()
        return self._end(whole and not self._broke_at)

    def _start(self) -> None:
        """Follows its output and has it begin, unless it has: an engine that is killed while it starts it does not
        answer, and comes back with it or without."""
        if self._broke_at and self._looked_at()["Status"] != "created":
            return
        self._sock, self._reader = self._engine.attach(self._spec.name)
        if self._stopping:
            raise Ended("cancelled", "it was cancelled before it began")
        try:
            self._engine.call("POST", f"/containers/{self._spec.name}/start", tries=1)
        except Refused as refused:
            if not self._broke_at:
                raise _not_started(self._spec, refused.message) from refused
            self._end_unknown()
            raise _lost(refused.message) from refused
        except Unavailable:
            self._broke_at = time.time()
            raise
        self._broke_at = 0.0

    def _end_unknown(self) -> None:
        """Kills what an engine of this host had begun, and not noted when it was killed: it knows of no such container,
        and would end none."""
        if not self._spec.address.shares_files:
            return
        known = self._patiently("GET", f"/containers/{self._spec.name}/json")["Id"]
        deadline = time.monotonic() + _LINGERS
        while (found := processes_of(known)) and time.monotonic() < deadline:
            for pid in found:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                except PermissionError:
                    sys.stderr.write(f"groundplane: process {pid} of its container may run on: the engine lost it\n")
                    return
            time.sleep(_LOOKS)

    def _end(self, whole: bool) -> Mapping[str, Any]:
        """Waits until the engine says that it has ended; where its stream broke, its output goes on from there."""
        outage, ended_alone = self._broke_at > 0.0, False
        ahead: float | None = None  # of this clock the engine's is; None while its log was not needed
        while True:
            try:
                if not whole:
                    info, asked = self._until_it_answers(self._info, _OUTAGE)
                    if outage and not info["LiveRestoreEnabled"]:
                        raise _lost("it was restarted, and its containers ended with it")
                    ended_alone = outage and not self._looked_at()["Running"]
                    ahead = _ahead(asked, seconds(info["SystemTime"]), time.time())
                    whole = self._output.go_on(ahead)
                    if ended_alone:
                        self._miss()
                    outage = False
                state = self._state()
                if whole and ahead is not None and not state["Running"]:
                    whole = self._output.go_on(ahead, follow=False)  # whoever follows a log may miss its last line
                if whole and not state["Running"]:
                    if ended_alone and state["ExitCode"] == _UNKNOWN:
                        raise _lost("it ended meanwhile, and the engine does not know how")
                    self._judge(state)
                    return state
                whole = False
            except Unavailable:
                outage, whole = True, False
            time.sleep(_AGAIN)

    def _info(self) -> tuple[Mapping[str, Any], float]:
        """What the engine says of itself, and when it was asked."""
        asked = time.time()
        return self._engine.call("GET", "/info", tries=1), asked

    def _miss(self) -> None:
        """Nobody read what it printed from the engine's end to its own."""
        if self._spec.told_by_output:
            raise _lost("it ended meanwhile, and whether it succeeded was in what it printed")
        sys.stderr.write("groundplane: it ended while the Docker engine was away: its last lines may be missing here\n")
        sys.stderr.flush()

    def _state(self) -> Mapping[str, Any]:
        """How it is: its stream ends a moment before it does, so one that still runs is asked again for a while."""
        deadline = time.monotonic() + _LINGERS
        while (state := self._looked_at())["Running"] and time.monotonic() < deadline:
            time.sleep(_LOOKS)
        return state

    def _looked_at(self) -> Mapping[str, Any]:
        try:
            return self._engine.call("GET", f"/containers/{self._spec.name}/json", tries=1)["State"]
        except Refused as refused:
            if refused.status == 404:
                raise _interfered("it was removed") from refused
            raise

    def _judge(self, state: Mapping[str, Any]) -> None:
        """Raises Unavailable where the engine is ending, which ends its containers; Ended where it never began, or
        somebody else ended it."""
        if self._stopping:
            return
        code: int = state["ExitCode"]
        self._make_sure()
        if not code or state["OOMKilled"]:
            return
        if code in (126, 127) and self._output.errors.startswith(b"[FATAL tini"):
            raise _not_started(self._spec, self._output.errors.decode(errors="replace").strip().lower(), code)
        wanted = {"container": [self._spec.name], "event": ["kill"]}
        query = {
            "filters": json.dumps(wanted),
            "since": f"{seconds(state['StartedAt']):.6f}",
            "until": f"{seconds(state['FinishedAt']) + 0.01:.6f}",
        }
        for event in self._engine.events("GET", "/events", query):
            number = int(event["Actor"]["Attributes"].get("signal", 0))
            if number in _ENDING:
                raise _interfered(f"{signal.Signals(number).name} was sent to it", code)

    def _make_sure(self) -> None:
        """That the engine is not ending: then it answers on old connections and listens no more. Where systemd listens
        for it nobody answers, until its successor does and the old connection has broken."""
        began = time.monotonic()
        probe = Engine(self._spec.address, silence=_ANSWERS_WITHIN)
        try:
            probe.ping(tries=1)
        except Unavailable:
            if time.monotonic() - began < _ANSWERS_WITHIN:
                raise
        finally:
            probe.close()
        if time.monotonic() - began > _AT_ONCE:
            self._engine.ping(tries=1)

    # --- signals ------------------------------------------------------------------------------------------------------

    def _on_stop(self, *_: object) -> None:
        self._stopping = True
        self._signal(signal.SIGTERM)

    def _on_kill(self, *_: object) -> None:
        self._stopping = True
        self._kill_at = time.monotonic()

    def _on_sample(self, *_: object) -> None:
        if os.getppid() != self._agent:
            self._abandon()
        if self._running:
            self._sample()
        if self._kill_at and time.monotonic() > self._kill_at:
            self._kill_at = time.monotonic() + 1.0
            self._signal(signal.SIGKILL)
        # Anew each time: an engine that is slow to answer must not be asked again in the middle of that.
        signal.setitimer(signal.ITIMER_REAL, _SAMPLES)

    def _sample(self) -> None:
        if not self._sampling:  # by a signal in the midst of it
            self._sampling = True
            self._usage.sample()
            self._sampling = False

    def _signal(self, number: signal.Signals) -> None:
        if not self._running:
            return
        aside = Engine(self._spec.address)
        try:
            aside.call("POST", f"/containers/{self._spec.name}/kill", {"signal": number.name})
        except (Refused, Unavailable) as error:  # it has ended; or the engine has, and then it is found out
            sys.stderr.write(f"groundplane: {number.name} was not delivered: {error}\n")
        finally:
            aside.close()

    def _abandon(self) -> NoReturn:
        """The agent was killed: what becomes of this attempt will not be known, and another one is made."""
        try:
            Engine(self._spec.address).call("DELETE", f"/containers/{self._spec.name}", {"force": 1, "v": 1})
        except (Refused, Unavailable):
            pass  # who cleans up, or begins the next attempt, removes it
        os._exit(1)

    def _patiently(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        body: object = None,
        *,
        allowed: tuple[int, ...] = (),
    ) -> Any:
        """A call, until the engine answers. allowed: errors that are as good as an answer."""
        try:
            return self._until_it_answers(lambda: self._engine.call(method, path, query, body))
        except Refused as refused:
            if refused.status in allowed:
                return None
            raise

    def _until_it_answers(self, ask: Callable[[], Any], patience: float = _PATIENCE) -> Any:
        """The same again until the engine answers. Raises Ended when it does not, or shall not be waited for."""
        deadline = time.monotonic() + patience
        while True:
            try:
                return ask()
            except Unavailable as error:
                if time.monotonic() > deadline or self._stopping:
                    raise _lost(error.message) from error
                time.sleep(_AGAIN)


def _ahead(asked: float, told: float, heard: float) -> float:
    """Seconds that a clock is ahead of this one's, which told its time between two instants of this one. A busy machine
    is late to hear, so that clocks that may be the same are taken to be."""
    return 0.0 if asked <= told <= heard else told - asked


def _out_of_memory(spec: Spec, state: Mapping[str, Any]) -> Mapping[str, str] | None:
    if not (spec.memory and state["OOMKilled"] and state["ExitCode"]):
        return None
    from groundplane.model.quantities import format_size

    text = f"it used all of its {format_size(spec.memory)} of memory"
    return Ended("out_of_memory", text, "ask for more memory, or work on less at a time").reason


def _not_started(spec: Spec, said: str, exit_code: int | None = None) -> Ended:
    if "executable file not found" in said or "no such file or directory" in said:
        text = f"image {spec.image} has no {spec.argv[0]}"
        return Ended("missing_engine", text, "choose an image that has it", exit_code=exit_code)
    return Ended("start_failed", f"its container did not start: {said}", exit_code=exit_code)


def _interfered(what: str, exit_code: int | None = None) -> Ended:
    return Ended(
        code="stopped_outside",
        message=f"somebody else ended its container: {what}",
        hint="by `docker stop`, `docker kill` or `docker rm`; to end a run there is `ground runs cancel`",
        exit_code=exit_code,
    )


def _lost(said: str) -> Ended:
    return Ended(
        "backend_unavailable",
        f"the Docker engine was lost: {said}",
        "it is run again by itself, unless the step says rerun = false",
        Fault.BACKEND,
    )


def main(arguments: list[str]) -> None:
    """The process's exit code tells nothing: the verdict does. Without the path it waits for it, as `Launch.proxy` has
    it."""
    path = arguments[0] if arguments else _told()
    if not path:
        return
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        spec = Spec(json.load(file))
    os.unlink(path)
    verdict = Proxy(spec).run()
    fresh = f"{spec.verdict}.new"
    with open(fresh, "w", encoding="utf-8") as file:
        json.dump(verdict, file)
    os.rename(fresh, spec.verdict)
    sys.stderr.flush()
    os._exit(0)  # all is said: tidying an interpreter up takes milliseconds


def _told() -> str:
    """What a process that was started ahead stands for; "" when the agent has no use for it."""
    line = sys.stdin.readline()
    if not line:
        return ""
    told = json.loads(line)
    os.environ.clear()
    os.environ.update(told["env"])
    os.chdir(told["folder"])
    return told["argument"]
