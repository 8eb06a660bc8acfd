"""What a task is given of its step's secrets and connections: variables, private files, and what no log may show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from groundplane.model.pipelines import Step
from groundplane.model.secrets import is_variable, to_hide
from groundplane.services import connections, idioms, secrets
from groundplane.services.connections import Opened
from groundplane.services.plans import RunPlan
from groundplane.services.platform import Platform
from groundplane.spi.launch import PrivateFile

_FOLDER = "connections"
"""Of the support folder."""
_ODBC, _SERVICES, _PASSWORDS = (f"{_FOLDER}/{name}" for name in ("odbc.ini", "pg_service.conf", "pgpass"))


@dataclass(frozen=True, slots=True)
class Granted:
    """files: see `Launch.private`. hidden: see `Launch.redact`."""

    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    files: tuple[PrivateFile, ...] = ()
    hidden: tuple[str, ...] = ()
    databases: bool = False

    def environment(self, support: str) -> dict[str, str]:
        """support: the task's support folder, as the work sees it."""
        if not self.databases:
            return dict(self.variables)
        places = {"ODBCINI": _ODBC, "PGSERVICEFILE": _SERVICES, "PGPASSFILE": _PASSWORDS}
        return {**self.variables, **{name: f"{support}/{path}" for name, path in places.items()}}


NOTHING = Granted()


def check(platform: Platform, plan: RunPlan) -> None:
    """Raises NotFound, Invalid or Unavailable for what a step names and could not get."""
    secrets.check(platform, plan)
    connections.check(platform, plan)


def grant(platform: Platform, connection: Connection, project: str, step: Step) -> Granted:
    """Raises what opening them raises: NotFound, Invalid, Unavailable."""
    if not step.secrets and not step.connections:
        return NOTHING
    variables: dict[str, str] = {}
    files: list[PrivateFile] = []
    hidden: list[str] = []
    for place, name in step.secrets.items():
        value = secrets.open_(platform, connection, project, name)
        text = value.decode(errors="surrogateescape")
        hidden += to_hide(text)
        if is_variable(place):
            variables[place] = secrets.as_variable(place, name, value)
        else:
            files.append(PrivateFile(place, text))
    opened = [connections.open_(platform, connection, project, name) for name in step.connections]
    for each in opened:
        variables |= idioms.variables(each.name, each.target, each.password)
        if each.password is not None:
            hidden += idioms.spellings(each.password)
    databases = [each for each in opened if each.target.is_database]
    files += _files(databases)
    return Granted(variables, tuple(files), tuple(dict.fromkeys(hidden)), bool(databases))


def _files(databases: Sequence[Opened]) -> list[PrivateFile]:
    if not databases:
        return []
    passwords = [idioms.pgpass(each.target, each.password) for each in databases if each.password is not None]
    texts = {
        _ODBC: "".join(idioms.odbc(each.name, each.target, each.password) for each in databases),
        _SERVICES: "".join(idioms.service(each.name, each.target) for each in databases),
        _PASSWORDS: "".join(passwords),
    }
    # unixODBC opens its file for writing before it reads it, and finds no data source where it may not.
    return [PrivateFile(path, text, beside=True, writable=path == _ODBC) for path, text in texts.items()]
