"""What is wrong with a policy file, and where: Cedar's own words name neither line nor, often, the word."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from groundplane.model.errors import Invalid
from groundplane.services import cedar
from groundplane.services.cedar import PolicyFile, Statement

_WORDS = re.compile(r"[A-Za-z_][\w.]*")
_LEADING = re.compile(r"^(?:Policy parse error: )?(?:for policy `policy\d+`, )?")
_QUOTED = re.compile(r"`([^`]+)`|'([^']+)'")
_LAST = re.compile(r": ([\w.]+)$")
_HAS = re.compile(r"\bhas\s+([A-Za-z_]\w*)")
_ONLY_LAUNCHES = ' (only launches have it: write `action == Action::"run.submit"`)'
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
    """Raises Invalid that lists every problem as `FILE:LINE: …`."""
    found = problems(file)
    if found:
        lines = [f"{file.name}.cedar:{each.line}: {each.message}" for each in found]
        raise Invalid("\n".join(lines), hint="`ground policy schema` shows what policies may speak of")


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
            found.append(Problem(_line(each, name), f"there is a rule {name!r} already"))
        names[name] = each.line
    return found


def _of(statement: Statement) -> list[Problem]:
    found: dict[int, Problem] = {}
    for error in cedar.cedarpy().validate_policies(statement.text, cedar.schema()).errors:
        if _FOLLOWS not in error.error or not found:
            problem = _problem(statement, _LEADING.sub("", error.error))
            found.setdefault(problem.line, problem)
    if not found:
        for match in _HAS.finditer(statement.text):
            if match[1] not in _known():  # Cedar takes it for an attribute that is never there
                line = statement.line + statement.text.count("\n", 0, match.start(1))
                found[line] = Problem(line, f"nothing has an attribute `{match[1]}`{_meant(match[1])}")
    if not found and not json.loads(cedar.cedarpy().policies_to_json_str(statement.text))["staticPolicies"]:
        found[0] = Problem(statement.line, "a template (`?principal`) cannot be used here: write it out")
    return [found[line] for line in sorted(found)]


def _problem(statement: Statement, said: str) -> Problem:
    if said == "unexpected end of input":
        last = statement.line + statement.text.count("\n")
        return Problem(last, "the policy has no end: is there a `;`, and is each bracket closed?")
    quoted = [first or second for first, second in _QUOTED.findall(said)]
    bare = _LAST.search(said)
    for word in [*quoted, *([bare[1]] if bare else [])]:
        wrong = _wrong(word, statement)
        if wrong:
            more = _ONLY_LAUNCHES if _of_launches(wrong, said) else _meant(wrong)
            return Problem(_line(statement, wrong), said + more)
    return Problem(statement.line, said)


def _wrong(quoted: str, statement: Statement) -> str:
    """Of what Cedar quotes, the word that stands in the file and means nothing; else the whole, where it does."""
    words = [word for part in _WORDS.findall(quoted) for word in (part, *part.split("."))]
    unknown = [word for word in words if word not in _known() and word in statement.text]
    return unknown[0] if unknown else quoted if quoted in statement.text else ""


def _of_launches(word: str, said: str) -> bool:
    return "`Object`" in said and bool(re.search(rf"^  {re.escape(word)}: ", cedar.schema_text(), re.M))


def _line(statement: Statement, word: str) -> int:
    """Where the word stands for itself, else where it stands at all."""
    whole = re.search(rf"(?<![\w.]){re.escape(word)}(?!\w)", statement.text) if word[:1].isalpha() else None
    at = whole.start() if whole else statement.text.find(word)
    return statement.line + statement.text.count("\n", 0, max(at, 0))


def _meant(word: str) -> str:
    near = difflib.get_close_matches(word, sorted(_known()), n=1, cutoff=0.7)
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
