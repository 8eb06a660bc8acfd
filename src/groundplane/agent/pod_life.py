"""The life of a pod's agent: one attempt from its order to its result, and every failure on the way is told."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from groundplane.agent import collect, outcome, pod_script
from groundplane.agent.attempts import Attempt, Stage
from groundplane.agent.book import body_of, line_of
from groundplane.agent.loop import Loop
from groundplane.agent.pod_log import Log, tell
from groundplane.agent.pod_work import CANCELLED, Work, release
from groundplane.agent.snapshots import Snapshots
from groundplane.agent.staging import Staged, Stager, Unfit
from groundplane.agent.threads import Pool
from groundplane.model.quantities import format_size
from groundplane.model.reasons import Fault, Reason
from groundplane.spi import files, layout, pod, wire
from groundplane.spi.launch import Launch, Observation, Phase

TYPE_CHECKING = False
if TYPE_CHECKING:
    from groundplane.agent.pod_transfer import Result

_DENIED = (400, 401, 403)
_PATIENCE = 300.0  # seconds for the result to be stored
_LITTLE_PATIENCE = 10.0  # where nothing has begun, and so nothing can be lost
_NAMELESS, _ASK_AGAIN = 60.0, 0.2  # seconds


@dataclass(frozen=True, slots=True)
class Order:
    """What the agent is started with: see spi/pod."""

    launch: Launch
    snapshot: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict[str, str])
    result: str = ""
    results: tuple[str, ...] = ()
    master: str = ""


def live(base: str, order: str, pipes: Mapping[str, int]) -> int:
    """What `main` returns, after SIGTERM."""
    loop = Loop()
    end = _End(loop)
    try:
        wanted = _share(wire.decode(Order, wire.parse(Path(order).read_bytes())))
    except (OSError, ValueError, LookupError, TypeError) as error:
        traceback.print_exc()
        release(pod.control(base), pipes, pod_script.give_up(125))
        reason = Reason("start_failed", f"its order could not be read: {error}", "", Fault.PLATFORM)
        tell(_ended(Observation("", Phase.ENDED, at=_now(), reason=reason), 0, False))
        return end.wait()
    if not _first(base):
        release(pod.control(base), pipes, pod_script.give_up(125))
        if os.path.exists(_last_line(base)):
            tell(Path(_last_line(base)).read_bytes())
            return end.wait()
        text = "the agent beside it was ended and begun again: what became of the work cannot be known"
        reason = Reason("sidecar_restarted", text, "it is run again by itself", Fault.BACKEND)
        launch = wanted.launch
        tell(_ended(Observation(launch.attempt, Phase.LOST, at=_now(), epoch=launch.epoch, reason=reason), 0, False))
        return end.wait()
    life = _Life(loop, base, pipes, wanted)
    end.action = life.work.end
    life.live()
    return end.wait()


class _End:
    """SIGTERM: the pod is over, or shall be."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._come = False
        self.action: Callable[[], None] | None = None
        signal.signal(signal.SIGTERM, self._asked)

    def _asked(self, _number: int, _frame: object) -> None:
        self._loop.post(self._comes)

    def _comes(self) -> None:
        self._come = True
        if self.action is not None:
            self.action()

    def wait(self) -> int:
        self.action = None
        while not self._come:
            self._loop.turn(block=True)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would end the interpreter on its way out
        return 0


