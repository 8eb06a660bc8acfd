"""Policies tried before they are in force: on cases that somebody wrote, and on what was launched last month."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar, cast

from groundplane.model.errors import Invalid
from groundplane.services import cedar, gate, launches, policy_problems
from groundplane.services.access import Actor
from groundplane.services.cedar import PolicyFile, Rules
from groundplane.services.objects import Launch, Principal, Resource
from groundplane.services.platform import Platform, iso, now
from groundplane.services.visibility import Sight
from groundplane.store import policies

T = TypeVar("T", Principal, Launch, Resource)

_MONTH = 30 * 86400 * 1_000_000
_EXPECTED = {"allow": True, "deny": False}


def test(
    platform: Platform, actor: Actor, cases: Sequence[Mapping[str, Any]], files: Sequence[Mapping[str, str]] | None
) -> dict[str, Any]:
    """Each case's decision beside the expected one: passed failed cases[]. files: `name` and `text` of those to try
    with the roles; None for the ones in force.

    A case: name?, principal {name, roles, …}, action, resource {…}, expect (`allow` or `deny`), rule?
    """
    gate.require(platform, actor, "policy.see" if files is None else "policy.check", Resource("policy"))
    if files is None:
        with platform.database.read() as connection:
            rules = gate.rules(platform, connection)
    else:
        made = [PolicyFile(file["name"], file["text"]) for file in files if file["name"] != cedar.ROLES]
        for file in made:
            policy_problems.check(file)
        rules = Rules(made)
    found = [_case(rules, number, case) for number, case in enumerate(cases, 1)]
    passed = sum(each["ok"] for each in found)
    return {"passed": passed, "failed": len(found) - passed, "cases": found}


def simulate(platform: Platform, actor: Actor, name: str, text: str) -> dict[str, Any]:
    """Which runs of the last 30 days would have been denied with this file in force too (in the place of one of that
    name), by what was then known of each: run_ids[] denied[] runs (how many were looked at) since."""
    gate.require(platform, actor, "policy.simulate", Resource("policy", name))
    file = PolicyFile(name, text)
    policy_problems.check(file)
    since = now() - _MONTH
    denied: list[dict[str, str]] = []
    with platform.database.read() as connection:
        others = [PolicyFile(row.name, row.text) for row in policies.listing(connection) if row.name != name]
        rules = Rules([*others, file])
        sees = Sight(platform, connection, actor).sees
        rows = [row for row in policies.launched(connection, since) if sees(row)]
    for row in rows:
        body = json.loads(row.body)
        who = launches.principal_of(body["principal"])
        for each in body["asked"]:
            decision = rules.decide(who, launches.ACTION, launches.launch_of(each["resource"]))
            if not decision.allowed:
                where = {"run": row.run, "step": each["steps"][0], "project": row.project, "actor": row.actor}
                denied.append({**where, "rule": decision.rule, "why": decision.why})
                break
    return {"run_ids": [each["run"] for each in denied], "denied": denied, "runs": len(rows), "since": iso(since)}


def _case(rules: Rules, number: int, case: Mapping[str, Any]) -> dict[str, Any]:
    name = str(case.get("name") or f"case {number}")
    unknown = sorted(set(case) - {"name", "principal", "action", "resource", "expect", "rule"})
    action, expect = case.get("action"), case.get("expect")
    if unknown:
        raise Invalid(f"{name}: no such key {unknown[0]!r}", hint="name, principal, action, resource, expect, rule")
    if not isinstance(action, str) or action not in cedar.actions():
        raise Invalid(f"{name}: there is no action {action!r}", hint="`ground policy schema` lists the actions")
    if not isinstance(expect, str) or expect not in _EXPECTED:
        raise Invalid(f"{name}: expect is {expect!r}", hint="write expect: allow, or expect: deny")
    who = _filled(Principal, {"name": "somebody", "kind": "user"}, case.get("principal"), f"{name}: principal")
    given = case.get("resource")
    if action == launches.ACTION:
        on: Launch | Resource = _filled(Launch, {"team": "", "project": ""}, given, f"{name}: resource")
    else:
        on = _filled(Resource, {"kind": action.partition(".")[0]}, given, f"{name}: resource")
    decision = rules.decide(who, action, on)
    wanted = case.get("rule")
    ok = decision.allowed == _EXPECTED[expect] and wanted in (None, decision.rule)
    outcome = "allow" if decision.allowed else "deny"
    return {"name": name, "ok": ok, "expect": expect, "outcome": outcome, "rule": decision.rule, "why": decision.why}


def _filled(kind: type[T], given: Mapping[str, Any], case: object, place: str) -> T:
    """The dataclass with what the case says of it. Raises Invalid that names the key."""
    if case is not None and not isinstance(case, Mapping):
        raise Invalid(f"{place} is no table", hint="write its attributes below it")
    said: dict[str, Any] = {**given, **(case or {})}
    known = {field.name: field for field in fields(kind)}
    for name, value in said.items():
        if name not in known:
            raise Invalid(f"{place}: nothing has {name!r}", hint=f"there is: {', '.join(known)}")
        type_ = str(known[name].type)
        if type_.startswith("frozenset"):
            said[name] = frozenset(
                str(each) for each in (cast("list[object]", value) if isinstance(value, list) else [value])
            )
        elif type_.startswith("tuple"):
            said[name] = tuple(sorted((str(key), str(each)) for key, each in dict(value).items()))
        elif (type_ == "bool") != isinstance(value, bool) or (type_ == "int") != (type(value) is int):
            raise Invalid(f"{place}: {name} is {value!r}", hint=f"it is a {type_}")
    return kind(**said)
