"""What a run will do, decided before anything starts: pipeline, engines, snapshot, backend."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sqlalchemy import Connection

from groundplane.model.environments import Environment
from groundplane.model.locks import Lock
from groundplane.model.pipelines import Pipeline, SourceKind, Step
from groundplane.spi import wire
from groundplane.spi.launch import Whole
from groundplane.store import documents


@dataclass(frozen=True, slots=True)
class PlannedEngine:
    """What runs a step. `path` is "" when the caller has no such program (`missing` then says what was looked for).

    script_sha256: the script's content. libraries: fingerprint of the engine's library folders ("" when not asked).
    """

    toolchain: str
    name: str
    path: str = ""
    version: str = ""
    missing: str = ""
    script_sha256: str = ""
    libraries: str = ""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a step runs. site: as its driver's: where its work lives, "" when any control plane may follow it.

    environment: its name, "" for the backend's own programs or the catalogue's own environment. lock: digest of the
    document that holds its Lock. image: the environment whose image it runs in; None on backends that run none.
    definition: of that environment, with the project's files that its lock is made from. network: whether the work may
    use one, where it is in a container or confined.
    """

    backend: str
    site: str = ""
    environment: str = ""
    lock: str = ""
    image: Environment | None = None
    definition: str = ""
    network: bool = False


@dataclass(frozen=True)
class RunPlan:
    """Stored once as a document; a rerun uses it again.

    lone: a script given alone. folder: the project folder that the caller named. environment: names of `-e` values.
    backend: of all steps but those that say another one. placements: by step. warnings: sentences for the caller.
    labels: of all data of the project.
    whole: digest of the document that holds the pipeline as its backend runs it whole; "" where tasks run one by one.
    """

    name: str
    pipeline: Pipeline
    lone: bool
    fresh: bool
    backend: str
    snapshot: str
    folder: str
    engines: Mapping[str, PlannedEngine]
    environment: tuple[str, ...] = ()
    files: int = 0
    bytes: int = 0
    ignored: tuple[str, ...] = field(default=())
    placements: Mapping[str, Placement] = field(default_factory=dict[str, Placement])
    warnings: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    whole: str = ""

    def placement(self, step: Step) -> Placement:
        """Where the step runs."""
        return self.placements.get(step.name) or Placement(self.backend)

    @cached_property
    def backends(self) -> frozenset[str]:
        """Where its steps run."""
        return frozenset(self.placement(step).backend for step in self.pipeline.steps)

    @property
    def shown_pipeline(self) -> str:
        """The pipeline's name; "" for a lone script, which is none to a user."""
        return "" if self.lone else self.pipeline.name

    @cached_property
    def positions(self) -> dict[str, int]:
        """Step name -> its position."""
        return {step.name: index for index, step in enumerate(self.pipeline.steps)}

    @cached_property
    def dependents(self) -> tuple[tuple[int, ...], ...]:
        """Per position, the positions of the steps that wait for it."""
        found: list[list[int]] = [[] for _ in self.pipeline.steps]
        for index, step in enumerate(self.pipeline.steps):
            for needed in step.needs:
                found[self.positions[needed]].append(index)
        return tuple(tuple(row) for row in found)

    def behind(self, positions: set[int]) -> list[int]:
        """The positions of all steps that wait, directly or not, for one of these."""
        found: set[int] = set()
        stack = list(positions)
        while stack:
            for index in self.dependents[stack.pop()]:
                if index not in found:
                    found.add(index)
                    stack.append(index)
        return sorted(found)

    def step(self, position: int) -> Step:
        """The step at that position."""
        return self.pipeline.steps[position]


def is_dynamic(step: Step) -> bool:
    """Whether how many tasks it has is known only when another step has ended."""
    each = step.for_each
    return each is not None and each.source is not None and each.source.kind is SourceKind.STEP


def store(connection: Connection, plan: RunPlan) -> str:
    """Its digest."""
    return documents.put(connection, wire.encode(plan))


def store_lock(connection: Connection, lock: Lock) -> str:
    """Its digest, which placements name."""
    return documents.put(connection, wire.encode(lock))


def lock_digest(lock: Lock) -> str:
    """The digest that `store_lock` gives for it, made once an object: those who read locks keep them."""
    known = _digests.get(id(lock))
    if known is None or known[0] is not lock:
        if len(_digests) > 256:
            _digests.clear()
        known = _digests[id(lock)] = lock, hashlib.sha256(wire.encode(lock)).hexdigest()
    return known[1]


def load_lock(connection: Connection, digest: str) -> Lock:
    """The lock that the document holds, read once a process."""
    found = _locks.get(digest)
    if found is None:
        body = documents.get(connection, digest)
        if body is None:
            raise LookupError(f"the database lacks document {digest}")
        found = _locks.setdefault(digest, wire.decode(Lock, wire.parse(body)))
        if len(_locks) > 256:
            _locks.pop(next(iter(_locks)), None)
    return found


def store_whole(connection: Connection, whole: Whole) -> str:
    """Its digest, which the plan names."""
    return documents.put(connection, wire.encode(whole))


def load_whole(connection: Connection, digest: str) -> Whole:
    """The pipeline that the document holds, read once a process."""
    found = _wholes.get(digest)
    if found is None:
        body = documents.get(connection, digest)
        if body is None:
            raise LookupError(f"the database lacks document {digest}")
        found = _wholes.setdefault(digest, wire.decode(Whole, wire.parse(body)))
        if len(_wholes) > 16:  # each may have megabytes
            _wholes.pop(next(iter(_wholes)), None)
    return found


def load(connection: Connection, digest: str) -> RunPlan:
    """The plan with that digest, read once a process."""
    found = _cache.get(digest)
    if found is None:
        body = documents.get(connection, digest)
        if body is None:
            raise LookupError(f"the database lacks document {digest}")
        found = _cache.setdefault(digest, _read(body))
        if len(_cache) > 256:
            _cache.pop(next(iter(_cache)), None)
    return found


_cache: dict[str, RunPlan] = {}
_locks: dict[str, Lock] = {}
_wholes: dict[str, Whole] = {}
_digests: dict[int, tuple[Lock, str]] = {}


def _read(body: bytes) -> RunPlan:
    plain: dict[str, Any] = wire.parse(body)
    return wire.decode(RunPlan, plain)