class _Life:
    def __init__(self, loop: Loop, base: str, pipes: Mapping[str, int], order: Order) -> None:
        self._loop = loop
        self._home = Path(pod.home(base))
        self._order = order
        self._pipes = pipes
        self._last_line = _last_line(base)
        self._over = False
        self._attempt = attempt = Attempt(order.launch)
        self._log = Log(loop, f"{base}/log.seg", order.launch.run, self._log_is_full)
        self.work = Work(loop, pod.control(base), pipes, attempt, self._log, self._gone)

    def live(self) -> None:
        """Up to the line that tells the end."""
        try:
            self._begin()
            while not self._over:
                self._loop.turn(block=True)
            observation = self._observation()
            observation, uploaded = self._stored(observation)
        except Exception as error:  # noqa: BLE001 - told, whatever it was
            traceback.print_exc()
            self.work.kill()
            text = f"the agent beside it failed: {type(error).__name__}: {error}"
            self._attempt.reason = Reason("internal", text, "see the pod's own log", Fault.PLATFORM)
            self._attempt.exited = self._attempt.exited or time.monotonic()
            observation, uploaded = outcome.observation(self._attempt, collect.Collected()), False
        line = _ended(observation, self._log.size, uploaded)
        _remember(self._last_line, line)
        tell(line)
        self.work.let_go()

    def _begin(self) -> None:
        self._attempt.stage = Stage.STAGING
        self.work.capture()
        self._loop.watch(self._pipes["stop"], self._stop)
        Pool(self._loop, 1).run(partial(_stage, self._home, self._order), self._staged)

    def _staged(self, result: Staged | Exception) -> None:
        attempt = self._attempt
        if attempt.stage is not Stage.STAGING:
            return  # it has been stopped meanwhile
        if isinstance(result, Staged):
            attempt.staged = result
            try:
                self.work.begin(self._home)
            except ValueError as error:
                attempt.status = 126
                program = attempt.launch.command.argv[0]
                self.work.give_up(Reason("start_failed", f"{program} could not be started: {error}"))
        else:
            self.work.give_up(_not_staged(result))

    def _stop(self) -> None:
        try:
            os.read(self._pipes["stop"], 4096)
        except BlockingIOError:
            return
        self.work.stop(CANCELLED)

    def _log_is_full(self) -> None:
        text = f"the disk is full: the log could not be written ({self._log.path})"
        self.work.stop(Reason("no_space", text, "ask for more disk, or write less", Fault.PLATFORM))

    def _gone(self) -> None:
        self._over = True

    def _observation(self) -> Observation:
        """How it ended, its outputs in the store and its log whole."""
        attempt, staged = self._attempt, self._attempt.staged
        collected = collect.Collected()
        if staged is not None and attempt.started_at and not collect.is_trivial(attempt.launch, staged):
            succeeded = outcome.succeeded(attempt)
            try:
                collected = collect.collect(self._home, attempt.launch, staged, succeeded)
            except Exception as error:  # noqa: BLE001 - told as its reason
                traceback.print_exc()
                if succeeded:
                    attempt.reason = outcome.not_kept(error)
            attempt.reason = attempt.reason or collected.reason
            if collected.notes:
                self._log.add(outcome.note(attempt, collected.notes))
        self._log.flush()
        attempt.stage = Stage.OVER
        return outcome.observation(attempt, collected)

    def _stored(self, observation: Observation) -> tuple[Observation, bool]:
        """The observation that counts in the end, and whether the result is where it belongs."""
        from groundplane.agent import pod_transfer

        result = self._result(observation)
        if result.size > pod_transfer.LARGEST:
            sizes = sum(output.size for output in observation.outputs)
            text = f"its outputs take {format_size(sizes)}; a result can have {format_size(pod_transfer.LARGEST)}"
            reason = Reason("result_too_large", text, "write less, or write to a store of your own")
            observation = replace(observation, outputs=(), reason=observation.reason or reason)
            result = self._result(observation)
            if result.size > pod_transfer.LARGEST:  # of its log alone
                return observation, False
        try:
            result.put(self._order.result, _PATIENCE if self._attempt.started_at else _LITTLE_PATIENCE)
        except pod_transfer.NotTransferred as error:
            print(f"error: {error}", file=sys.stderr)
            if not outcome.succeeded(self._attempt):
                return observation, False  # its own reason counts: it left nothing that could be lost
            reason = Reason("result_not_stored", f"it ended well, but {error}", _hint(error.status), Fault.BACKEND)
            return replace(observation, outputs=(), reason=reason), False
        return observation, True

    def _result(self, observation: Observation) -> Result:
        from groundplane.agent.pod_transfer import Result

        parts = {"log.seg": (self._log.path, self._log.size)}
        for output in observation.outputs:
            parts[f"blobs/{output.sha256}"] = (str(layout.blob(self._home, output.sha256)), output.size)
        return Result(body_of(observation), parts)


def _share(order: Order) -> Order:
    """This pod's own part, where an attempt has several: it knows its number, and only the first one's outputs count.
    Raises KeyError, IndexError and ValueError for a number that cannot be."""
    if not order.results:
        return order
    index, launch = int(os.environ[pod.INDEX]), order.launch
    meeting = pod.rendezvous(order.master, len(order.results), index, launch.resources.gpus or 1)
    outputs = () if index else launch.outputs
    share = replace(launch, env={**meeting, **launch.env}, outputs=outputs)
    return replace(order, launch=share, result=order.results[index])


def _first(base: str) -> bool:
    """Whether no other agent has begun with this pod's work."""
    try:
        os.close(os.open(f"{pod.control(base)}/begun", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return False
    return True


def _last_line(base: str) -> str:
    """Where the last line stands, for an agent that is begun again after it."""
    return f"{pod.control(base)}/ended"


def _remember(path: str, line: bytes) -> None:
    try:
        files.write(Path(path), line, mode=0o600)
    except OSError as error:
        print(f"error: the end could not be noted: {error}", file=sys.stderr)  # it is told all the same


def _stage(home: Path, order: Order) -> Staged:
    missing = {digest: url for digest, url in order.inputs.items() if not layout.blob(home, digest).exists()}
    if order.snapshot or missing:
        from groundplane.agent.pod_transfer import bring  # it takes as long to import as all else

        bring(home, order.snapshot, missing)
    _meet(order.master)
    return Stager(home, alone=True).stage(order.launch, Snapshots(home).load(order.launch.snapshot))


def _meet(master: str) -> None:
    """Waits a while for the first node's host to have a name: not all programs try again where there is none yet."""
    if not master:
        return
    import socket

    deadline = time.monotonic() + _NAMELESS
    while time.monotonic() < deadline:
        try:
            socket.getaddrinfo(master, pod.MASTER_PORT)
        except OSError:
            time.sleep(_ASK_AGAIN)
        else:
            return


def _not_staged(error: Exception) -> Reason:
    if isinstance(error, Unfit):
        return error.reason
    if isinstance(error, OSError):
        return outcome.reason_of(error)
    from groundplane.agent.pod_transfer import NotTransferred

    if isinstance(error, NotTransferred):
        text = f"what it stands on could not be brought: {error}"
        return Reason("staging_failed", text, _hint(error.status), Fault.BACKEND)
    traceback.print_exception(error)
    text = f"its working copy could not be made: {type(error).__name__}: {error}"
    return Reason("internal", text, "see the log of the agent in its pod", Fault.PLATFORM)


def _hint(status: int) -> str:
    if status in _DENIED:
        return "the signed URL has expired, or is not valid yet: compare the clocks of control plane, store and nodes"
    return "is the store reachable from the cluster's nodes?"


def _ended(observation: Observation, log_size: int, uploaded: bool) -> bytes:
    told = line_of({"log_size": log_size, "uploaded": uploaded})
    return b'{"t":"ended","observation":' + body_of(observation) + b"," + told[1:] + b"\n"


def _now() -> int:
    return time.time_ns() // 1000
