"""What policies need to know of an account, and which runs it may see, as conditions of a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, false, or_, select, true, tuple_

from groundplane.store.account_tables import members, projects, teams, users
from groundplane.store.tables import runs

_ACCOUNT = (
    select(users.c.kind, users.c.attributes, teams.c.name, members.c.role)
    .outerjoin(members, members.c.user_id == users.c.id)
    .outerjoin(teams, teams.c.id == members.c.team_id)
    .where(users.c.name == bindparam("of"), users.c.disabled_at.is_(None))
)
_up = select(teams.c.name, teams.c.parent_id).where(teams.c.name == bindparam("team")).cte("up", recursive=True)
_line = _up.union(select(teams.c.name, teams.c.parent_id).join(_up, teams.c.id == _up.c.parent_id))
_ANCESTORS = select(_line.c.name)
_PARENTS = select(teams.c.id, teams.c.name, teams.c.parent_id)
_PROJECTS = select(projects.c.name, projects.c.labels, teams.c.name.label("team")).join(
    teams, teams.c.id == projects.c.team_id
)


@dataclass(frozen=True, slots=True)
class Account:
    """kind: user or service. attributes: JSON. held: (team, role) as they were given."""

    kind: str
    attributes: str
    held: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Visible:
    """Runs that somebody may see. everything: each. created: (team, project) of projects that somebody created.
    uncreated: those of projects that nobody did. actor: of all these only those that he submitted; "" for all."""

    everything: bool = False
    created: frozenset[tuple[str, str]] = frozenset()
    uncreated: bool = False
    actor: str = ""

    def of_runs(self) -> ColumnElement[bool]:
        """As a condition of a query over runs."""
        return and_(self._of_projects(), runs.c.actor == self.actor) if self.actor else self._of_projects()

    def _of_projects(self) -> ColumnElement[bool]:
        if self.everything:
            return true()
        parts: list[ColumnElement[bool]] = [runs.c.team == ""] if self.uncreated else []
        if self.created:
            parts.append(tuple_(runs.c.team, runs.c.project).in_(sorted(self.created)))
        return or_(*parts) if parts else false()


EVERYTHING = Visible(everything=True)


def account(connection: Connection, user: str) -> Account | None:
    """That of the name, unless it is disabled; see teams.by_name."""
    rows = connection.execute(_ACCOUNT, {"of": user}).all() if user.isprintable() else ()
    if not rows:
        return None
    return Account(rows[0][0], rows[0][1], tuple((team, role) for _, _, team, role in rows if team is not None))


def ancestors(connection: Connection, team: str) -> frozenset[str]:
    """The team and all above it; see teams.by_name."""
    if not team.isprintable():
        return frozenset()
    return frozenset(connection.execute(_ANCESTORS, {"team": team}).scalars())


def lines(connection: Connection) -> dict[str, frozenset[str]]:
    """Each team with itself and all above it."""
    rows = {row.id: row for row in connection.execute(_PARENTS)}
    found: dict[str, frozenset[str]] = {}
    for row in rows.values():
        above: set[str] = set()
        at: Any = row
        while at is not None and at.name not in above:
            above.add(at.name)
            at = rows.get(at.parent_id)
        found[row.name] = frozenset(above)
    return found


def created(connection: Connection) -> Sequence[Any]:
    """name, labels (JSON), team of every project that somebody created."""
    return connection.execute(_PROJECTS).all()
