"""What a task reads: from which blob or project file each of its inputs comes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from sqlalchemy import Connection

from groundplane.data.formats import convertible
from groundplane.model.connections import QUERY_RESULT
from groundplane.model.pipelines import Input, Source, SourceKind, Step
from groundplane.model.reasons import Fault, Reason
from groundplane.services.plans import RunPlan
from groundplane.services.spec import fanout
from groundplane.spi import layout
from groundplane.spi.launch import StageIn
from groundplane.spi.snapshots import Entry, Manifest
from groundplane.store import caches, labels, tasks

_SHA256_LENGTH = 64


class MissingInput(Exception):
    """An input that is not there; carries the task's reason."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Staged:
    """files: for the launch. read: for the task's document. digests: input path -> content, for the reuse key."""

    files: tuple[StageIn, ...]
    read: list[dict[str, Any]]
    digests: dict[str, str]


def stage(connection: Connection, home: Path, plan: RunPlan, run_id: int, step: Step) -> Staged:
    """Everything that a task reads; `step` has its fan-out's item filled in. Raises MissingInput."""
    return _stage(connection, home, plan, run_id, step, lambda at: tasks.artifacts_of_step(connection, run_id, at))


def planned_digests(
    connection: Connection, home: Path, plan: RunPlan, step: Step, settled: Mapping[str, Any]
) -> dict[str, str]:
    """`Staged.digests` as they would be when these tasks (step name -> row) are reused. Raises MissingInput."""

    def outputs(position: int) -> Sequence[Any]:
        task = settled.get(plan.step(position).name)
        return tasks.artifacts_of_tasks(connection, [task.id]) if task is not None else []

    return _stage(connection, home, plan, 0, step, outputs).digests


def project_files(home: Path, snapshot: str) -> list[str]:
    """The names of the project's files, sorted."""
    return list(_entries(home, snapshot))


def known_items(home: Path, plan: RunPlan, step: Step) -> tuple[str, ...] | None:
    """The items of a fan-out that are known before the run; None for a step that is none."""
    if step.for_each is None:
        return None
    source = step.for_each.source
    if source is None:
        return fanout.items(step, ())
    if source.kind is not SourceKind.PROJECT:
        return ()
    return fanout.items(step, project_files(home, plan.snapshot))


def _stage(
    connection: Connection,
    home: Path,
    plan: RunPlan,
    run_id: int,
    step: Step,
    outputs: Callable[[int], Sequence[Any]],
) -> Staged:
    found = _Found(home)
    for wanted in step.inputs:
        if wanted.source.kind is SourceKind.PROJECT:
            _add_project_files(found, plan, wanted)
        elif wanted.source.kind is SourceKind.URL:
            url = wanted.source.path
            sha256, _ = caches.fetched(connection, run_id)[url]
            found.add(wanted.name, url, PurePosixPath(url.partition("?")[0]).name, sha256, wanted.labels)
        elif wanted.source.kind is SourceKind.QUERY:
            sha256, _ = caches.fetched(connection, run_id)[wanted.source.path]
            found.add(wanted.name, wanted.source.path, QUERY_RESULT, sha256, wanted.labels)
        else:
            _add_from_step(connection, found, plan, run_id, step, wanted, outputs)
    return Staged(tuple(found.files), found.read, found.digests)


def urls(step: Step) -> list[str]:
    """The URLs and queries that the task reads: what is fetched before it can start."""
    return [read.source.path for read in step.inputs if read.source.kind in (SourceKind.URL, SourceKind.QUERY)]


