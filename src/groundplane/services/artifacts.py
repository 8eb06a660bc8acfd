"""A run's artifacts: listed, found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from groundplane.model.documents import ArtifactDocument
from groundplane.model.errors import NotFound, Unavailable
from groundplane.services import runs as run_service
from groundplane.services.platform import Platform
from groundplane.spi import layout
from groundplane.store import runs, tasks

_SHOWN = 20


def listing(platform: Platform, ref: str) -> list[ArtifactDocument]:
    """All artifacts of a run, in the order of its tasks."""
    uid = run_service.resolve(platform, ref)
    with platform.database.read() as connection:
        run: Any = runs.by_uid(connection, uid)
        names = {row.id: row.name for row in tasks.of_run(connection, run.id)}
        rows = tasks.artifacts_of_run(connection, run.id)
    return [
        ArtifactDocument(
            name=f"{names[row.task_id]}/{row.name}",
            task=names[row.task_id],
            output=row.name,
            kind=row.kind,
            size=row.size,
            sha256=row.sha256,
        )
        for row in rows
    ]


def find(platform: Platform, ref: str, name: str) -> tuple[Path, ArtifactDocument]:
    """The file that holds the artifact TASK/NAME, read-only. Raises NotFound that lists what there is."""
    known = listing(platform, ref)
    for document in known:
        if document.name == name:
            path = layout.blob(platform.home, document.sha256)
            if not path.exists():
                raise Unavailable(f"the content of {name} is gone from the store", hint="run its step again: --fresh")
            return path, document
    shown = ", ".join(document.name for document in known[:_SHOWN]) + (", …" if len(known) > _SHOWN else "")
    raise NotFound(f"run {ref} has no artifact {name!r}", hint=f"it has: {shown or 'none'}")
