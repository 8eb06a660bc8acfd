"""What drivers observe becomes state: attempts run, end, are tried again."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from groundplane.model.artifacts import kind_of
from groundplane.model.pipelines import Step
from groundplane.model.reasons import Fault, Reason
from groundplane.model.states import State, may_follow
from groundplane.services import labels, licences, plans, progress, reasons
from groundplane.services.limits import QUOTAS
from groundplane.services.plans import RunPlan
from groundplane.services.platform import Platform, now
from groundplane.spi.launch import Observation, Phase
from groundplane.spi.toolchain import Ending
from groundplane.store import attempts, runs, tasks
from groundplane.toolchains import registry

_FINAL = frozenset({"image_pull", "unschedulable"})
"""Faults of a backend that the next try would meet again."""
MOST_LOSSES = 5
"""How often a task that was lost by no fault of its own is tried again."""


@dataclass(slots=True)
class Settled:
    """runs: ids of those that changed. done: attempts whose driver may forget them. unknown: rows of attempts that
    the driver never heard of: to be launched again. strangers: attempts that this control plane does not follow (any
    more). withdrawn: (backend, attempt) of those that were cancelled before the driver heard of them; a launch may
    still be on its way. freed: names of the pools whose seats may be free
    now, and limits.QUOTAS."""

    runs: set[str] = field(default_factory=set[str])
    done: list[str] = field(default_factory=list[str])
    unknown: list[Any] = field(default_factory=list[Any])
    strangers: list[str] = field(default_factory=list[str])
    withdrawn: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    backends: set[str] = field(default_factory=set[str])
    freed: set[str] = field(default_factory=set[str])


def settle(platform: Platform, connection: Connection, observations: Sequence[Observation]) -> Settled:
    """Writes what was observed of this control plane's attempts; what is known already changes nothing."""
    settled = Settled()
    latest = _latest(observations)
    runs.lock_of(connection, list(latest))
    rows = {row.uid: row for row in attempts.held(connection, platform.holder, list(latest))}
    settled.strangers = [uid for uid in latest if uid not in rows]
    ended = [uid for uid in settled.strangers if latest[uid].phase in (Phase.ENDED, Phase.LOST)]
    if ended:
        settled.done += sorted(attempts.final_or_unknown(connection, ended))
    batch = _Batch()
    for uid, seen in latest.items():
        row = rows.get(uid)
        if row is None:
            continue
        if seen.phase is Phase.UNKNOWN and row.cancelled:
            _end(connection, batch, row, Observation(uid, Phase.ENDED, reason=_cancelled(row)))
            settled.withdrawn.append((row.backend, uid))
            settled.done.append(uid)
            settled.runs.add(row.run_uid)
        elif seen.phase is Phase.UNKNOWN:
            settled.unknown.append(row)
        elif seen.phase is Phase.ACCEPTED:
            batch.waits(row, seen.reason)
            settled.runs.add(row.run_uid)
        elif seen.phase is Phase.RUNNING:
            batch.running(row, seen.started_at or seen.at or now())
            settled.runs.add(row.run_uid)
        elif seen.phase in (Phase.ENDED, Phase.LOST):
            _end(connection, batch, row, seen)
            settled.backends |= plans.load(connection, row.plan).backends
            settled.done.append(uid)
            settled.runs.add(row.run_uid)
    batch.write(platform, connection, now())
    settled.freed = batch.freed
    return settled


def _latest(observations: Sequence[Observation]) -> dict[str, Observation]:
    """By attempt. A later one says all that an earlier one said, but what was asked for and what is told come by two
    ways: an answer from before the end may come after it."""
    latest: dict[str, Observation] = {}
    for seen in observations:
        known = latest.get(seen.attempt)
        if known is not None:
            over = known.phase in (Phase.ENDED, Phase.LOST) and seen.phase not in (Phase.ENDED, Phase.LOST)
            if over or seen.phase is Phase.ACCEPTED:
                continue
        latest[seen.attempt] = seen
    return latest


class _Batch:
    """The rows of one transaction, written together."""

    def __init__(self) -> None:
        self.waiting: dict[Reason | None, list[int]] = defaultdict(list)
        self.started: list[dict[str, Any]] = []
        self.tasks_started: list[dict[str, Any]] = []
        self.finished: list[dict[str, Any]] = []
        self.requeued: list[dict[str, Any]] = []
        self.moves: list[dict[str, Any]] = []
        self.artifacts: list[dict[str, Any]] = []
        self.ended: list[progress.Ended] = []
        self.freed: set[str] = set()
        self.refused: set[str] = set()

    def running(self, row: Any, at: int) -> None:
        """The attempt, and its task with it, runs."""
        if row.state == "starting":
            self.started.append({"key": row.id, "at": at})
            self.tasks_started.append({"key": row.task_id, "at": at})
            self.move(row, "running", at)

    def waits(self, row: Any, reason: Reason | None) -> None:
        """Its backend has it, and says why it does not run yet."""
        if row.state == "starting":
            self.waiting[reason].append(row.task_id)

    def move(self, row: Any, state: str, at: int) -> None:
        """A transition of the attempt."""
        self.moves.append(
            {"run_id": row.run_id, "task_id": row.task_id, "attempt": row.number, "state": state, "at": at}
        )

    def write(self, platform: Platform, connection: Connection, at: int) -> None:
        """All of it."""
        for reason, waiting in self.waiting.items():
            tasks.set_waiting(connection, waiting, reason)
        attempts.set_running(connection, self.started)
        tasks.set_running(connection, self.tasks_started)
        attempts.finish(connection, self.finished)
        tasks.requeue(connection, self.requeued)
        tasks.add_artifacts(connection, self.artifacts)
        progress.end(platform, connection, self.ended, at, self.moves)
        if self.refused:
            licences.refused(platform, connection, self.refused)


