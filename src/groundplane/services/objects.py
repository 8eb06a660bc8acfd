"""What actors act on, as policies see it."""

from __future__ import annotations

from dataclasses import dataclass

PLATFORM_TEAM = "platform"
"""The root of all teams, which has what belongs to no team in particular."""


@dataclass(frozen=True, slots=True)
class Resource:
    """Everything but a launch. kind: the noun of its actions. team: whose it is; "" when its project was never created,
    which only those who have a role at the platform see. owner: whose token it is, who submitted the run."""

    kind: str
    name: str = ""
    team: str = PLATFORM_TEAM
    project: str = ""
    owner: str = ""
    labels: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Launch:
    """A step that somebody wants to run. gpus, cpus: of all its nodes. cost: an estimate, with four digits."""

    team: str
    project: str
    labels: frozenset[str] = frozenset()
    backend: str = "local"
    region: str = ""
    encrypted: bool = False
    image: str = ""
    gpus: int = 0
    cpus: int = 1
    cost: str = "0.0"
    licence: str = ""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who acts. roles: held in the team of the object, or in one above. attributes: the account's, but training and
    clearance. out_of_scope: whether the action is none of those that its token is limited to."""

    name: str
    kind: str
    roles: frozenset[str] = frozenset()
    teams: frozenset[str] = frozenset()
    training: frozenset[str] = frozenset()
    clearance: frozenset[str] = frozenset()
    methods: frozenset[str] = frozenset()
    level: str = ""
    attributes: tuple[tuple[str, str], ...] = ()
    out_of_scope: bool = False
