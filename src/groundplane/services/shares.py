"""What is left of quotas: who is bound by which, what is used of each, and why somebody has to wait."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection

from groundplane.model.reasons import Reason
from groundplane.services.objects import PLATFORM_TEAM
from groundplane.store import quotas, teams

EXCEEDED = "quota_exceeded"
WHOLE = 1000
"""Amounts are thousandths: a task may ask for half a CPU."""
SEATS = "seats:"


@dataclass(frozen=True, slots=True)
class Asked:
    """What one task asks for. cpus: thousandths. licence: whose seat."""

    gpus: int
    cpus: int
    licence: str


@dataclass(slots=True)
class Quota:
    """A quota and what is used of it. teams: of one for a team, that and all below it.

    full: somebody waits for it already, and nobody overtakes: who asks for much would wait for ever behind those who
    ask for little.
    """

    kind: str
    name: str
    resource: str
    ceiling: int
    over: str
    teams: frozenset[str] = frozenset()
    used: int = 0
    full: bool = False

    def covers(self, project: str, team: str) -> bool:
        """Whether work of that project counts."""
        if self.kind == "project":
            return project == self.name
        return self.name == PLATFORM_TEAM or team in self.teams

    def of(self, asked: Any, *, begins: bool = False) -> int:
        """How much of it that would take. asked: as `Asked`. begins: it is the first of its run."""
        if self.resource == "runs":
            return WHOLE if begins else 0
        if self.resource == "gpus":
            return asked.gpus * WHOLE
        if self.resource == "cpus":
            return asked.cpus
        return WHOLE if asked.licence == self.resource.removeprefix(SEATS) else 0

    def fits(self, amount: int) -> bool:
        """Whether so much of it is left for who comes now."""
        return not amount or (not self.full and self.used + amount <= self.ceiling)

    @property
    def shown(self) -> str:
        """`team 'bio'`."""
        return f"{self.kind} {self.name!r}"

    def why(self, amount: int) -> Reason:
        """Why who asks for so much waits."""
        said = f"{number(self.used)} of {number(self.ceiling)} {unit(self.resource)} in use"
        if self.resource != "runs":
            said += f", it asks for {number(amount)}"
        if self.used + amount <= self.ceiling:
            said += ", and others wait before it"
        return Reason(
            "quota_exceeded",
            f"waits for the quota of {self.shown}: {said}",
            "it starts by itself when enough is given back; `ground quotas list` shows limits and use",
        )


class Shares:
    """All quotas with their use, as `load` found them; `take` counts on from there."""

    def __init__(self, found: Sequence[Quota]) -> None:
        self.quotas = found
        self._bound: dict[tuple[str, str], list[Quota]] = {}

    def of(self, project: str, team: str) -> list[Quota]:
        """Those that count that project's work."""
        place = project, team
        if place not in self._bound:
            self._bound[place] = [quota for quota in self.quotas if quota.covers(project, team)]
        return self._bound[place]

    def lack(self, asked: Any, project: str, team: str, *, begins: bool = False) -> tuple[Quota, int] | None:
        """The first quota that has too little left, and how much is asked of it; None when all have enough."""
        for quota in self.of(project, team):
            amount = quota.of(asked, begins=begins)
            if not quota.fits(amount):
                return quota, amount
        return None

    def take(self, asked: Any, project: str, team: str) -> None:
        """It has what it asks for."""
        for quota in self.of(project, team):
            quota.used += quota.of(asked)

    def begin(self, project: str, team: str, runs: int = 1) -> None:
        """One more run has begun; -1: it has not after all."""
        for quota in self.of(project, team):
            if quota.resource == "runs":
                quota.used += runs * WHOLE

    def beyond(self) -> list[ColumnElement[bool]]:
        """Conditions of the tasks that need not be looked at: they wait for what is known to be full."""
        return [
            quotas.needing(
                quota.resource,
                quota.kind,
                [quota.name]
                if quota.kind == "project"
                else None
                if quota.name == PLATFORM_TEAM
                else sorted(quota.teams),
            )
            for quota in self.quotas
            if quota.full
        ]


def load(connection: Connection, *, lock: bool = False) -> Shares:
    """lock: nobody else takes of any quota before this transaction has ended. The caller has licence pools locked."""
    rows = quotas.locked(connection) if lock else quotas.listing(connection)
    tree = teams.listing(connection) if any(row.kind == "team" for row in rows) else ()
    found = [
        Quota(row.kind, row.name, row.resource, row.ceiling, row.over, below(tree, row.name))
        if row.kind == "team"
        else Quota(row.kind, row.name, row.resource, row.ceiling, row.over)
        for row in rows
    ]
    asked = {quota.resource for quota in found}
    if asked & {"gpus", "cpus"}:
        taken = quotas.taken(connection)
        _count(found, "gpus", [(row.project, row.team, int(row.gpus) * WHOLE) for row in taken])
        _count(found, "cpus", [(row.project, row.team, int(row.cpus)) for row in taken])
    if "runs" in asked:
        _count(found, "runs", [(row.project, row.team, row.runs * WHOLE) for row in quotas.begun(connection)])
    pools = {resource.removeprefix(SEATS) for resource in asked if resource.startswith(SEATS)}
    for row in quotas.seats(connection, pools) if pools else ():
        _count(found, SEATS + row.licence, [(row.project, row.team, row.seats * WHOLE)])
    return Shares(found)


def below(tree: Iterable[Any], name: str) -> frozenset[str]:
    """The team and all below it. tree: rows of id, name, parent_id."""
    names = {row.id: row.name for row in tree}
    parents = {row.name: names.get(row.parent_id) for row in tree}

    def inside(team: str | None) -> bool:
        seen: set[str] = set()
        while team is not None and team not in seen:
            if team == name:
                return True
            seen.add(team)
            team = parents.get(team)
        return False

    return frozenset({name, *(team for team in parents if inside(team))})


def _count(found: Iterable[Quota], resource: str, use: Sequence[tuple[str, str, int]]) -> None:
    for quota in found:
        if quota.resource == resource:
            quota.used += sum(amount for project, team, amount in use if quota.covers(project, team))


_UNITS: Mapping[str, str] = {"gpus": "GPUs", "cpus": "CPUs", "runs": "runs"}


def unit(resource: str) -> str:
    """What its numbers count."""
    return _UNITS.get(resource) or f"seats of {resource.removeprefix(SEATS)}"


def number(amount: int) -> str:
    """Thousandths as they are written."""
    return f"{amount / WHOLE:g}" if amount % WHOLE else str(amount // WHOLE)
