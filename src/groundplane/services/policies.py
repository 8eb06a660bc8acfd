"""A firm's policies: added, listed, taken away, and what they decide explained."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from groundplane.model.errors import Conflict, Invalid, NotFound
from groundplane.services import cedar, gate, launches, policy_problems, visibility
from groundplane.services.access import Actor
from groundplane.services.audit import Person, views
from groundplane.services.cedar import Decision, PolicyFile, Rules
from groundplane.services.objects import PLATFORM_TEAM, Launch, Principal, Resource
from groundplane.services.platform import Platform, iso, now
from groundplane.store import policies, rights, teams

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
_LAUNCHES = ("run.submit", "run.rerun")
_RECOVERY = ("policy.add", "policy.remove", "policy.see")


def add(platform: Platform, actor: Actor, name: str, text: str) -> dict[str, Any]:
    """The file is in force from now on, in the place of the one of that name. Raises Invalid that names each line."""
    gate.require(platform, actor, "policy.add", Resource("policy", name))
    file = _checked(name, text)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    with gate.change(platform, actor, "policy.add", name, sha256=sha256) as connection:
        others = [PolicyFile(row.name, row.text) for row in policies.listing(connection) if row.name != name]
        rules = Rules(sorted([*others, file], key=lambda each: each.name))
        _refuse_lock_out(actor, rules)
        policies.put(connection, name=name, text=text, sha256=sha256, actor=actor.name, at=now())
        stamp = policies.stamps(connection)
    platform.in_force.put(stamp, rules)
    return {"name": name, "sha256": sha256, "rules": [rule.name for rule in rules.of_file(name)]}


def remove(platform: Platform, actor: Actor, name: str) -> None:
    """The file is in force no more. Raises NotFound."""
    with gate.change(platform, actor, "policy.remove", name) as connection:
        if not policies.remove(connection, name):
            names = [row.name for row in policies.listing(connection)]
            hint = "it ships: it is always there" if name == cedar.ROLES else f"there are: {', '.join(names) or 'none'}"
            raise NotFound(f"there is no policy file {name!r}", hint=hint)
        rules = Rules([PolicyFile(row.name, row.text) for row in policies.listing(connection)])
        stamp = policies.stamps(connection)
    platform.in_force.put(stamp, rules)


def listing(platform: Platform, actor: Actor) -> list[dict[str, Any]]:
    """The file that ships, then the firm's by name: name text sha256 actor added_at rules[]."""
    gate.require(platform, actor, "policy.see", Resource("policy"))
    with platform.database.read() as connection:
        rows = policies.listing(connection)
        rules = gate.rules(platform, connection)
    text = cedar.shipped(cedar.ROLES)
    ships = {"name": cedar.ROLES, "text": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    files = [{**ships, "actor": "", "added_at": None}] + [
        {"name": row.name, "text": row.text, "sha256": row.sha256, "actor": row.actor, "added_at": iso(row.added_at)}
        for row in rows
    ]
    return [
        {**file, "rules": [{"name": rule.name, "effect": rule.effect} for rule in rules.of_file(str(file["name"]))]}
        for file in files
    ]


def schema(platform: Platform, actor: Actor) -> dict[str, str]:
    """`schema`: what policies may speak of, as Cedar writes it."""
    gate.require(platform, actor, "policy.check", Resource("policy"))
    return {"schema": cedar.schema_text()}


def check(platform: Platform, actor: Actor, name: str, text: str) -> dict[str, Any]:
    """Raises Invalid that names each line; nothing is added."""
    gate.require(platform, actor, "policy.check", Resource("policy", name))
    _checked(name, text)
    return {"name": name, "policies": len(cedar.statements(text))}


def explain(platform: Platform, actor: Actor, ref: str) -> dict[str, Any]:
    """What was decided on a run, or on what an event tells of: outcome actor steps[]. ref: the run's id, also of one
    that was denied, a beginning of one that may be seen, or an event's id."""
    with platform.database.read() as connection:
        row = visibility.Sight(platform, connection, actor).find(ref)
        decided = policies.decision(connection, row.uid if row is not None else ref)
        event = views.find(platform, connection, ref) if decided is None else None
        if event is not None and event["action"] in _LAUNCHES and "asked" not in event["details"]:
            decided = policies.decision(connection, event["object"])
            if decided is not None and (decided.outcome == "denied") != (event["outcome"] == "denied"):
                decided = None  # that of another try at the same id; what the event says is signed
        body: dict[str, Any] = json.loads(decided.body) if decided is not None else {}
        on = Resource("policy", ref, body["team"] if body else PLATFORM_TEAM)
        asked = body.get("principal", {}).get("name") if event is None else event["actor"]
        his = asked == actor.name
        may = his or row is not None or gate.decide(platform, connection, actor, "policy.explain", on).allowed
        if may and decided is not None:
            return _launched(decided, {**body, "principal": _told(platform, connection, actor, body["principal"])})
    if may and event is not None:
        outcome = "denied" if event["outcome"] == "denied" else "allowed"
        details = event["details"]
        step = {name: event[name] for name in ("action", "object")}
        if "asked" in details:
            step = {"action": details["asked"], "object": details["project"]}
        step |= {"outcome": outcome, "rule": details.get("rule", "")}
        return {"event": ref, "outcome": outcome, "actor": event["actor"], "steps": [step]}
    gate.unseen(platform, actor, "policy.explain", ref)
    raise NotFound(f"no decision on {ref!r} is known", hint="name a run that was asked for, or an event")


def _launched(decided: Any, body: dict[str, Any]) -> dict[str, Any]:
    steps = [
        {
            "steps": each["steps"],
            "outcome": "allowed" if each["allowed"] else "denied",
            "rule": each["rule"],
            "error": each["error"],
            "resource": each["resource"],
        }
        for each in body["asked"]
    ]
    if "refused" in body:
        steps.append({**body["refused"], "outcome": "denied"})
    return {
        "run": decided.run,
        "at": iso(decided.at),
        "outcome": decided.outcome,
        "actor": body["principal"]["name"],
        "principal": body["principal"],
        "steps": steps,
    }


def explain_for(platform: Platform, actor: Actor, user: str, action: str, object_: str) -> dict[str, Any]:
    """What is decided now if that user did `action` to the project (for `run.submit`: launched a step there on the
    local backend), run or other object of that name: outcome rule principal resource; asked: the action that was
    decided on, which is another one where that is asked before and denied; hint: what else could be done."""
    if action not in cedar.actions():
        raise Invalid(f"there is no action {action!r}", hint="`ground policy schema` lists the actions")
    with platform.database.read() as connection:
        account = rights.account(connection, user)
        on = _named(platform, connection, actor, action, object_)
        may = gate.decide(platform, connection, actor, "policy.explain", Resource("policy", Person(user), on.team))
        if account is not None:
            his = Actor(user, account.kind)
            asked, about, found = _first_denied(platform, connection, his, [*_before(action, on), (action, on)])
            who = gate.principal(connection, his, asked, about.team)
            role = "" if found.allowed or found.rule else gate.elsewhere(platform, connection, his, asked, about)
            shown = {
                "asked": asked,
                "outcome": "allowed" if found.allowed else "denied",
                "rule": found.rule,
                "error": found.error,
                "hint": gate.at_platform(user, role) if role else "",
                "principal": _told(platform, connection, actor, launches.plain(who)),
                "resource": launches.plain(about),
            }
    if not may.allowed:
        gate.require(platform, actor, "policy.explain", Resource("policy", Person(user), on.team))
    if account is None:
        raise NotFound(f"there is no user {user!r}", hint="`ground users list` shows them")
    return {**shown, "user": user, "action": action, "object": object_}  # pyright: ignore[reportPossiblyUnboundVariable]


def _before(action: str, on: Resource | Launch) -> list[tuple[str, Resource]]:
    """What is asked of an account before the action itself: the answer is a denial too, or that nothing is there."""
    if isinstance(on, Launch):
        return launches.asked_before(on.project, on.team)
    return [(visibility.SEE, on)] if on.kind == "run" and action != visibility.SEE else []


def _first_denied(
    platform: Platform, connection: Connection, actor: Actor, asked: Sequence[tuple[str, Resource | Launch]]
) -> tuple[str, Resource | Launch, Decision]:
    """The first of these that is denied to the actor, else the last."""
    for action, on in asked[:-1]:
        found = gate.decide(platform, connection, actor, action, on)
        if not found.allowed:
            return action, on, found
    action, on = asked[-1]
    return action, on, gate.decide(platform, connection, actor, action, on)


def _told(platform: Platform, connection: Connection, actor: Actor, who: Mapping[str, Any]) -> dict[str, Any]:
    """Of somebody whose decision is explained, what the actor may know: the roles that counted, of his teams those that
    the actor may see, and what his account and his login say of him where the actor may see accounts."""
    if who["name"] == actor.name and actor.kind in (*gate.ACCOUNTS, "owner"):
        return dict(who)

    def may(action: str, on: Resource) -> bool:
        return gate.decide(platform, connection, actor, action, on).allowed

    told = {**who, "teams": [team for team in who["teams"] if may("team.see", Resource("team", team, team))]}
    if not may("user.see", Resource("user", who["name"])):
        told |= {"training": [], "clearance": [], "attributes": [], "methods": [], "level": ""}
    return told


def _named(platform: Platform, connection: Connection, actor: Actor, action: str, name: str) -> Resource | Launch:
    """The object of that name; for who may not see it, as if it were not there."""
    noun = action.partition(".")[0]
    if action != launches.ACTION and noun in ("run", "log", "artifact"):
        row = visibility.Sight(platform, connection, actor).find(name)
        if row is None:
            raise NotFound(f"there is no run {name!r}", hint="`ground runs list` shows them")
        return visibility.of_run(connection, row, row.uid)
    row = teams.project(connection, name)
    if row is not None and not _sees(platform, connection, actor, "project", name, row.team):
        row = None
    if action == launches.ACTION:
        labels = visibility.labels(row.labels) if row is not None else frozenset[str]()
        return Launch(row.team if row is not None else "", name, labels)
    if row is not None:
        return Resource(noun, name, row.team, name, labels=visibility.labels(row.labels))
    if teams.by_name(connection, name) is not None and _sees(platform, connection, actor, "team", name, name):
        return Resource(noun, name, name)
    return Resource(noun, name)


def _sees(platform: Platform, connection: Connection, actor: Actor, kind: str, name: str, team: str) -> bool:
    on = Resource(kind, name, team, name if kind == "project" else "")
    return gate.decide(platform, connection, actor, f"{kind}.see", on).allowed


def _checked(name: str, text: str) -> PolicyFile:
    if name == cedar.ROLES:
        raise Conflict(f"the policy file {name!r} ships and stays as it is", hint="give the file another name")
    if not _NAME.fullmatch(name):
        raise Invalid(f"{name!r} is no name of a policy file", hint="letters, digits, `.`, `_` and `-`")
    file = PolicyFile(name, text)
    policy_problems.check(file)
    return file


def _refuse_lock_out(actor: Actor, rules: Rules) -> None:
    """Raises Conflict for policies that nobody could take away again."""
    owner = Principal(actor.name if actor.kind == "owner" else "owner", "owner")
    denied: Sequence[Decision] = [rules.decide(owner, action, Resource("policy", "any")) for action in _RECOVERY]
    wrong = next((each for each in denied if not each.allowed), None)
    if wrong is not None:
        raise Conflict(
            f"with it nobody could change policies any more: {wrong.why}",
            hint='leave the owner out: unless { principal.kind == "owner" }',
            code="lock_out",
        )
