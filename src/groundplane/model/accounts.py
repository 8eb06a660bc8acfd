"""What the API tells of accounts: users, teams, projects, tokens, and who asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UserDocument:
    """kind: `user`, or `service` for a program's. provider: the issuer that knows it, "" for none. password: whether
    it has a local one. attributes: what policies may ask for, such as `training` and `clearance`."""

    name: str
    kind: str
    full_name: str
    email: str
    provider: str
    password: bool
    attributes: Mapping[str, str]
    created_at: str
    seen_at: str | None
    disabled_at: str | None
    locked_until: str | None


@dataclass(frozen=True, slots=True)
class MemberDocument:
    """origin: `local`, or `oidc`: of a group that the provider says."""

    user: str
    role: str
    origin: str


@dataclass(frozen=True, slots=True)
class TeamDocument:
    """parent: the team above it, None for the root. members: its own, not those of teams above."""

    name: str
    parent: str | None
    members: tuple[MemberDocument, ...]
    projects: tuple[str, ...]
    created_at: str


@dataclass(frozen=True, slots=True)
class ProjectDocument:
    """Whose a project is."""

    name: str
    team: str
    created_at: str


@dataclass(frozen=True, slots=True)
class TokenDocument:
    """user: "" for the owner's. scopes: the actions it is limited to, None for all that its user may. token: what is
    to be shown, told once, when it is made."""

    id: str
    user: str
    scopes: tuple[str, ...] | None
    created_at: str
    expires_at: str | None
    used_at: str | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True)
class WhoDocument:
    """user: the account's name, or the operating-system user's for the owner. roles: all that it has anywhere."""

    user: str
    name: str
    email: str
    teams: tuple[str, ...]
    roles: tuple[str, ...]
