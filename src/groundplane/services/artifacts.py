"""A run's artifacts: listed, found, read, and freed of a label."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from groundplane.model.documents import ArtifactDocument
from groundplane.model.errors import Conflict, Invalid, NotFound, Unavailable
from groundplane.services import gate, labels, visibility
from groundplane.services import runs as run_service
from groundplane.services.access import Actor
from groundplane.services.objects import Resource
from groundplane.services.platform import Platform, now
from groundplane.spi import layout
from groundplane.store import labels as label_rows
from groundplane.store import runs, tasks

_SHOWN = 20


def listing(platform: Platform, actor: Actor, ref: str) -> list[ArtifactDocument]:
    """All artifacts of a run, in the order of its tasks."""
    uid = run_service.find(platform, actor, ref, visibility.DATA)
    with platform.database.read() as connection:
        return _of_run(connection, runs.by_uid(connection, uid))


def _of_run(connection: Connection, run: Any) -> list[ArtifactDocument]:
    names = {row.id: row.name for row in tasks.of_run(connection, run.id)}
    return [
        ArtifactDocument(
            name=f"{names[row.task_id]}/{row.name}",
            task=names[row.task_id],
            output=row.name,
            kind=row.kind,
            size=row.size,
            sha256=row.sha256,
            labels=tuple(json.loads(row.labels)),
        )
        for row in tasks.artifacts_of_run(connection, run.id)
    ]


def find(platform: Platform, actor: Actor, ref: str, name: str) -> tuple[Path, ArtifactDocument]:
    """The file that holds the artifact TASK/NAME, read-only, for the actor to be shown. Raises NotFound that lists what
    there is."""
    _, document, on = _seen(platform, actor, ref, name)
    gate.require(platform, actor, "artifact.read", on)
    path = layout.blob(platform.home, document.sha256)
    if not path.exists():
        raise Unavailable(f"the content of {name} is gone from the store", hint="run its step again: --fresh")
    return path, document


def declassify(platform: Platform, actor: Actor, ref: str, name: str, label: str, reason: str) -> ArtifactDocument:
    """Takes a label off the artifact: that content has it no more in its project, also where it is made again.

    What was made from it before keeps the label. Raises Invalid without a reason, Conflict when it has no such label.
    """
    labels.check([label])
    if not reason.strip():
        raise Invalid("there is no reason", hint="say why it may lose the label: --reason TEXT")
    run, document, on = _seen(platform, actor, ref, name)
    facts = {"label": label, "labels": list(document.labels), "sha256": document.sha256, "reason": reason.strip()}
    with gate.change(platform, actor, "artifact.declassify", on.name, on, **facts) as connection:
        runs.lock(connection, [run.id])
        has = _named(_of_run(connection, run), run.uid, name).labels
        if label not in has:
            shown = f"its labels are: {', '.join(has)}" if has else "it has none"
            raise Conflict(f"{name} of run {run.uid} is not labelled {label!r}", hint=shown)
        label_rows.take_off(connection, run.project, document.sha256, label, now())
        return _named(_of_run(connection, run), run.uid, name)


def _seen(platform: Platform, actor: Actor, ref: str, name: str) -> tuple[Any, ArtifactDocument, Resource]:
    """The run, the artifact of that name, and it as policies see it: with its own labels. Raises NotFound."""
    row, of_run = run_service.seen(platform, actor, ref)
    with platform.database.read() as connection:
        known = _of_run(connection, row)
    if name not in [each.name for each in known]:  # what there is instead is told to who may be shown it
        gate.require(platform, actor, "artifact.read", replace(of_run, labels=frozenset()))
    document = _named(known, row.uid, name)
    return row, document, replace(of_run, kind="artifact", name=_told(row.uid, name), labels=frozenset(document.labels))


def _named(known: Sequence[ArtifactDocument], ref: str, name: str) -> ArtifactDocument:
    for document in known:
        if document.name == name:
            return document
    shown = ", ".join(document.name for document in known[:_SHOWN]) + (", …" if len(known) > _SHOWN else "")
    raise NotFound(f"run {ref} has no artifact {name!r}", hint=f"it has: {shown or 'none'}")


def _told(uid: str, name: str) -> str:
    """As an event names it: bytes of a name that are no UTF-8 as `\\xe9`."""
    return f"{uid}/{name.encode(errors='surrogateescape').decode(errors='backslashreplace')}"
