"""Names of secrets, where a step gets one, and what of a value must not be shown."""

from __future__ import annotations

import re

from groundplane.model.errors import Invalid

SECRET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""Names of secrets."""
LARGEST = 64 * 1024
"""Bytes that a secret may have."""
HIDDEN = "***"
"""What stands in a log where a secret was."""
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_SHORTEST_LINE = 4


def check_name(name: str) -> None:
    """Raises Invalid."""
    if not SECRET.fullmatch(name):
        raise Invalid(f"{name!r} is no name for a secret", hint="use letters, digits, `.`, `_` and `-`, at most 63")


def is_variable(place: str) -> bool:
    """Whether a step gets a secret as an environment variable, not as a file: by its name, in upper case."""
    return _VARIABLE.fullmatch(place) is not None


def to_hide(value: str) -> tuple[str, ...]:
    """What must not reach a log: the value, and each line of one with several, without what surrounds it.

    Of several lines those below four characters may be shown: a brace alone tells nothing, and stands everywhere.
    """
    lines = [line.strip() for line in value.splitlines()]
    if len([line for line in lines if line]) > 1:
        return tuple(dict.fromkeys(line for line in lines if len(line) >= _SHORTEST_LINE))
    whole = value.strip("\r\n")
    return tuple(dict.fromkeys(each for each in (whole, whole.strip()) if each))
