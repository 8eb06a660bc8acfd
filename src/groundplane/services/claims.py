"""Takes ready tasks and makes launches of them; a task that needs no start (reused, refused) ends here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from groundplane.model.errors import GroundError
from groundplane.model.pipelines import Step
from groundplane.model.reasons import Fault, Reason
from groundplane.services import (
    bringing,
    calls,
    granting,
    labels,
    licences,
    plans,
    progress,
    reasons,
    reuse,
    staging,
    variables,
    work_tokens,
)
from groundplane.services.granting import Granted
from groundplane.services.limits import Limits
from groundplane.services.plans import Placement, RunPlan
from groundplane.services.platform import Platform, now
from groundplane.services.spec import fanout
from groundplane.services.variables import Variables
from groundplane.spi import layout
from groundplane.spi.driver import RunsBeside
from groundplane.spi.launch import Container, Launch, Whole
from groundplane.store import attempts, caches, runs, tasks

_MOST_ROUNDS = 8
"""How often a claim looks behind tasks that only lack a licence seat or their part of a quota, before it leaves more of
that to the next one."""


@dataclass(slots=True)
class Claims:
    """launches: to be submitted now. fetch: (task, run, URL) to be fetched first. bring: (run, position) of steps whose
    image is to be brought first. runs: ids of those that changed.
    more: others may be ready: as many were found as were asked for, or some ended here and made others ready.
    limits: pools of licence seats, and limits.QUOTAS, that tasks were found to need. ask: pools whose server is to be
    asked. freed: whether runs may have ended here, which counts for quotas."""

    launches: list[Launch] = field(default_factory=list[Launch])
    fetch: list[tuple[int, int, str]] = field(default_factory=list[tuple[int, int, str]])
    bring: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    runs: set[str] = field(default_factory=set[str])
    more: bool = False
    limits: set[str] = field(default_factory=set[str])
    freed: bool = False
    ask: set[str] = field(default_factory=set[str])


def claim(platform: Platform, connection: Connection, backend: str, limit: int, deadline: float) -> Claims:
    """Up to `limit` ready tasks of the backend become attempts of this control plane, in this transaction."""
    found = Claims()
    at = platform.database.now(connection)
    site = platform.driver(backend).site
    limits = Limits(platform, connection)
    for _ in range(_MOST_ROUNDS):
        left = limit - len(found.launches)
        rows = tasks.claimable(connection, backend, site, left, limits.full, limits.beyond)
        held_back = _claim(platform, connection, backend, rows, limits, at, deadline, found) if rows else 0
        if not held_back or len(found.launches) == limit:
            found.more |= len(rows) == left
            break
    else:
        found.more = True
    found.ask = limits.ask
    return found


def _claim(
    platform: Platform,
    connection: Connection,
    backend: str,
    rows: Sequence[Any],
    limits: Limits,
    at: int,
    deadline: float,
    found: Claims,
) -> int:
    """Adds what becomes of these rows to `found`; how many of them lack a seat or their part of a quota alone."""
    found.limits |= limits.look(rows)
    held_back = {row.id for row in rows if limits.holds_back(row)}
    rows = [row for row in rows if row.id not in held_back]
    taken: list[dict[str, Any]] = []
    new_attempts: list[dict[str, Any]] = []
    moves: list[dict[str, Any]] = []
    ended: list[progress.Ended] = []
    parallel: dict[tuple[int, int], int] = {}
    batch = _Batch(platform, connection)
    for row in rows:
        found.runs.add(row.run_uid)
        if not limits.may_begin(row):
            held_back.add(row.id)
            continue
        place = (row.run_id, row.position)
        if row.max_parallel is not None:
            active = parallel.get(place)
            if active is None:
                active = tasks.active_in_step(connection, row.run_id, row.position)
            if active >= row.max_parallel:
                continue
            parallel[place] = active + 1
        plan = plans.load(connection, row.plan)
        step = fanout.fill(plan.step(row.position), row.item or "")
        placed = plan.placement(step)
        if placed.image is not None and not placed.lock:  # what it is comes first: it decides what may be reused
            _wait_for_image(connection, row, found)
            continue
        if missing := _not_fetched(connection, row, step):
            tasks.set_ready(connection, [row.id], 2)
            found.fetch.extend((row.id, row.run_id, url) for url in missing)
            continue
        try:
            prepared = batch.prepare(plan, step, row)
        except staging.MissingInput as missing:
            ended.append(progress.Ended(row.id, row.run_id, row.position, "failed", missing.reason))
            continue
        except (GroundError, OSError) as error:
            ended.append(progress.Ended(row.id, row.run_id, row.position, "failed", _unprepared(step, error)))
            continue
        if isinstance(prepared, progress.Ended):
            ended.append(prepared)
            continue
        if placed.image is not None and not bringing.is_there(platform, backend, prepared.image):
            _wait_for_image(connection, row, found)
            continue
        if not limits.take(row):
            held_back.add(row.id)
            continue
        number = row.attempts + 1
        uid = f"{row.run_uid}.{row.position}.{row.number}.{number}"
        found.launches.append(prepared.launch(uid, epoch=1, deadline=deadline))
        taken.append({"key": row.id, "tried": number, "key_of_reuse": prepared.key, "read": prepared.read})
        new_attempts.append(
            {
                "uid": uid,
                "run_id": row.run_id,
                "task_id": row.id,
                "number": number,
                "backend": backend,
                "state": "starting",
                "holder": platform.holder,
                "epoch": 1,
                "claimed_at": at,
                "licence": row.licence,
            }
        )
        moves.append({"run_id": row.run_id, "task_id": row.id, "attempt": number, "state": "starting", "at": at})
    runs.begin(connection, {row.run_id for row in rows if row.run_state == "queued" and row.id not in held_back}, at)
    tasks.claim(connection, taken)
    attempts.add(connection, new_attempts)
    limits.note()
    found.runs |= progress.end(platform, connection, ended, at, moves)
    found.more |= bool(ended)
    found.freed |= bool(ended)
    return len(held_back)


def _wait_for_image(connection: Connection, row: Any, found: Claims) -> None:
    tasks.set_ready(connection, [row.id], bringing.READY)
    found.bring.append((row.run_id, row.position))


def relaunch(platform: Platform, connection: Connection, row: Any, deadline: float) -> Launch:
    """The launch of an attempt that is claimed already, made again for its present epoch. row: as `attempts.held`."""
    plan = plans.load(connection, row.plan)
    prepared = _Batch(platform, connection).prepare(
        plan, fanout.fill(plan.step(row.position), row.item or ""), row, reusing=False
    )
    if isinstance(prepared, progress.Ended):
        raise TypeError("a claimed attempt is never reused")
    return prepared.launch(row.uid, epoch=row.epoch, deadline=deadline)


@dataclass(frozen=True, slots=True)
class _Prepared:
    platform: Platform
    plan: RunPlan
    step: Step
    row: Any
    staged: staging.Staged
    image: bringing.Found | None
    base: Mapping[str, str]
    secrets: tuple[str, ...]
    key: str | None
    confined: bool
    whole: Whole | None
    granted: Granted = granting.NOTHING

    @property
    def read(self) -> str | None:
        return json.dumps(self.staged.read) if self.staged.read else None

    def launch(self, uid: str, epoch: int, deadline: float) -> Launch:
        placed = self.plan.placement(self.step)
        support = self.platform.driver(placed.backend).support(uid)
        command = calls.command(self.platform.home, self.plan, self.step, support, confined=self.confined)
        granted = self.granted
        own = work_tokens.environment(self.platform, self.row.actor, uid, self.step.scopes)
        return Launch(
            attempt=uid,
            epoch=epoch,
            run=self.row.run_uid,
            task=self.row.name,
            snapshot=self.row.snapshot,
            command=command,
            env={
                **licences.variables(self.row.licence, self.row.server, {**self.base, **self.step.environment}),
                **self.base,
                **command.env,
                **variables.for_step(self.step.parameters, self.step.environment, self.step.resources),
                **granted.environment(support),
                **own,
                "GROUND_RUN": self.row.run_uid,
                "GROUND_TASK": self.row.name,
            },
            deadline=deadline,
            inputs=self.staged.files,
            outputs=self.step.outputs,
            resources=self.step.resources,
            redact=tuple(dict.fromkeys((*self.secrets, *granted.hidden, *filter(None, [own.get("GROUND_TOKEN")])))),
            container=self._container(placed),
            project=self.row.project,
            confined=self.confined,
            network=placed.network,
            strange=bool(self.row.confined),
            whole=self.whole,
            private=granted.files,
            confidential=(*granted.variables, *own),
        )

    def _container(self, placed: Placement) -> Container | None:
        if placed.image is None:
            return None
        return Container(bringing.name(self.platform, placed.backend, self.image), placed.network)


class _Batch:
    """What the tasks of one transaction share: a run's variables are unsealed once."""

    def __init__(self, platform: Platform, connection: Connection) -> None:
        self._platform = platform
        self._connection = connection
        self._runs: dict[int, tuple[Variables, dict[str, str], tuple[str, ...]]] = {}
        self._grants: dict[object, Granted] = {}

    def prepare(self, plan: RunPlan, step: Step, row: Any, *, reusing: bool = True) -> _Prepared | progress.Ended:
        found, base, secrets = self._of_run(row.run_id, row.run_uid)
        placed = plan.placement(step)
        image = None
        confined = bool(row.confined) and isinstance(self._platform.driver(placed.backend), RunsBeside)
        if confined:
            base = found.confined(network=placed.network)
        if placed.image is not None:
            base = found.inside(network=placed.network)
            image = bringing.found(self._platform, self._connection, placed)
        staged = staging.stage(self._connection, self._platform.home, plan, row.run_id, step)
        key = None
        if reuse.eligible(step, plan) and reusing and not bringing.floats(image):
            parts = reuse.components(self._platform.home, plan, step, staged.digests, found)
            key = reuse.key_of(self._connection, parts)
            earlier = None if plan.fresh else tasks.reusable(self._connection, key, row.team)
            if earlier is not None and _present(self._platform.home, self._connection, earlier.id):
                read = json.dumps(staged.read)
                own = labels.of_task(plan, step, read)
                return progress.Ended(
                    row.id,
                    row.run_id,
                    row.position,
                    "succeeded",
                    exit_code=earlier.exit_code,
                    reused=True,
                    read=read,
                    outputs=progress.copy_artifacts(self._connection, earlier.id, row.id, row.run_id, row.project, own),
                )
        whole = plans.load_whole(self._connection, plan.whole) if plan.whole else None
        granted = self._granted(plan.pipeline.project, step)
        return _Prepared(self._platform, plan, step, row, staged, image, base, secrets, key, confined, whole, granted)

    def _granted(self, project: str, step: Step) -> Granted:
        """Opened once for all tasks of a step."""
        asked = project, tuple(step.secrets.items()), step.connections
        if asked not in self._grants:
            self._grants[asked] = granting.grant(self._platform, self._connection, project, step)
        return self._grants[asked]

    def _of_run(self, run_id: int, run_uid: str) -> tuple[Variables, dict[str, str], tuple[str, ...]]:
        if run_id not in self._runs:
            found = variables.unseal(self._platform.home, self._connection, run_id, run_uid)
            self._runs[run_id] = (found, found.base(self._platform.home), found.secrets)
        return self._runs[run_id]


