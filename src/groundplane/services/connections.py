"""Connections: databases and buckets, named once; a step that names one is told how to reach it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from sqlalchemy import Connection

from groundplane.model.connections import check_name, query_parts
from groundplane.model.documents import ConnectionDocument
from groundplane.model.errors import Invalid, NotFound, Unavailable
from groundplane.model.pipelines import SourceKind, Step
from groundplane.model.reasons import Reason
from groundplane.model.secrets import check_name as check_secret
from groundplane.services import callers, gate, idioms, secrets, visibility
from groundplane.services.access import Actor
from groundplane.services.idioms import Target
from groundplane.services.plans import RunPlan
from groundplane.services.platform import Platform, iso, now
from groundplane.store import connections


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection as work gets it. to_this_host: whether it may lead to the control plane's own host."""

    name: str
    target: Target
    password: str | None
    to_this_host: bool


def put(
    platform: Platform, actor: Actor, name: str, project: str | None, url: str, secret: str | None
) -> ConnectionDocument:
    """Makes it, or changes where it leads. secret: the name of the one that is its password."""
    check_name(name)
    if secret is not None:
        check_secret(secret)
    secrets.check_project(project)
    target = idioms.parse(url)
    if not target.is_database and bool(target.user) != bool(secret):
        lacking = "--password-secret NAME, its secret key" if target.user else "the id of its access key"
        raise Invalid(f"the bucket {target.name} lacks {lacking}", hint="write s3://KEY-ID@BUCKET/PREFIX")
    on = secrets.belonging(platform, "connection", name, project)
    with gate.change(platform, actor, "connection.add", name, on, project=project, url=target.url()) as connection:
        visibility.require_made(actor, project or "", on.team)
        own = not callers.is_stranger(actor)
        connections.put(connection, name, project or "", target.url(), secret, now(), to_this_host=own)
        return _document(connections.serving(connection, name, project or ""))


def remove(platform: Platform, actor: Actor, name: str, project: str | None) -> None:
    """Forgets it. Raises NotFound."""
    on = secrets.belonging(platform, "connection", name, project)
    with gate.change(platform, actor, "connection.remove", name, on, project=project) as connection:
        if not connections.remove(connection, name, project or ""):
            raise _unknown(name, project)


def listing(platform: Platform, actor: Actor) -> list[ConnectionDocument]:
    """Every connection that the actor may see."""
    with platform.database.read() as connection:
        rows = connections.listing(connection)
        return [_document(row) for row in secrets.seen(platform, connection, actor, "connection", rows)]


def show(platform: Platform, actor: Actor, name: str, project: str | None) -> ConnectionDocument:
    """One connection. project: the one that its work gets; None: that of all. Raises NotFound."""
    with platform.database.read() as connection:
        row = connections.serving(connection, name, project or "")
        if row is None or not secrets.seen(platform, connection, actor, "connection", [row]):
            raise _unknown(name, project)
    return _document(row)


def open_(platform: Platform, connection: Connection, project: str, name: str) -> Opened:
    """What the project's work gets under that name. Raises NotFound, Invalid and Unavailable."""
    row = connections.serving(connection, name, project)
    if row is None:
        raise NotFound(
            f"there is no connection {name!r} for project {project!r}",
            hint=f"ground connections add {name} postgresql://USER@HOST/DATABASE --password-secret SECRET",
            code="missing_connection",
        )
    password = None
    if row.secret is not None:
        password = _password(name, row.secret, secrets.open_(platform, connection, project, row.secret))
    return Opened(name, idioms.parse(row.url), password, bool(row.to_this_host))


def check(platform: Platform, plan: RunPlan) -> None:
    """Raises NotFound, Invalid or Unavailable for a connection that a step names and cannot get."""
    project = plan.pipeline.project
    with platform.database.read() as connection:
        for step in plan.pipeline.steps:
            for name in step.connections:
                open_(platform, connection, project, name)
            for name in queried(step):
                opened = open_(platform, connection, project, name)
                if not opened.target.is_database:
                    raise Invalid(f"step {step.name!r} asks connection {name!r}, which is a bucket")
                require_client()


def not_here(name: str, why: object) -> Reason:
    """A stranger has added it, and it leads to this host."""
    return Reason(
        "not_here",
        f"connection {name!r}: {why}",
        "whoever runs the control plane can add it there, on its own socket: others may then use it",
    )


def queried(step: Step) -> list[str]:
    """The connections that its inputs ask."""
    asked = [read.source.path for read in step.inputs if read.source.kind is SourceKind.QUERY]
    return list(dict.fromkeys(query_parts(text)[0] for text in asked))


def require_client() -> None:
    """Raises Unavailable where there is nothing to ask PostgreSQL with."""
    if find_spec("psycopg") is None:
        raise Unavailable(
            "queries need the Python package psycopg beside the control plane",
            hint="pip install 'groundplane[postgres]'",
            code="missing_library",
        )


def warnings(without_network: Sequence[Step]) -> list[str]:
    """Sentences for the caller. without_network: steps whose work reaches nothing."""
    return [
        f"step {step.name!r} has connections ({', '.join(step.connections)}) and no network to reach them by: "
        "set network = true"
        for step in without_network
        if step.connections
    ]


def _password(name: str, secret: str, value: bytes) -> str:
    try:
        text = value.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        text = "\0"
    if not text or any(character in text for character in "\r\n\0"):
        raise Invalid(
            f"secret {secret} is no password for connection {name}: it is empty, or holds bytes that are no line of "
            "UTF-8 text",
            hint=f"printf %s PASSWORD | ground secrets set {secret}",
        )
    return text


def _document(row: Any) -> ConnectionDocument:
    target = idioms.parse(row.url)
    given = tuple(idioms.variables(row.name, target, None))
    return ConnectionDocument(row.name, row.project or None, row.url, row.secret, iso(row.added_at) or "", given)


def _unknown(name: str, project: str | None) -> NotFound:
    whose = f"project {project!r}" if project else "all projects"
    return NotFound(f"there is no connection {name!r} of {whose}", hint="`ground connections list` shows them")
