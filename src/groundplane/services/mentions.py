"""What policies look at: of all that is known of an actor and an object, the attributes that can change a decision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Any, cast

from groundplane.services.objects import Launch, Principal, Resource

_WHOLE = "*"
_BY_NAME = (".", "has")
_FIELDS = {"outOfScope": "out_of_scope", "tags": "attributes"}
"""Attributes that policies call otherwise than the fields here."""

Looked = Callable[[Any], Any]
"""Gives what is looked at of an object, as one that can be a key."""


def mentions(policy: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(principal or resource, attribute) that a policy in Cedar's JSON looks at; `*`: the entity as such."""
    for variable in ("principal", "resource"):
        scope = policy[variable]
        if scope["op"] != "All" and not (scope["op"] == "is" and "in" not in scope):  # the type goes with the action
            yield variable, _WHOLE
    for condition in policy["conditions"]:
        yield from _within(condition["body"])


def _within(node: Any) -> Iterator[tuple[str, str]]:
    """Of an expression: a mapping of its operator to its operands, or a list of expressions."""
    if isinstance(node, list):
        for each in cast("list[Any]", node):
            yield from _within(each)
    elif isinstance(node, dict):
        for operator, operands in cast("dict[str, Any]", node).items():
            if operator == "Var" and isinstance(operands, str):
                yield operands, _WHOLE
            elif (name := _asked_of(operator, operands)) is not None:
                yield name, operands["attr"] if operator in _BY_NAME else "tags"
                yield from _within(operands.get("right"))
            else:
                yield from _within(operands)


def _asked_of(operator: str, operands: Any) -> str | None:
    """The variable of which one attribute or tag is asked for; None for every other expression."""
    if operator not in (*_BY_NAME, "hasTag", "getTag") or not isinstance(operands, dict):
        return None
    left = cast("dict[str, Any]", operands).get("left")
    variable = cast("dict[str, Any]", left).get("Var") if isinstance(left, dict) else None
    return variable if isinstance(variable, str) else None


def looked(mentioned: Iterable[tuple[str, str]], variable: str, of: type[Principal | Resource | Launch]) -> Looked:
    """For the actor or the object, when policies look at no more than what is mentioned."""
    attributes = {attribute for name, attribute in mentioned if name == variable}
    if _WHOLE in attributes:
        return lambda whole: whole
    there = {field.name for field in fields(of)}
    wanted = sorted({_FIELDS.get(attribute, attribute) for attribute in attributes} & there)
    return attrgetter(*wanted) if wanted else lambda _: None
