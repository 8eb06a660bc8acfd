"""Whether the text of a parameter is what its KFP type says."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from groundplane.model.errors import Invalid


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_TYPES: Mapping[str, tuple[str, str, Callable[[Any], bool]]] = {
    "NUMBER_INTEGER": ("a whole number", "3", lambda value: _is_number(value) and value % 1 == 0),
    "NUMBER_DOUBLE": ("a number", "0.5", _is_number),
    "LIST": ("a list in JSON", '\'["a", "b"]\'', lambda value: isinstance(value, list)),
    "STRUCT": ("a dictionary in JSON", "'{\"a\": 1}'", lambda value: isinstance(value, dict)),
}
"""KFP's type -> in words, an example as a shell takes it, and whether the JSON value is one."""


def check(name: str, kind: str, text: str, *, optional: bool) -> None:
    """Raises Invalid for a text that is no value of that KFP type. optional: it may be empty, which is no value."""
    if kind == "BOOLEAN":
        words, example, good = "true or false", "true", text.lower() in ("true", "false")
    elif kind in _TYPES:
        words, example, fits = _TYPES[kind]
        good = _is(text, fits)
    else:
        return
    if not good and not (optional and text == ""):
        raise Invalid(
            f"the parameter {name!r} is {words} in KFP ({kind}), and {text!r} is none",
            hint=f"give one: -p {name}={example}",
        )


def _is(text: str, fits: Callable[[Any], bool]) -> bool:
    try:
        return fits(json.loads(text))
    except ValueError:
        return False
