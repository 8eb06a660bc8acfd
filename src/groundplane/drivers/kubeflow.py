"""Runs pipelines whole on a Kubeflow Pipelines server, and follows each task of theirs.

The first attempt of a run that is handed over makes the KFP run, which is found again by its display name; those that
come later only follow what is under way there. KFP has no watch: each run is asked after, the oftener the more happens.

*Untested* against a real server: see kubeflow_api.py.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from groundplane.drivers import kubeflow_backend, kubeflow_checks, kubeflow_results, kubeflow_runs, secrets
from groundplane.drivers import kubeflow_reasons as reasons
from groundplane.drivers.kubeflow_api import Refused
from groundplane.drivers.kubeflow_backend import Backend
from groundplane.drivers.kubeflow_results import Log, Unreadable
from groundplane.drivers.kubeflow_runs import FINAL, Seen, Untold
from groundplane.drivers.kubeflow_tasks import SHORTEST, Run, Task
from groundplane.drivers.news import News
from groundplane.model.errors import GroundError, Unavailable
from groundplane.model.reasons import Fault, Reason
from groundplane.spi.agent import agent_id
from groundplane.spi.blobs import open_store
from groundplane.spi.driver import Changes, Health
from groundplane.spi.launch import Launch, LogChunk, Observation, Phase, Submission, Usage

log = logging.getLogger(__name__)

_LONGEST = 10.0
_SLOWER = 1.3
_AT_ONCE = 4
_PATIENCE = 120.0
_LIVE_LOG = 1 << 20
"""Bytes of a log up to which it is asked for again and again while the task runs: the server only tells it whole."""


class Gone(Exception):
    """The KFP run was there, and is not any more."""


class KubeflowDriver:
    """See `spi.driver.Driver` and, of its extras, `RunsPipelines`, `CanQueue`, `KeepsSecrets` and
    `CanCollectGarbage`."""

    waiting_room = 1000
    """Tasks that are followed and do not run yet: KFP has a queue of its own."""

    def __init__(self, home: Path, name: str, backend: Backend) -> None:
        self._home = home
        self._name = name
        self._backend = backend
        self._server = backend.server
        self._mine = f"by Groundplane {agent_id(home)}"
        self._news = News()
        self._lock = threading.RLock()
        self._wake = threading.Condition(self._lock)
        self._runs: dict[str, Run] = {}
        self._thread: threading.Thread | None = None
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix=f"kubeflow-{name}")
        self._closed = False

    @staticmethod
    def configured(home: Path, name: str, options: Mapping[str, str]) -> KubeflowDriver:
        """A backend that somebody adds; see `kubeflow_backend`."""
        return KubeflowDriver(home, name, kubeflow_backend.read(home, name, options))

    public = staticmethod(kubeflow_backend.public)
    keep = staticmethod(kubeflow_backend.keep)
    forget = staticmethod(secrets.forget)

    # --- contract: what it is -----------------------------------------------------------------------------------------

    @property
    def site(self) -> str:
        """Its credentials and the snapshots lie in this home."""
        return agent_id(self._home)

    @property
    def caches(self) -> bool:
        """What comes from KFP's cache lies where an earlier run kept it."""
        return not self._backend.storage

    def support(self, attempt: str) -> str:
        return f"/tmp/{attempt}"  # noqa: S108 - in a container of Kubeflow's, whose script makes its own

    def ping(self) -> None:
        try:
            self._server.ask("GET", "/apis/v2beta1/healthz")
        except Refused as refused:
            raise reasons.unavailable(refused) from refused

    def check(self) -> Health:
        return kubeflow_checks.check(self._backend)

    # --- contract: work -----------------------------------------------------------------------------------------------

    def submit(self, launches: Sequence[Launch]) -> list[Submission]:
        with self._lock:
            answers = [Submission(launch.attempt, self._take_in(launch)) for launch in launches]
            self._hurry()
        return answers

    def _take_in(self, launch: Launch) -> Reason | None:
        whole = launch.whole
        if whole is None:
            return Reason("start_failed", "Kubeflow runs pipelines, and this is none", fault=Fault.PLATFORM)
        run = self._runs.get(launch.run)
        if run is None:
            run = self._runs[launch.run] = Run(launch.run, launch.project, whole)
        run.whole, run.next = run.whole or whole, 0.0
        known = run.tasks.get(launch.attempt)
        if known is not None:
            if launch.epoch < known.epoch:
                text = f"attempt {launch.attempt} was submitted with epoch {launch.epoch} after epoch {known.epoch}"
                return Reason("stale", text, fault=Fault.PLATFORM)
            known.epoch = launch.epoch
            self._news.tell(known)
            return None
        step, _, number = launch.task.removesuffix("]").partition("[")
        told = Observation(launch.attempt, Phase.ACCEPTED, at=_now(), epoch=launch.epoch)
        run.tasks[launch.attempt] = Task(
            launch.attempt,
            launch.epoch,
            told,
            whole.steps[step],
            int(number) if number else None,
            launch.outputs or (),
            Log(self._home, launch.run, launch.task, launch.attempt),
        )
        return None

    def observe(self, attempts: Sequence[str]) -> list[Observation]:
        """An attempt of a former control plane is unknown: it is submitted again, which makes nothing twice."""
        with self._lock:
            found = {name: task for run in self._runs.values() for name, task in run.tasks.items()}
            return [
                replace(found[name].told, epoch=found[name].epoch)
                if name in found
                else Observation(name, Phase.UNKNOWN)
                for name in attempts
            ]

    def changes(self, cursor: str, timeout: float) -> Changes:
        return self._news.since(cursor, timeout)

    def logs(self, attempt: str, cursor: str) -> tuple[str, list[LogChunk]]:
        """None: what the server tells is written into the run's segments."""
        return cursor, []

    def stop(self, attempt: str, grace: float) -> None:
        """Ends the KFP run. It may have been made for an attempt that is not known here."""
        uid = attempt.partition(".")[0]
        with self._lock:
            run = self._runs.get(uid)
            if run is not None and attempt in run.tasks and run.tasks[attempt].over:
                return
            if run is None:
                run = self._runs[uid] = Run(uid, "", None)
            run.stopping, run.next, run.interval = True, 0.0, SHORTEST
            self._hurry()

    def cleanup(self, attempts: Sequence[str]) -> None:
        """Forgets them here: the KFP run is its user's to look at."""
        with self._lock:
            for attempt in attempts:
                run = self._runs.get(attempt.partition(".")[0])
                task = run.tasks.get(attempt) if run is not None else None
                if run is None or task is None or not task.over:
                    continue
                del run.tasks[attempt]
                self._news.drop(attempt)
                if not run.tasks and not (run.stopping and not run.stopped):
                    del self._runs[run.uid]

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._wake.notify_all()
        self._news.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def collect_garbage(self, needed: Callable[[], set[str]]) -> list[str]:
        """Ends the KFP runs of this control plane that are under way for nobody. What has ended stays."""
        try:
            found = [
                each
                for state in ("PENDING", "RUNNING", "PAUSED")
                for each in self._server.runs({"state": state})
                if self._mine in str(each.get("description", ""))
            ]
            kept = {attempt.partition(".")[0] for attempt in needed()}
            gone = [each for each in found if str(each["display_name"]).rpartition(" ")[2] not in kept]
            for each in gone:
                self._server.terminate(str(each["run_id"]))
        except Refused as refused:
            raise reasons.unavailable(refused) from refused
        return [f"run {each['display_name']}" for each in gone]

    # --- one thread that asks -----------------------------------------------------------------------------------------

    def _hurry(self) -> None:
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._ask, name=f"kubeflow-{self._name}", daemon=True)
            self._thread.start()
        self._wake.notify_all()

    def _ask(self) -> None:
        while True:
            with self._lock:
                due = [run for run in self._runs.values() if run.next <= time.monotonic()]
                if self._closed:
                    return
                if not due:
                    soonest = min((run.next for run in self._runs.values()), default=None)
                    self._wake.wait(None if soonest is None else max(0.01, soonest - time.monotonic()))
                    continue
            for run in due:
                run.interval = min(run.interval * _SLOWER, _LONGEST)
                run.next = time.monotonic() + run.interval
                try:
                    self._turn(run)
                    if run.away:
                        run.away = False
                        log.info("the server answers again backend=%s run=%s", self._name, run.uid)
                except Unavailable as error:
                    self._away(run, error)
                except Refused as refused:
                    self._end_all(run, reasons.refused(refused))
                except Exception as error:
                    log.exception("following failed backend=%s run=%s", self._name, run.uid)
                    text = f"what Kubeflow says of it cannot be read: {type(error).__name__}: {error}"
                    self._end_all(run, Reason("internal", text, "please report this", Fault.PLATFORM))

    def _away(self, run: Run, error: Unavailable) -> None:
        """What was made runs on, and is waited for; what could not be made is given up after a while."""
        if not run.away:
            log.warning("the server does not answer backend=%s run=%s error=%s", self._name, run.uid, error.message)
        run.away = True
        reason = Reason(error.code, error.message, error.hint, Fault.BACKEND)
        if run.id or time.monotonic() - run.since < _PATIENCE:
            for task in self._open(run):
                if task.told.phase is Phase.ACCEPTED and task.told.reason != reason:
                    self._say(task, replace(task.told, reason=reason))
        else:
            self._end_all(run, reason)

    def _turn(self, run: Run) -> None:
        if not run.id:
            try:
                run.id = self._found_or_made(run)
            except Gone:
                self._end_all(run, reasons.gone(run.uid))
                return
            if not run.id:  # it is to be ended, and never began
                run.stopped = True
                self._end_all(run, reasons.CANCELLED)
                return
        if run.stopping and not run.stopped:
            self._server.terminate(run.id)
            run.stopped = True
        open_ = self._open(run)
        if not open_:
            with self._lock:
                if not run.tasks:
                    self._runs.pop(run.uid, None)
                else:
                    run.next = time.monotonic() + _LONGEST
            return
        found = self._server.run(run.id)
        if found is None:
            self._end_all(run, reasons.CANCELLED if run.stopping else reasons.gone(run.id))
            return
        for task in open_:
            self._look(run, found, task)

    def _found_or_made(self, run: Run) -> str:
        """The KFP run's id. Two control planes that make one at the same time agree on the older."""
        name = f"{run.whole.name} {run.uid}" if run.whole is not None else ""
        found = self._server.runs_called(name) if name else self._mine_called(run.uid)
        if found or run.stopping or run.whole is None:
            return str(found[0]["run_id"]) if found else ""
        if not any(task.called.first for task in self._open(run)):  # it was there, for what these need has run in it
            raise Gone
        body: dict[str, Any] = json.loads(run.whole.body)
        root = body.get("pipeline_spec", body)["root"]
        given: Mapping[str, Any] = root.get("inputDefinitions", {}).get("parameters", {})
        made = self._server.create_run(
            {
                "display_name": name,
                "description": f"Run {run.uid} of project {run.project}, {self._mine}.",
                "experiment_id": self._server.experiment(run.project or "groundplane"),
                "pipeline_spec": body,
                "runtime_config": {
                    "parameters": {key: each["defaultValue"] for key, each in given.items()},
                    **({"pipeline_root": f"{self._backend.storage}/{run.uid}"} if self._backend.storage else {}),
                },
            }
        )
        mine = str(made["run_id"])
        first = str(next(iter(self._server.runs_called(name)), made)["run_id"])
        if first != mine:
            self._server.terminate(mine)
            self._server.delete(mine)
        return first

    def _mine_called(self, uid: str) -> list[dict[str, Any]]:
        running = [each for state in ("PENDING", "RUNNING", "PAUSED") for each in self._server.runs({"state": state})]
        return [each for each in running if str(each.get("display_name", "")).endswith(f" {uid}")]

    def _look(self, run: Run, found: Mapping[str, Any], task: Task) -> None:
        state = str(found.get("state", ""))
        try:
            seen = kubeflow_runs.seen(found, task.called.task, task.item)
        except Untold:
            if state in FINAL:
                text = f"Kubeflow does not tell which of its tasks {task.called.task!r} is which"
                self._end(task, Reason("result_untold", text, reasons.IN_KUBEFLOW, Fault.BACKEND))
            return
        if seen is not None and seen.state in FINAL:
            if not task.busy:
                task.busy, run.interval = True, SHORTEST
                self._pool.submit(self._finish, run, task, seen)
        elif state in FINAL:
            self._end(task, reasons.CANCELLED if run.stopping else reasons.never(state, found, seen))
        elif seen is not None and seen.state not in ("", "PENDING", "RUNTIME_STATE_UNSPECIFIED"):
            if task.told.phase is Phase.ACCEPTED:
                at, run.interval = seen.started or _now(), SHORTEST
                self._say(task, Observation(task.attempt, Phase.RUNNING, at=at, started_at=at))
            if not task.busy and task.log.bytes < _LIVE_LOG:
                task.busy = True
                self._pool.submit(self._follow_log, run, task, seen)
        elif task.told.reason is not None:
            self._say(task, replace(task.told, reason=None))

    # --- in the pool --------------------------------------------------------------------------------------------------

    def _follow_log(self, run: Run, task: Task, seen: Seen) -> None:
        try:
            said = self._said(run, seen)
            if said is not None and task.log.take(said, over=False):
                self._news.grew(run.uid)
        except (GroundError, OSError) as error:
            log.warning("log not followed attempt=%s error=%s", task.attempt, error)
        finally:
            task.busy = False

    def _said(self, run: Run, seen: Seen) -> bytes | None:
        """What its pod has printed; None where the server tells of none."""
        found = [said for pod in seen.pods if (said := self._server.log(run.id, pod)) is not None]
        return next(filter(None, found), found[0] if found else None)

    def _finish(self, run: Run, task: Task, seen: Seen) -> None:
        """Fetches its log and its outputs, and tells its end; tried again while the server is away."""
        try:
            told = self._ended(run, task, seen)
        except (Unavailable, OSError) as error:
            log.warning("result not fetched, trying again attempt=%s error=%s", task.attempt, error)
            task.busy = False
            return
        except Unreadable as error:
            text = f"it ended well, but its output cannot be fetched: {error}"
            told = Observation(task.attempt, Phase.ENDED, reason=Reason("result_not_given", text, reasons.IN_KUBEFLOW,
                               Fault.BACKEND))  # fmt: skip
        except Exception as error:
            log.exception("result not understood attempt=%s", task.attempt)
            text = f"its result cannot be read: {type(error).__name__}: {error}"
            told = Observation(task.attempt, Phase.ENDED, reason=Reason("internal", text, fault=Fault.PLATFORM))
        wall = max(0, seen.ended - seen.started) / 1e6 if seen.started else 0.0
        self._say(task, replace(told, at=seen.ended or _now(), started_at=seen.started, usage=Usage(wall=wall)))

    def _ended(self, run: Run, task: Task, seen: Seen) -> Observation:
        said = self._said(run, seen)
        told_of = said
        if said is None and seen.state != "SKIPPED" and not task.log.bytes:
            told_of = b"(Kubeflow does not give this log away: look there, in run %b)\n" % run.id.encode()
        if told_of is not None and task.log.take(told_of, over=True):
            self._news.grew(run.uid)
        tail = kubeflow_results.tail(said or seen.message.encode())
        told = Observation(task.attempt, Phase.ENDED, stdout=tail, stderr=tail)
        if seen.state == "CANCELED":
            text = "somebody terminated its run in Kubeflow"
            ended = Reason("stopped_outside", text, reasons.AGAIN, Fault.BACKEND)
            return replace(told, reason=reasons.CANCELLED if run.stopping else ended)
        if seen.ended_badly:
            code, reason = reasons.failed(seen.message)
            return replace(told, exit_code=code, reason=reasons.CANCELLED if run.stopping else reason)
        if self._backend.storage:
            store = open_store(self._backend.storage, self._backend.variables)
            source = kubeflow_results.stored(store, self._home, run.uid, run.id, task.called, task.item)
        else:
            source = kubeflow_results.given_away(self._server, seen)
        outputs, missing = kubeflow_results.outputs(source, self._home, task.called, task.declared)
        return replace(told, exit_code=0, outputs=outputs, missing=missing)

    # --- telling ------------------------------------------------------------------------------------------------------

    def _open(self, run: Run) -> list[Task]:
        with self._lock:
            return [task for task in run.tasks.values() if not task.over]

    def _end_all(self, run: Run, reason: Reason) -> None:
        for task in self._open(run):
            if not task.busy:
                self._end(task, reason)
        with self._lock:
            if not run.tasks:
                self._runs.pop(run.uid, None)

    def _end(self, task: Task, reason: Reason) -> None:
        self._say(task, Observation(task.attempt, Phase.ENDED, at=_now(), reason=reason))

    def _say(self, task: Task, told: Observation) -> None:
        with self._lock:
            if task.over:
                return
            task.told = replace(told, epoch=task.epoch)
            self._news.tell(task)


def _now() -> int:
    return time.time_ns() // 1000
