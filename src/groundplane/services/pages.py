"""Pages of lists, newest first: how long one may be, and where it begins."""

from __future__ import annotations

from groundplane.model.errors import Invalid

_LARGEST = 1000
_LONGEST_KEY = 18  # digits: all that a bigint holds for sure


def below(limit: int, cursor: str | None) -> int | None:
    """The key of the last row of the page before; None at the beginning. Raises Invalid for a wrong page."""
    if not 1 <= limit <= _LARGEST:
        raise Invalid(f"limit {limit} is not between 1 and {_LARGEST}", hint="use the cursor for more")
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= _LONGEST_KEY):
        raise Invalid(f"{cursor[:80]!r} is no cursor", hint="use `next` of the page before")
    return int(cursor)
