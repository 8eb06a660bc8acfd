"""Parameters are text; every toolchain renders the same text in its own idiom."""

from __future__ import annotations

import re
from collections.abc import Iterable

from groundplane.model.errors import Invalid

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


def parameter_text(name: str, value: object) -> str:
    """A TOML or JSON value as the text that a script gets. Raises Invalid for arrays and tables."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, dict)) or value is None:
        raise Invalid(
            f"parameter {name!r} is {'an array' if isinstance(value, list) else 'a table' if value else 'empty'}",
            hint="a parameter is one text, number or true/false; give several values one parameter each",
        )
    return str(value)  # TOML dates and times: their ISO form


def variable_name(name: str) -> str:
    """`alpha` as `GROUND_PARAM_ALPHA`; what an environment variable cannot hold becomes `_`."""
    return "GROUND_PARAM_" + re.sub(r"[^A-Z0-9_]", "_", name.upper())


def check_names(names: Iterable[str]) -> None:
    """Raises Invalid for a name no toolchain could pass, and for two that would meet in one variable."""
    seen: dict[str, str] = {}
    for name in names:
        if not _NAME.fullmatch(name):
            raise Invalid(
                f"parameter name {name!r} is not valid",
                hint="a name begins with a letter and holds letters, digits, `_`, `-` and `.`",
            )
        variable = variable_name(name)
        if variable in seen and seen[variable] != name:
            raise Invalid(
                f"parameters {seen[variable]!r} and {name!r} would both be {variable}", hint="rename one of them"
            )
        seen[variable] = name
