"""Connections: a database or bucket by one name, and how an input asks one."""

from __future__ import annotations

import re

from groundplane.model.errors import Invalid

QUERY = "connection:"
"""What a source begins with that is a query: `connection:NAME?sql=select …`."""
QUERY_RESULT = "query.parquet"
"""What a query's result is called: its ending tells its format."""
CONNECTION = re.compile(r"[a-z][a-z0-9_-]{0,62}")
"""Names of connections: lower case, so that each has one form as a variable."""


UNANSWERED = "no such server answers there"
"""Said of a connection that a stranger added, whatever kept it from answering: ports are not his to probe."""
UNANSWERED_HINT = "does it run, and may the control plane's host reach it? its owner is told more"


def check_name(name: str) -> None:
    """Raises Invalid."""
    if not CONNECTION.fullmatch(name):
        hint = "use letters a-z, digits, `_` and `-`, a letter first, at most 63"
        raise Invalid(f"{name!r} is no name for a connection", hint=hint)


def query_parts(source: str) -> tuple[str, str]:
    """The connection's name and the SQL of a query."""
    name, _, sql = source.removeprefix(QUERY).partition("?sql=")
    return name, sql


def variable(name: str, suffix: str) -> str:
    """`warehouse`, `URL` as `GROUND_CONNECTION_WAREHOUSE_URL`."""
    return f"GROUND_CONNECTION_{name.upper().replace('-', '_')}_{suffix}"