def _end(connection: Connection, batch: _Batch, row: Any, seen: Observation) -> None:
    """The attempt has ended; its task has too, or is tried again."""
    plan = plans.load(connection, row.plan)
    step = plan.step(row.position)
    state, reason = _outcome(row, plan, step, seen)
    if not may_follow(State(row.state), State(state)):
        raise ValueError(f"attempt {row.uid} is {row.state} and cannot become {state}")
    at = seen.at or now()
    batch.freed |= {row.licence, QUOTAS}
    if reason is not None and reason.code == licences.NO_SEAT:
        batch.refused.add(row.licence)
    started = row.started_at or seen.started_at or None
    if row.state == "starting" and seen.started_at:
        batch.move(row, "running", seen.started_at)
    batch.finished.append(
        {
            "key": row.id,
            "to": state,
            "begun": started,
            "at": at,
            "code": seen.exit_code,
            "why": reasons.to_text(reason),
        }
    )
    losses = row.losses
    if plan.whole or (reason is not None and reason.code in _FINAL):  # a whole pipeline's retries are its backend's
        again = False
    elif state == "lost" or (reason is not None and state == "failed" and reason.fault is not Fault.USER):
        losses += 1
        again = losses <= MOST_LOSSES and step.rerun
    else:
        again = state == "failed" and row.tries - losses <= step.retries
    if again and not row.cancelled:
        batch.move(row, state, at)
        batch.requeued.append(
            {"key": row.task_id, "lost": losses, "why": reasons.to_text(reason), "code": seen.exit_code}
        )
        return
    read = _with_losses(connection, row, seen)
    if state == "succeeded":
        own = labels.of_task(plan, step, row.inputs)
        made = labels.attach(connection, row.project, [(output.sha256, own) for output in seen.outputs])
        batch.artifacts += [
            {
                "run_id": row.run_id,
                "task_id": row.task_id,
                "name": output.name,
                "kind": str(kind_of(output.name)),
                "size": output.size,
                "sha256": output.sha256,
                "lost": None,
                "labels": of_artifact,
            }
            for output, of_artifact in zip(seen.outputs, made, strict=True)
        ]
    batch.ended.append(
        progress.Ended(
            task_id=row.task_id,
            run_id=row.run_id,
            position=row.position,
            state=state,
            reason=reason,
            exit_code=seen.exit_code,
            attempt=row.number,
            started_at=started,
            finished_at=at,
            usage=seen.usage,
            read=read,
            outputs=seen.outputs if state == "succeeded" else (),
        )
    )


def _outcome(row: Any, plan: RunPlan, step: Step, seen: Observation) -> tuple[str, Reason | None]:
    """The attempt's final state and why."""
    if seen.phase is Phase.LOST:
        reason = seen.reason or Reason(
            "lost",
            f"what became of {row.name} cannot be known: its agent died while it ran",
            hint=f"ground runs rerun {row.run_uid} --failed",
            fault=Fault.PLATFORM,
        )
        return ("cancelled", _cancelled(row)) if row.cancelled else ("lost", reason)
    reason = seen.reason or _diagnosis(row, plan, step, seen)
    if reason is None:
        return "succeeded", None
    if reason.code == "cancelled" or row.cancelled:
        return "cancelled", _cancelled(row)
    return "failed", reason


def _diagnosis(row: Any, plan: RunPlan, step: Step, seen: Observation) -> Reason | None:
    engine = plan.engines[step.name]
    ending = Ending(
        exit_code=seen.exit_code if seen.exit_code is not None else 1,
        signal=seen.signal,
        sentinel=seen.sentinel,
        stdout=seen.stdout,
        stderr=seen.stderr,
        report=seen.report,
        missing=seen.missing,
        engine=engine.path,
        inside=plan.placement(step).image is not None or bool(plan.whole),
    )
    script = step.script or step.command[0]
    reason = registry.get(engine.toolchain).diagnose(ending, script)
    if reason is not None:
        return reason
    if seen.missing:
        names = ", ".join(repr(name) for name in seen.missing)
        return Reason(
            "missing_output",
            f"{script} ended well but did not write {names}",
            hint=f"write it into the current folder under that name, or change `outputs` of step {step.name!r}",
        )
    if seen.changed:
        names = ", ".join(repr(name) for name in seen.changed)
        return Reason(
            "input_changed",
            f"{names} changed while {script} ran: files this large are used in place",
            hint="leave them alone while a run reads them, and run it again",
        )
    return None


def _cancelled(row: Any) -> Reason:
    return Reason("cancelled", "its run was cancelled", hint=f"ground runs rerun {row.run_uid}")


def _with_losses(connection: Connection, row: Any, seen: Observation) -> str | None:
    """Notes what conversions of the inputs lost, on the task that read them and on the artifacts they came from."""
    if not any(seen.lost.values()):
        return None
    read: list[dict[str, Any]] = json.loads(row.inputs) if row.inputs else []
    by_source: dict[str, list[str]] = defaultdict(list)
    for entry in read:
        lost = list(seen.lost.get(entry["name"], ()))
        entry["lost"] = lost
        by_source[entry["source"]] += [f"{entry['name']} for {row.name}: {sentence}" for sentence in lost]
    names = {task.id: task.name for task in tasks.of_run(connection, row.run_id)}
    for artifact in tasks.artifacts_of_run(connection, row.run_id):
        lost = by_source.get(f"{names[artifact.task_id]}/{artifact.name}")
        if lost:
            known: list[str] = json.loads(artifact.lost) if artifact.lost else []
            tasks.set_lost(connection, artifact.id, json.dumps(known + [line for line in lost if line not in known]))
    return json.dumps(read)
