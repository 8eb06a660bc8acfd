"""The one gate: every action of an actor on an object is decided here by policy, and leaves its event here."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from groundplane.model.errors import Denied
from groundplane.services import audit, scopes
from groundplane.services.access import PLATFORM, Actor
from groundplane.services.cedar import Decision, PolicyFile, Rules
from groundplane.services.objects import PLATFORM_TEAM, Launch, Principal, Resource
from groundplane.services.platform import Platform
from groundplane.store import policies, rights

ACCOUNTS = ("user", "service")
"""Kinds of actors that have an account; all others are this machine's own."""
_UNTIL = re.compile(r"(.+)@(\d{4}-\d\d-\d\d)")


def rules(platform: Platform, connection: Connection) -> Rules:
    """Those that hold now. Where others share the database it is asked whether they changed them."""

    def read() -> list[PolicyFile]:
        return [PolicyFile(row.name, row.text) for row in policies.listing(connection)]

    if platform.database.sqlite:
        return platform.in_force.alone(read)
    return platform.in_force.stamped(policies.stamps(connection), read)


def warm(platform: Platform) -> None:
    """Reads and parses the policies, so that the first request need not wait for it."""
    with platform.database.read() as connection:
        decide(platform, connection, PLATFORM, "status.see", Resource("status"))


def decide(platform: Platform, connection: Connection, actor: Actor, action: str, on: Resource | Launch) -> Decision:
    """Whether the actor may do it, and by which rule."""
    who = principal(connection, actor, action, on.team, on.owner if isinstance(on, Resource) else "")
    return rules(platform, connection).decide(who, action, on)


def principal(connection: Connection, actor: Actor, action: str, team: str | None, owner: str = "") -> Principal:
    """The actor as policies see it, with the roles that it has in the team; none without one. An account that is not
    there any more, or is disabled, has no role. owner: whose it is that the action is done to."""
    outside = not scopes.allow(actor.scopes, action, own=owner == actor.name)
    if actor.kind not in ACCOUNTS:
        return Principal(actor.name, actor.kind, methods=actor.methods, level=actor.level, out_of_scope=outside)
    found = rights.account(connection, actor.name)
    if found is None:
        return Principal(actor.name, "unknown", methods=actor.methods, level=actor.level, out_of_scope=outside)
    attributes = {name: str(value) for name, value in json.loads(found.attributes).items()}
    return Principal(
        name=actor.name,
        kind=found.kind,
        roles=frozenset() if team is None else _roles_in(connection, found.held, team),
        teams=frozenset(name for name, _ in found.held),
        training=_words(attributes.pop("training", "")),
        clearance=_words(attributes.pop("clearance", "")),
        methods=actor.methods,
        level=actor.level,
        attributes=tuple(sorted(attributes.items())),
        out_of_scope=outside,
    )


def _roles_in(connection: Connection, held: Sequence[tuple[str, str]], team: str) -> frozenset[str]:
    """The roles of these that count in the team: its own, those of teams above it, and the platform's."""
    above = {PLATFORM_TEAM, team}
    if team not in ("", PLATFORM_TEAM) and any(at not in above for at, _ in held):
        above |= rights.ancestors(connection, team)
    return frozenset(role for at, role in held if at in above)


@contextmanager
def change(
    platform: Platform, actor: Actor, action: str, object_: str, on: Resource | None = None, **facts: Any
) -> Generator[Connection]:
    """A write transaction in which the actor does `action` to `object_`; the event commits with the change.

    on: the object as policies see it; without it, one of the platform's own. Raises Denied that names the rule; the
    denial is an event too.
    """
    resource = on or Resource(action.partition(".")[0], object_)

    def ask(connection: Connection) -> None:
        decision = decide(platform, connection, actor, action, resource)
        if not decision.allowed:
            facts.update(told(decision))
            raise denial(actor, action, object_, decision, elsewhere(platform, connection, actor, action, resource))

    with decided(platform, actor, action, object_, facts, ask) as connection:
        yield connection


@contextmanager
def decided(
    platform: Platform,
    actor: Actor,
    action: str,
    object_: str,
    facts: dict[str, Any],
    ask: Callable[[Connection], None],
) -> Generator[Connection]:
    """The same with a decision of one's own making. facts: of the event. ask: raises Denied, and may add to them."""
    with noting(platform, actor, action, object_, facts), platform.database.write() as connection:
        ask(connection)
        yield connection
        audit.record(platform, connection, actor, action, object_, "done", facts)


