"""What is wrong with a policy file, and where: Cedar's own words name neither line nor, often, the word."""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from groundplane.model.errors import Invalid
from groundplane.services import cedar, policy_places
from groundplane.services.cedar import PolicyFile, Statement

_WORDS = re.compile(r"[A-Za-z_][\w.]*")
_LEADING = re.compile(r"^(?:Policy parse error: )?(?:for policy `policy\d+`, )?")
_QUOTED = re.compile(r"`([^`]+)`|'([^']+)'")
_LAST = re.compile(r": ([\w.]+)$")
_HAS = re.compile(r"\bhas\s+([A-Za-z_]\w*)")
_TYPE = "unrecognized entity type"
_TYPES = ("Action", "Launch", "Object", "User")
_MOST = 200
"""Parts of a policy that are asked about one by one: each takes as long as the whole."""
_FOLLOWS = "unable to find an applicable action"
_CEDAR = (
    "Action permit forbid when unless principal action resource context true false if then else in is has like "
    "contains containsAll containsAny isEmpty hasTag getTag decimal datetime duration ip lessThan lessThanOrEqual "
    "greaterThan greaterThanOrEqual id"
)


@dataclass(frozen=True, slots=True)
class Problem:
    """line: from 1. message: with the word that is wrong, when it is one."""

    line: int
    message: str


def check(file: PolicyFile) -> None:
    """Raises Invalid that lists every problem in a line of its own, `FILE:LINE: …`."""
    found = problems(file)
    if found:
        wrong = f"{len(found)} mistake{'' if len(found) == 1 else 's'} in {file.name}.cedar"
        lines = [f"{file.name}.cedar:{each.line}: {each.message}" for each in found]
        raise Invalid("\n".join([wrong, *lines]), hint="`ground policy schema` shows what policies may speak of")


def problems(file: PolicyFile) -> list[Problem]:
    """In the order of the file."""
    found: list[Problem] = []
    policies = cedar.statements(file.text)
    if not policies:
        return [Problem(1, "there is no policy in it")]
    names = {} if file.name == cedar.ROLES else _names(cedar.shipped(cedar.ROLES))
    for each in policies:
        wrong = _of(each)
        found += wrong
        name = "" if wrong else _name(each)
        if name and name in names:
            found.append(Problem(_line(each, _where(name, each.text)), f"there is a rule {name!r} already"))
        names[name] = each.line
    return found


def _of(statement: Statement) -> list[Problem]:
    errors = _errors(statement.text)
    if len(errors) > 1:
        errors = [error for error in errors if _FOLLOWS not in error]
    found = dict.fromkeys(_placed(statement, errors))
    if not found:
        for match in _HAS.finditer(statement.text):
            if match[1] not in _known():  # Cedar takes it for an attribute that is never there
                line = _line(statement, match.start(1))
                found[Problem(line, f"nothing has an attribute `{match[1]}`{_meant(match[1])}")] = None
    if not found and not json.loads(cedar.cedarpy().policies_to_json_str(statement.text))["staticPolicies"]:
        found[Problem(statement.line, "a template (`?principal`) cannot be used here: write it out")] = None
    return sorted(found, key=lambda each: each.line)


def _errors(text: str) -> list[str]:
    found = cedar.cedarpy().validate_policies(text, cedar.schema()).errors
    return [_LEADING.sub("", error.error).replace("__cedar::internal::True", "Bool") for error in found]


def _placed(statement: Statement, errors: list[str]) -> Iterator[Problem]:
    """Each error where it is: in the part of a condition that has it also alone, else in the policy's first line."""
    if not errors:
        return
    text, left = statement.text, Counter(errors)
    parts = policy_places.parts(text)[:_MOST]
    everywhere = Counter(_errors(policy_places.alone(text, parts, None)))
    for part in parts:
        own = (Counter(_errors(policy_places.alone(text, parts, part))) - everywhere) & left
        left -= own
        for said in own.elements():
            yield _problem(statement, said, part.start, part.end)
    for said in left.elements():
        yield _problem(statement, said, policy_places.head(text), len(text))


def _problem(statement: Statement, said: str, start: int, end: int) -> Problem:
    """start, end: in which part of the policy it is."""
    if said == "unexpected end of input":
        last = statement.line + statement.text.count("\n")
        return Problem(last, "the policy has no end: is there a `;`, and is each bracket closed?")
    quoted = [first or second for first, second in _QUOTED.findall(said)]
    bare = _LAST.search(said)
    for word in [*quoted, *([bare[1]] if bare else [])]:
        wrong = _wrong(word, statement.text[start:end])
        if wrong:
            at = start + _where(wrong, statement.text[start:end])
            return Problem(_line(statement, at), said + _more(wrong, said))
    whole = end == len(statement.text)
    return Problem(_line(statement, start), said if whole else f"{said}: {' '.join(statement.text[start:end].split())}")


def _wrong(quoted: str, text: str) -> str:
    """Of what Cedar quotes, the word that stands in the text and means nothing; else the whole, where it does."""
    words = [word for part in _WORDS.findall(quoted) for word in (part, *part.split("."))]
    unknown = [word for word in words if word not in _known() and word in text]
    return unknown[0] if unknown else quoted if quoted in text else ""


def _more(wrong: str, said: str) -> str:
    """What may have been meant."""
    if _TYPE in said:
        return f": there are {', '.join(_TYPES)}; teams, roles and labels are text"
    if "`Object`" in said and _has("Launch", wrong):
        return ' (only launches have it: write `action == Action::"run.submit"`)'
    if "`Launch`" in said and _has("Object", wrong):
        return " (launches do not have it: write `resource is Object && …`, or name other actions)"
    return _meant(wrong)


@cache
def _attributes(kind: str) -> frozenset[str]:
    found = re.search(rf"^entity {kind} = \{{(.*?)^\}}", cedar.schema_text(), re.M | re.S)
    return frozenset(re.findall(r"^  (\w+): ", found[1], re.M)) if found else frozenset()


def _has(kind: str, word: str) -> bool:
    return word in _attributes(kind)


def _where(word: str, text: str) -> int:
    """Where the word stands for itself, else where it stands at all."""
    whole = re.search(rf"(?<![\w.]){re.escape(word)}(?!\w)", text) if word[:1].isalpha() else None
    plain = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) if word[:1].isalpha() else None
    found = whole or plain
    return found.start() if found else max(text.find(word), 0)


def _line(statement: Statement, at: int) -> int:
    """Of that character of the policy."""
    return statement.line + statement.text.count("\n", 0, at)


def _meant(word: str) -> str:
    near = difflib.get_close_matches(word, sorted(_known() - {word}), n=1, cutoff=0.7) if word not in _known() else []
    return f": did you mean `{near[0]}`?" if near else ""


def _names(text: str) -> dict[str, int]:
    return {_name(each): each.line for each in cedar.statements(text)}


def _name(statement: Statement) -> str:
    (body,) = json.loads(cedar.cedarpy().policies_to_json_str(statement.text))["staticPolicies"].values()
    return body.get("annotations", {}).get("id") or ""


@cache
def _known() -> frozenset[str]:
    """Every word that means something in a policy."""
    text = re.sub(r"//.*", "", cedar.schema_text())
    return frozenset([*_CEDAR.split(), *cedar.actions(), *_words(text)])


def _words(text: str) -> Iterable[str]:
    return (word for word in _WORDS.findall(text) if word not in ("entity", "appliesTo", "tags"))
