"""Cedar: policies parsed once, and decisions made with them. The schema is always on, and all but a clean Allow is a
denial. cedarpy is imported on first use."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from groundplane.services.mentions import Looked, looked, mentions
from groundplane.services.objects import Launch, Principal, Resource

_FILES = Path(__file__).parent / "policy_files"
ROLES = "roles"
"""The name of the file that ships."""
_REMEMBERED = 16_384
_ACTIONS = re.compile(r'^action ((?:"[\w.]+",?\s*)+)(?:in \[([^\]]*)\])?', re.M)
_QUOTED = re.compile(r'"([\w.]+)"')


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A file of policies; name: its stem."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Statement:
    """One policy of a file. line: of its first word, from 1. text: with its annotations, up to its semicolon."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Decision:
    """rule: the deciding policy's @id, else FILE:LINE; "" when none permits. error: why there is no clean answer."""

    allowed: bool
    rule: str = ""
    error: str = ""

    @property
    def why(self) -> str:
        """For a sentence that says what is denied."""
        if self.error:
            return f"the policies give no clean answer ({self.error})"
        return f"rule {self.rule!r} forbids it" if self.rule else "no rule permits it"


@dataclass(frozen=True, slots=True)
class Rule:
    """name: its @id, else FILE:LINE. effect: permit or forbid. actions: that it may concern; None: every one.
    mentions: what it looks at."""

    name: str
    file: str
    text: str
    effect: str
    actions: frozenset[str] | None
    mentions: frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class _Concerned:
    """What may concern one action. names: of the policies, in their order. who, on: what they look at, of the actor and
    of either kind of object."""

    policies: Any
    names: list[str]
    who: Looked
    on: Mapping[type, Looked]


class Rules:
    """All files together. Raises ValueError for one that cannot be parsed."""

    def __init__(self, files: Sequence[PolicyFile]) -> None:
        self._rules = [rule for file in (PolicyFile(ROLES, shipped(ROLES)), *files) for rule in _read(file)]
        self._by_action: dict[str, _Concerned] = {}
        self._known: dict[tuple[str, type, Any, Any], Decision] = {}

    def decide(self, who: Principal, action: str, on: Resource | Launch) -> Decision:
        """A decision depends on nothing but what its policies look at: one that is alike in that has been made."""
        concerned = self._of(action)
        key = action, type(on), concerned.who(who), concerned.on[type(on)](on)
        found = self._known.get(key)
        if found is None:
            found = _decided(concerned, who, action, on)
            if not found.error:  # an error may be about what no policy looks at
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[key] = found
        return found

    def of_file(self, name: str) -> list[Rule]:
        """The file's, in their order."""
        return [rule for rule in self._rules if rule.file == name]

    def is_firms(self, action: str, *, permits: bool = False) -> bool:
        """Whether a policy that did not ship concerns the action; permits: only one that might permit it."""
        return any(
            rule.file != ROLES
            and (rule.effect == "permit" or not permits)
            and (rule.actions is None or action in rule.actions)
            for rule in self._rules
        )

    def _of(self, action: str) -> _Concerned:
        """The policies that may concern the action: others cost time."""
        found = self._by_action.get(action)
        if found is None:
            rules = [rule for rule in self._rules if rule.actions is None or action in rule.actions]
            parsed = cedarpy().PolicySet.from_str("\n".join(rule.text for rule in rules))
            mentioned = frozenset[tuple[str, str]]().union(*(rule.mentions for rule in rules))
            found = self._by_action[action] = _Concerned(
                parsed,
                [rule.name for rule in rules],
                looked(mentioned, "principal", Principal),
                {kind: looked(mentioned, "resource", kind) for kind in (Resource, Launch)},
            )
        return found


