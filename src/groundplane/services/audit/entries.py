"""One entry of the log, compared with its row: what lists choose and go by stands in columns beside the leaf, and who
edits one of them hides the event, or shows it as another."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from groundplane.services.audit.signing import Signer

Row = tuple[int, str, Any, bytes, bytes, int, str, str, str | None]
"""number uid leaf hash mark at action outcome person, as the database has them."""

_COLUMNS = ("id", "time", "action", "outcome", "actor")
_BEGINNING = len('{"action":"')
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_SEALED = "sealed:"


def fault(mine: Signer, row: Row) -> str:
    """What is wrong with the row, in words that go on after the event's name; "" when it is as the log put it there.
    Of one without its leaf the columns cannot be told."""
    number, uid, leaf, hashed, mark, at, action, outcome, person = row
    if leaf is not None and (not isinstance(leaf, str) or sha256(b"\0" + leaf.encode()).digest() != hashed):
        return "was changed"
    if mine.placed(number, hashed) != mark:
        return "was not put at that place by the log"
    if leaf is None:
        return ""
    found, expected = _columns(leaf), (uid, at, action, outcome, person)
    if found == expected:
        return ""
    name = next(name for name, one, other in zip(_COLUMNS, found, expected, strict=True) if one != other)
    return f"was changed: its {name} in the database's columns is not that of the log"


def _columns(leaf: str) -> tuple[str, int | None, str, str, str | None]:
    """uid at action outcome person. Without reading all of the JSON, a million times: its members are sorted, those
    behind `id` are texts, and no text holds a quote that is not escaped."""
    head, _, tail = leaf.rpartition(',"id":"')
    action, _, rest = head[_BEGINNING:].partition('","actor":"')
    sealed = rest.startswith(_SEALED)
    person = rest[len(_SEALED) :].partition(":")[0] if sealed else None
    uid, _, rest = tail.partition('","object":"')
    _, _, rest = rest.rpartition('","outcome":"')
    outcome, _, rest = rest.partition('","source":"')
    time = rest.rpartition('","time":"')[2].removesuffix('"}')
    try:
        at = (datetime.fromisoformat(time) - _EPOCH) // _MICROSECOND
    except (ValueError, TypeError):
        at = None
    return uid, at, action, outcome, person