def _not_fetched(connection: Connection, row: Any, step: Step) -> list[str]:
    wanted = staging.urls(step)
    here = caches.fetched(connection, row.run_id) if wanted else {}
    return [url for url in wanted if url not in here]


def _present(home: Path, connection: Connection, task_id: int) -> bool:
    """Whether every output of the earlier task is still in the store, whole."""
    for row in tasks.artifacts_of_task(connection, task_id):
        try:
            if layout.blob(home, row.sha256).stat().st_size != row.size:
                return False
        except FileNotFoundError:
            return False
    return True


def _unprepared(step: Step, error: GroundError | OSError) -> Reason:
    if isinstance(error, GroundError):
        return reasons.of_error(error)
    return Reason("start_failed", f"step {step.name!r} could not be prepared: {error}", fault=Fault.PLATFORM)


def fetch_done(connection: Connection, task_id: int) -> None:
    """One of its URLs is here: claiming it tells whether others are missing."""
    tasks.set_ready(connection, [task_id], 1)


def fetch_failed(platform: Platform, connection: Connection, task_id: int, run_id: int, reason: Reason) -> set[str]:
    """A URL could not be fetched: the task fails. The runs that changed."""
    runs.lock(connection, [run_id])
    row = next(row for row in tasks.of_run(connection, run_id) if row.id == task_id)
    if row.state != "queued":
        return set()
    return progress.end(platform, connection, [progress.Ended(task_id, run_id, row.position, "failed", reason)], now())
