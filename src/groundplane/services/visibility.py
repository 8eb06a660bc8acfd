"""Which runs an actor may see. What it may not see is, in every answer, as if it were not there."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from sqlalchemy import Connection

from groundplane.model.errors import NotFound
from groundplane.services import gate, scopes
from groundplane.services.access import Actor
from groundplane.services.objects import PLATFORM_TEAM, Resource
from groundplane.services.platform import Platform
from groundplane.store import rights, runs, teams
from groundplane.store.rights import EVERYTHING, Visible

SEE = "run.see"
DATA = "artifact.read"
_WHOLE = 36  # characters of an id
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class _Nobody:
    """Asked about in the place of a run that is not there: it takes as long."""

    team: str = "-"
    project: str = "-"
    actor: str = "-"


class Sight:
    """An actor's, while one question is answered."""

    def __init__(self, platform: Platform, connection: Connection, actor: Actor) -> None:
        self._platform = platform
        self._connection = connection
        self._actor = actor
        self._known: dict[tuple[str, str, str, str], bool] = {}

    def sees(self, row: Any) -> bool:
        """Whether it may see the run. row: with its team, project and actor."""
        key = row.team, row.project, row.actor, getattr(row, "labels", "[]")
        if key not in self._known:
            self._known[key] = self.may(SEE, row)
        return self._known[key]

    def may(self, action: str, row: Any) -> bool:
        """Whether it may do that to the run."""
        return gate.decide(self._platform, self._connection, self._actor, action, of_run(self._connection, row)).allowed

    def find(self, ref: str) -> Any | None:
        """The run that `ref` means: an id, a unique beginning of one, or `latest`; None when there is none to be seen.
        Raises NotFound for a beginning of several."""
        connection = self._connection
        if ref == "latest":
            return next(self.listed(None, None, 1), None)
        row = self.by_id(ref)
        if row is not None or not ref or len(ref) >= _WHOLE or not ref.isprintable():
            return row
        found = [row for row in runs.by_prefix(connection, ref, self.visible) if self.sees(row)]
        if len(found) > 1:
            several = ", ".join(row.uid for row in found[:_SHOWN])
            raise NotFound(f"{len(found)} or more runs begin with {ref!r}", hint=f"write more of it: {several}")
        return found[0] if found else None

    def by_id(self, uid: str) -> Any | None:
        """The run of that id; None when there is none to be seen."""
        if not uid.isprintable():  # no id has what not every database takes
            return None
        row = runs.by_uid(self._connection, uid)
        return row if self.sees(row or _Nobody()) else None

    def listed(self, state: str | None, below: int | None, limit: int) -> Iterator[Any]:
        """Newest first, those below the key `below`. limit: how many are wanted, about."""
        while True:
            rows = runs.page(self._connection, state, below, limit, self.visible)
            yield from filter(self.sees, rows)
            if len(rows) < limit:
                return
            below = rows[-1].id

    @cached_property
    def visible(self) -> Visible:
        """Those that may be seen, as far as a query can tell; `sees` has the last word on each."""
        found = self._by_roles()
        return replace(found, actor=self._actor.name) if scopes.only_own(self._actor.scopes, SEE) else found

    def _by_roles(self) -> Visible:
        rules = gate.rules(self._platform, self._connection)
        own = self._actor.name
        anywhere = Resource("run", team="", owner=own)
        uncreated = gate.decide(self._platform, self._connection, self._actor, SEE, anywhere).allowed
        firms = rules.is_firms(SEE)
        if uncreated and not firms:  # a role at the platform is one everywhere
            return EVERYTHING
        held: dict[str, set[str]] = {}
        account = rights.account(self._connection, own)
        for team, role in account.held if account is not None else ():
            held.setdefault(team, set()).add(role)
        lines = rights.lines(self._connection)
        base = gate.principal(self._connection, self._actor, SEE, None, own)
        wide = rules.is_firms(SEE, permits=True) or self._actor.kind not in gate.ACCOUNTS
        created: set[tuple[str, str]] = set()
        for row in rights.created(self._connection):
            above = {PLATFORM_TEAM, *lines[row.team]}
            roles = frozenset(role for team in above for role in held.get(team, ()))
            if roles or wide:
                on = Resource("run", team=row.team, project=row.name, owner=own, labels=labels(row.labels))
                if rules.decide(replace(base, roles=roles), SEE, on).allowed:
                    created.add((row.team, row.name))
        return Visible(created=frozenset(created), uncreated=uncreated)


def of_run(connection: Connection, row: Any, name: str = "") -> Resource:
    """The run of that row as policies see it, with the labels of its project and its own. name: its id, where an event
    is to tell it."""
    found = teams.project(connection, row.project) if row.team else None
    words = labels(getattr(row, "labels", "[]")) | labels(found.labels if found is not None else "[]")
    return Resource("run", name, row.team, row.project, row.actor, words)


def labels(text: str) -> frozenset[str]:
    """Of a column that holds them as JSON."""
    return frozenset(json.loads(text))


def require_made(actor: Actor, project: str, team: str) -> None:
    """Raises NotFound where an account would set something for a project that nobody made, and that whoever makes it
    would find. The owner may: projects of his own need not be made."""
    if not team and actor.kind in gate.ACCOUNTS:
        raise NotFound(
            f"there is no project {project!r}",
            hint=f"make it first: ground projects create {shlex.quote(project)} --team TEAM",
        )


def of_project(platform: Platform, kind: str, project: str, name: str = "") -> Resource:
    """What belongs to the project, as policies see it."""
    with platform.database.read() as connection:
        row = teams.project(connection, project)
    if row is None:
        return Resource(kind, name or project, "", project)
    return Resource(kind, name or project, row.team, project, labels=labels(row.labels))
