"""Pages of lists, newest first: how long one may be, and where it begins. A page's cursor is the id of its last row, so
that it tells of nobody else's rows, not even how many there are."""

from __future__ import annotations

from groundplane.model.errors import Invalid

_LARGEST = 1000
_SHOWN = 80


def check(limit: int) -> None:
    """Raises Invalid for a page that is too long."""
    if not 1 <= limit <= _LARGEST:
        raise Invalid(f"limit {limit} is not between 1 and {_LARGEST}", hint="use the cursor for more")


def no_cursor(cursor: str) -> Invalid:
    """The error for a cursor that is none of this list's, or whose row the actor may not see."""
    return Invalid(f"{cursor[:_SHOWN]!r} is no cursor", hint="use `next` of the page before")