class InForce:
    """The rules that hold now, made once of the same files."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stamp: object = None
        self._rules: Rules | None = None

    def alone(self, read: Callable[[], Sequence[PolicyFile]]) -> Rules:
        """Where every change of a file is told by `put`. read: gives the files that there are at first."""
        if self._rules is None:
            with self._lock:
                if self._rules is None:
                    self._rules = Rules(read())
        return self._rules

    def stamped(self, stamp: object, read: Callable[[], Sequence[PolicyFile]]) -> Rules:
        """Where others may have changed a file. stamp: another one when the files are others."""
        with self._lock:
            if self._rules is None or self._stamp != stamp:
                self._rules, self._stamp = Rules(read()), stamp
            return self._rules

    def put(self, stamp: object, rules: Rules) -> None:
        """A file was changed, and this is what holds now."""
        with self._lock:
            self._rules, self._stamp = rules, stamp


def _decided(concerned: _Concerned, who: Principal, action: str, on: Resource | Launch) -> Decision:
    request = {
        "principal": {"type": "User", "id": _text(who.name)},
        "action": {"type": "Action", "id": _text(action)},
        "resource": {"type": "Launch" if isinstance(on, Launch) else "Object", "id": _text(_id(on))},
    }
    entities = _text(json.dumps([_user(who), _object(on)], ensure_ascii=False))
    result = cedarpy().is_authorized(request, concerned.policies, entities, schema())
    errors = result.diagnostics.errors
    rules = sorted(concerned.names[int(reason.removeprefix("policy"))] for reason in result.diagnostics.reasons)
    if errors or result.decision is cedarpy().Decision.NoDecision:
        return Decision(False, ", ".join(rules), "; ".join(errors) or "no decision")
    allowed = result.decision is cedarpy().Decision.Allow
    return Decision(allowed, rules[0] if allowed else ", ".join(rules))


def cedarpy() -> Any:
    """Cedar, imported when it is first needed. Its own types are not written down in full."""
    import cedarpy

    return cedarpy


def shipped(name: str) -> str:
    """The text of a policy file that ships."""
    return (_FILES / f"{name}.cedar").read_text(encoding="utf-8")


@cache
def schema_text() -> str:
    """What policies may speak of."""
    return (_FILES / "schema.cedarschema").read_text(encoding="utf-8")


@cache
def schema() -> Any:
    """The same, parsed."""
    return cedarpy().Schema.from_str(schema_text())


@cache
def actions() -> Mapping[str, frozenset[str]]:
    """Every action and group of actions, with the groups that it is in."""
    found: dict[str, frozenset[str]] = {}
    for names, groups in _ACTIONS.findall(schema_text()):
        found.update(dict.fromkeys(_QUOTED.findall(names), frozenset(_QUOTED.findall(groups))))
    return found


def statements(text: str) -> list[Statement]:
    """The policies of a text; what follows the last semicolon is one too, unless it is blank or a comment."""
    found: list[Statement] = []
    start, index, said = 0, 0, False
    while index < len(text):
        sign = text[index]
        if sign == "/" and text.startswith("//", index):
            end = text.find("\n", index)
            index = len(text) if end < 0 else end
            start = start if said else index
            continue
        if sign == '"':
            index = _string_end(text, index)
            said = True
            continue
        if not said and not sign.isspace():
            said, start = True, index
        index += 1
        if sign == ";":
            found.append(Statement(text.count("\n", 0, start) + 1, text[start:index]))
            said, start = False, index
    if said:
        found.append(Statement(text.count("\n", 0, start) + 1, text[start:].rstrip()))
    return found


def _string_end(text: str, start: int) -> int:
    index = start + 1
    while index < len(text) and text[index] != '"':
        index += 2 if text[index] == "\\" else 1
    return index + 1


def _read(file: PolicyFile) -> list[Rule]:
    rules: list[Rule] = []
    for each in statements(file.text):
        (body,) = json.loads(cedarpy().policies_to_json_str(each.text))["staticPolicies"].values()
        name = body.get("annotations", {}).get("id") or f"{file.name}.cedar:{each.line}"
        concerned = _concerned(body["action"])
        rules.append(Rule(name, file.name, each.text, body["effect"], concerned, frozenset(mentions(body))))
    return rules


def _concerned(scope: Mapping[str, Any]) -> frozenset[str] | None:
    """The actions that a policy's scope leaves; None: every one."""
    if scope["op"] == "All":
        return None
    entities = [scope["entity"]] if "entity" in scope else scope["entities"]
    named = {entity["id"] for entity in entities}
    if scope["op"] == "==":
        return frozenset(named)
    return frozenset(action for action, groups in actions().items() if action in named or groups & named)


def _text(name: str) -> str:
    """What is no UTF-8 (a folder's name, say) is a `?` to policies."""
    return name.encode("utf-8", "replace").decode()


def _id(on: Resource | Launch) -> str:
    return on.project if isinstance(on, Launch) else on.name


def _user(who: Principal) -> dict[str, Any]:
    attributes = {
        "kind": who.kind,
        "name": who.name,
        "roles": sorted(who.roles),
        "teams": sorted(who.teams),
        "training": sorted(who.training),
        "clearance": sorted(who.clearance),
        "methods": sorted(who.methods),
        "level": who.level,
        "outOfScope": who.out_of_scope,
    }
    return {"uid": {"type": "User", "id": who.name}, "attrs": attributes, "tags": dict(who.attributes), "parents": []}


def _object(on: Resource | Launch) -> dict[str, Any]:
    attributes: dict[str, Any]
    if isinstance(on, Launch):
        attributes = {
            "team": on.team,
            "project": on.project,
            "labels": sorted(on.labels),
            "backend": on.backend,
            "region": on.region,
            "encrypted": on.encrypted,
            "image": on.image,
            "gpus": on.gpus,
            "cpus": on.cpus,
            "cost": {"__extn": {"fn": "decimal", "arg": on.cost}},
            "licence": on.licence,
        }
    else:
        attributes = {
            "kind": on.kind,
            "name": on.name,
            "team": on.team,
            "project": on.project,
            "owner": on.owner,
            "labels": sorted(on.labels),
        }
    kind = "Launch" if isinstance(on, Launch) else "Object"
    return {"uid": {"type": kind, "id": _id(on)}, "attrs": attributes, "parents": []}
