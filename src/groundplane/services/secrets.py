"""Secrets: set, listed without their values, removed, opened for the work that names them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from groundplane.model.documents import SecretDocument
from groundplane.model.errors import Invalid, NotFound
from groundplane.model.secrets import LARGEST, check_name, is_variable
from groundplane.services import gate, sealing, visibility
from groundplane.services.access import Actor
from groundplane.services.objects import Resource
from groundplane.services.plans import RunPlan
from groundplane.services.platform import Platform, iso, now
from groundplane.services.sealing import Envelope
from groundplane.services.spec.values import NAME
from groundplane.store import secrets


def put(platform: Platform, actor: Actor, name: str, project: str | None, value: bytes) -> SecretDocument:
    """Sets it, byte for byte, in place of what it was. project: whose work alone gets it; None: that of all."""
    check_name(name)
    check_project(project)
    if not value:
        raise Invalid(f"the value of secret {name} is empty", hint=f"printf %s VALUE | ground secrets set {name}")
    if len(value) > LARGEST:
        raise Invalid(
            f"the value of secret {name} has {len(value)} bytes, more than {LARGEST}",
            hint="keep its key here, and what it opens elsewhere",
        )
    owner = project or ""
    on = belonging(platform, "secret", name, project)
    with gate.change(platform, actor, "secret.set", name, on, project=project) as connection:
        visibility.require_made(actor, owner, on.team)
        known = secrets.get(connection, name, owner, lock=True)
        version = known.version + 1 if known is not None else 1
        at = now()
        envelope = sealing.seal(platform.home, value, owner, name, version)
        secrets.put(
            connection,
            name,
            owner,
            {
                "version": version,
                "keeper": envelope.keeper,
                "wrapped": envelope.wrapped,
                "sealed": envelope.sealed,
                "set_at": at,
                "set_by": actor.name,
            },
        )
    return SecretDocument(name, project, version, iso(at) or "", actor.name)


def remove(platform: Platform, actor: Actor, name: str, project: str | None) -> None:
    """Forgets it. Raises NotFound."""
    on = belonging(platform, "secret", name, project)
    with gate.change(platform, actor, "secret.remove", name, on, project=project) as connection:
        if not secrets.remove(connection, name, project or ""):
            raise NotFound(f"there is no secret {_shown(name, project)}", hint="`ground secrets list` shows them")


def listing(platform: Platform, actor: Actor) -> list[SecretDocument]:
    """Every secret that the actor may see, without its value."""
    with platform.database.read() as connection:
        rows = seen(platform, connection, actor, "secret", secrets.listing(connection))
    return [
        SecretDocument(row.name, row.project or None, row.version, iso(row.set_at) or "", row.set_by) for row in rows
    ]


def open_(platform: Platform, connection: Connection, project: str, name: str) -> bytes:
    """What the project's work gets under that name. Raises NotFound, and Unavailable."""
    row = secrets.serving(connection, name, project)
    if row is None:
        raise missing(name, project)
    envelope = Envelope(row.keeper, row.wrapped, row.sealed)
    return sealing.open_(platform.home, envelope, f"secret {name}", row.project, row.name, row.version)


def check(platform: Platform, plan: RunPlan) -> None:
    """Raises NotFound for a secret that a step names and nobody has set, and Invalid for one that it cannot get."""
    if not any(step.secrets for step in plan.pipeline.steps):
        return
    project = plan.pipeline.project
    with platform.database.read() as connection:
        for step in plan.pipeline.steps:
            for place, name in step.secrets.items():
                value = open_(platform, connection, project, name)
                if is_variable(place):
                    as_variable(place, name, value)


def belonging(platform: Platform, kind: str, name: str, project: str | None) -> Resource:
    """A project's secret or connection, or the platform's own, as policies see it."""
    return visibility.of_project(platform, kind, project, name) if project else Resource(kind, name)


def seen(platform: Platform, connection: Connection, actor: Actor, kind: str, rows: Sequence[Any]) -> list[Any]:
    """Those of the rows that the actor may see: it is the same for all of a project."""
    may: dict[str, bool] = {}
    for row in rows:
        if row.project not in may:
            on = belonging(platform, kind, row.name, row.project or None)
            may[row.project] = gate.decide(platform, connection, actor, f"{kind}.see", on).allowed
    return [row for row in rows if may[row.project]]


def as_variable(place: str, name: str, value: bytes) -> str:
    """The value as an environment variable has it. Raises Invalid for a NUL."""
    if b"\0" in value:
        raise Invalid(
            f"secret {name} holds a NUL character, which the variable {place} cannot",
            hint=f'give it as a file: secrets = {{ "{place.lower()}" = "{name}" }}',
        )
    return value.decode(errors="surrogateescape")


def check_project(project: str | None) -> None:
    """Raises Invalid for what can be no project."""
    if project is not None and not NAME.fullmatch(project):
        raise Invalid(f"{project!r} is no name of a project", hint="use letters a-z, digits, `_` and `-`, at most 100")


def missing(name: str, project: str) -> NotFound:
    """Nobody has set what the project's work names."""
    return NotFound(
        f"there is no secret {name!r} for project {project!r}",
        hint=f"printf %s VALUE | ground secrets set {name} --project {project}",
        code="missing_secret",
    )


def _shown(name: str, project: str | None) -> str:
    return f"{name!r} of project {project!r}" if project else f"{name!r} of all projects"