@contextmanager
def noting(platform: Platform, actor: Actor, action: str, object_: str, facts: dict[str, Any]) -> Generator[None]:
    """Whatever denies the action, by policy or by what only its doing could show: it is an event."""
    try:
        yield
    except Denied as denied:
        with platform.database.write() as connection:
            audit.record(
                platform,
                connection,
                actor,
                action,
                object_,
                "denied",
                {**facts, "reason": unnamed(actor, denied.message, object_)},
            )
        raise


def require(platform: Platform, actor: Actor, action: str, on: Resource, *, noted: bool = False) -> None:
    """Before something is shown. Raises Denied, which is an event; so is that labelled data were shown.

    noted: an event in any case.
    """
    with platform.database.read() as connection:
        decision = decide(platform, connection, actor, action, on)
        if decision.allowed and not (on.labels or noted):
            return
        role = "" if decision.allowed else elsewhere(platform, connection, actor, action, on)
    denied = denial(actor, action, on.name, decision, role)
    facts = (
        ({"labels": sorted(on.labels)} if on.labels else {})
        if decision.allowed
        else {**told(decision), "reason": unnamed(actor, denied.message, on.name)}
    )
    with platform.database.write() as connection:
        audit.record(platform, connection, actor, action, on.name, "done" if decision.allowed else "denied", facts)
    if not decision.allowed:
        raise denied


def unseen(platform: Platform, actor: Actor, action: str, name: str) -> None:
    """An account asked for what is not there, or not for it to see: the same event, in the same time."""
    if actor.kind in ACCOUNTS:
        with platform.database.write() as connection:
            audit.record(
                platform, connection, actor, action, name[:200], "denied", {"reason": "not there, or not to be seen"}
            )


def denial(actor: Actor, action: str, object_: str, decision: Decision, role: str = "") -> Denied:
    """The error that says so. role: see `elsewhere`."""
    hint = "`ground policy list` shows the rules" if decision.rule else "`ground whoami` shows your roles"
    if role and not decision.rule:
        hint = at_platform(actor.name, role)
    what = f"{action} of {object_}" if object_ else action
    return Denied(f"{what} is denied to {actor.name}: {decision.why}", hint=hint)


def elsewhere(platform: Platform, connection: Connection, actor: Actor, action: str, on: Resource | Launch) -> str:
    """The role that the actor holds in some team, and that would let it do so if it held that in team `platform`; ""
    when none would, or the object is a team's."""
    account = rights.account(connection, actor.name) if actor.kind in ACCOUNTS and on.team == PLATFORM_TEAM else None
    if account is None:
        return ""
    who = principal(connection, actor, action, on.team)
    for role in sorted({role for _, role in account.held}):
        if rules(platform, connection).decide(replace(who, roles=frozenset({role})), action, on).allowed:
            return role
    return ""


def at_platform(name: str, role: str) -> str:
    """The hint for whom a role in an ordinary team does not let act on what is the whole platform's."""
    return (
        f"a role counts in its own team and in those below it; this takes {role} in team `{PLATFORM_TEAM}`: "
        f"ground teams add {PLATFORM_TEAM} {shlex.quote(name)} --role {role}"
    )


def unnamed(actor: Actor, text: str, object_: str = "") -> str:
    """The sentence without the names that events seal: the actor's, and that of the object where it is a person."""
    text = _without(text, actor.name, "the actor")
    return _without(text, object_, "a person") if isinstance(object_, audit.Person) else text


def _without(text: str, name: str, instead: str) -> str:
    return re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", instead, text) if name else text


def told(decision: Decision) -> dict[str, str]:
    """A denial's facts for its event."""
    return {"rule": decision.rule} | ({"error": decision.error} if decision.error else {})


def _words(text: str) -> frozenset[str]:
    """`hipaa, gcp@2027-01-31`: a word with a day counts until that day is over (UTC)."""
    today = time.strftime("%Y-%m-%d", time.gmtime())
    found: set[str] = set()
    for word in re.split(r"[\s,]+", text.strip()):
        until = _UNTIL.fullmatch(word)
        if until is None or until[2] >= today:
            found.add(until[1] if until else word)
    return frozenset(found - {""})
