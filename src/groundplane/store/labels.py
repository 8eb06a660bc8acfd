"""Labels of data, and those that somebody took off."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence

from sqlalchemy import Connection, select, update

from groundplane.store import teams, upserts
from groundplane.store.account_tables import projects
from groundplane.store.label_tables import declassifications
from groundplane.store.tables import artifacts, runs


def text(labels: Iterable[str]) -> str:
    """As columns hold them."""
    return json.dumps(sorted(set(labels)))


def of_text(column: str) -> frozenset[str]:
    """What `text` made."""
    return frozenset(json.loads(column)) if column != "[]" else _NONE


_NONE: frozenset[str] = frozenset()


def of_project(connection: Connection, project: str) -> frozenset[str]:
    """Those of a project that somebody made."""
    row = teams.project(connection, project)
    return of_text(row.labels) if row is not None else _NONE


def set_project(connection: Connection, project: str, labels: Iterable[str]) -> bool:
    """Whether there is such a project."""
    if teams.project(connection, project) is None:
        return False
    query = update(projects).where(projects.c.name == project).values(labels=text(labels))
    return bool(connection.execute(query).rowcount)


def taken_off(connection: Connection, project: str, sha256s: Collection[str]) -> set[tuple[str, str]]:
    """(content, label) of what somebody took off any of these contents in the project."""
    query = select(declassifications.c.sha256, declassifications.c.label).where(
        declassifications.c.project == project, declassifications.c.sha256.in_(list(sha256s))
    )
    return {(row.sha256, row.label) for row in connection.execute(query)}


def take_off(connection: Connection, project: str, sha256: str, label: str, at: int) -> None:
    """The content has that label no more in the project, neither where it is an artifact now nor when it is made
    again."""
    upserts.keep(connection, declassifications, {"project": project, "sha256": sha256, "label": label, "at": at})
    query = (
        select(artifacts.c.id, artifacts.c.labels)
        .join(runs, runs.c.id == artifacts.c.run_id)
        .where(artifacts.c.sha256 == sha256, runs.c.project == project, artifacts.c.labels != "[]")
    )
    for row in connection.execute(query).all():
        left = of_text(row.labels) - {label}
        connection.execute(update(artifacts).where(artifacts.c.id == row.id).values(labels=text(left)))


def add_to_run(connection: Connection, run_id: int, labels: Iterable[str]) -> None:
    """The run has read or made something with these labels, too. The caller has the run locked."""
    known = of_text(connection.execute(select(runs.c.labels).where(runs.c.id == run_id)).scalar_one())
    more = known | set(labels)
    if more != known:
        connection.execute(update(runs).where(runs.c.id == run_id).values(labels=text(more)))


def made(connection: Connection, run_id: int) -> Sequence[tuple[int, frozenset[str]]]:
    """(task, labels) of each of a run's artifacts."""
    query = select(artifacts.c.task_id, artifacts.c.labels).where(artifacts.c.run_id == run_id)
    return [(row.task_id, of_text(row.labels)) for row in connection.execute(query)]
