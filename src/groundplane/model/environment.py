"""Names of environment variables that a user may set for the work."""

from __future__ import annotations

from collections.abc import Mapping

from groundplane.model.errors import Invalid

OWN = "GROUND_"
"""What the platform's own variables begin with."""


def is_name(text: str) -> bool:
    """Whether every program can be given a variable of that name: letters, digits and `_`, no digit first."""
    return text.isascii() and text.isidentifier()


def check(variables: Mapping[str, str]) -> None:
    """Raises Invalid for `-e` values that the work could not get, or that are the platform's to set."""
    for name, value in variables.items():
        if not is_name(name):
            raise Invalid(
                f"-e {name!r} is no name for an environment variable",
                hint="write -e NAME=VALUE; a name holds letters, digits and `_`, and begins with no digit",
            )
        if name.startswith(OWN):
            raise Invalid(
                f"-e {name}: names that begin with {OWN} are the platform's own",
                hint="choose another name, or hand a value over as a parameter: -p NAME=VALUE",
            )
        if "\0" in value:
            raise Invalid(f"the value of -e {name} holds a NUL character", hint="no program can be given one")