class _Found:
    """What `Staged` holds, while it grows."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.files: list[StageIn] = []
        self.read: list[dict[str, Any]] = []
        self.digests: dict[str, str] = {}

    def add(self, path: str, origin: str, source_name: str, sha256: str, labels: Iterable[str]) -> None:
        """A file from the store."""
        self.place(path, origin, source_name, str(layout.blob(self.home, sha256)), sha256, labels)

    def place(self, path: str, origin: str, source_name: str, source: str, content: str, labels: Iterable[str]) -> None:
        """A file from anywhere; content: what tells it from another."""
        self.note(path, origin, content, labels)
        convert = needs_conversion(source_name, path)
        self.files.append(StageIn(path=path, source=source, source_name=source_name if convert else ""))

    def note(self, path: str, origin: str, content: str, labels: Iterable[str]) -> None:
        """A file that stands there already."""
        sha256 = content if len(content) == _SHA256_LENGTH else ""
        entry: dict[str, Any] = {"name": path, "source": origin, "sha256": sha256, "lost": []}
        if labels:
            entry["labels"] = sorted(labels)
        self.read.append(entry)
        self.digests[path] = content


def _add_from_step(
    connection: Connection,
    found: _Found,
    plan: RunPlan,
    run_id: int,
    step: Step,
    wanted: Input,
    outputs: Callable[[int], Sequence[Any]],
) -> None:
    position = plan.positions[wanted.source.step]
    rows = outputs(position)
    if wanted.name.endswith("/") and plan.step(position).for_each is not None:
        by_task: dict[int, tuple[str, dict[str, Any]]] = {
            row.number: (row.item, {}) for row in tasks.of_step(connection, run_id, position)
        }
        for row in rows:
            by_task[row.number][1][row.name] = row
        numbers = list(by_task)
        places, index = fanout.joined(wanted, [(item, list(made)) for item, made in by_task.values()])
        for path, index_of_task, output in places:
            row = by_task[numbers[index_of_task]][1][output]
            found.add(path, f"{row.task_name}/{row.name}", row.name, row.sha256, _labels(wanted, row))
        found.files.append(StageIn(path=wanted.name + fanout.INDEX, text=index))
        return
    by_name = {row.name: row for row in rows}
    for path, name in fanout.placed(wanted, by_name):
        if name not in by_name:
            raise _missing(step, wanted)
        row = by_name[name]
        found.add(path, f"{row.task_name}/{row.name}", row.name, row.sha256, _labels(wanted, row))


def _labels(wanted: Input, artifact: Any) -> frozenset[str]:
    """What the step says of the input, and what the artifact is."""
    return labels.of_text(artifact.labels).union(wanted.labels)


def _add_project_files(found: _Found, plan: RunPlan, wanted: Input) -> None:
    entries = _entries(found.home, plan.snapshot)
    for path, name in fanout.placed(wanted, entries):
        entry = entries[name.removeprefix("./")]
        content = entry.sha256 or f"{entry.size} {entry.mtime_ns} {entry.ctime_ns} {entry.inode}"
        if path == name.removeprefix("./"):  # it stands in the snapshot already
            found.note(path, name, content, wanted.labels)
        else:
            source = entry.source or str(layout.blob(found.home, entry.sha256))
            found.place(path, entry.path, entry.path, source, content, wanted.labels)


@lru_cache(maxsize=16)
def _entries(home: Path, snapshot: str) -> dict[str, Entry]:
    return Manifest.from_json(layout.manifest(home, snapshot).read_bytes()).reachable()


def needs_conversion(source_name: str, path: str) -> bool:
    """Whether a table changes its format on its way from the name to the path."""
    ends = PurePosixPath(source_name).suffix.lower(), PurePosixPath(path).suffix.lower()
    return ends[0] != ends[1] and convertible(source_name, path)


def converted(step: Step) -> tuple[str, ...]:
    """The inputs whose tables change their format on their way, as far as their names tell before the run."""
    return tuple(entry.name for entry in step.inputs if needs_conversion(_origin(step, entry.source), entry.name))


def _origin(step: Step, source: Source) -> str:
    """The name whose ending tells a source's format."""
    if source.kind is SourceKind.QUERY:
        return QUERY_RESULT
    if source.kind is SourceKind.URL:
        return PurePosixPath(source.path.partition("?")[0]).name
    fan = step.for_each
    return fan.source.path if fan and fan.source and source.path == f"{{{fan.variable}}}" else source.path


def _missing(step: Step, wanted: Input) -> MissingInput:
    origin = f"{wanted.source.step}/{wanted.source.path}"
    return MissingInput(
        Reason(
            "missing_input",
            f"step {step.name!r} reads {origin!r}, which step {wanted.source.step!r} did not make",
            hint=f"`ground artifacts list latest` shows what {wanted.source.step!r} left",
            fault=Fault.USER,
        )
    )
