"""The events as people read them: with names in clear, where they are not forgotten."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from sqlalchemy import Connection

from groundplane.model.errors import NotFound
from groundplane.services import gate, pages
from groundplane.services.access import Actor
from groundplane.services.audit.people import Opening
from groundplane.services.objects import Resource
from groundplane.services.platform import Platform
from groundplane.store import audit

_LONGEST_NUMBER = 18


def listing(
    platform: Platform,
    actor: Actor,
    limit: int,
    cursor: str | None,
    *,
    action: str | None = None,
    outcome: str | None = None,
    person: str | None = None,
) -> dict[str, Any]:
    """`{"events": [...], "next": cursor or None}`, newest first. person: whose events."""
    gate.require(platform, actor, "audit.read", Resource("audit"), noted=actor.kind in gate.ACCOUNTS)
    pages.check(limit)
    with platform.database.read() as connection:
        after = None if cursor is None else _by_uid(connection, cursor)
        if cursor is not None and after is None:
            raise pages.no_cursor(cursor)
        people = None if person is None else audit.uids_of(connection, person)
        rows = audit.page(connection, after, limit + 1, action=action, outcome=outcome, people=people)
        shown = rows[:limit]
        opening = Opening(platform.home, connection, (row.leaf for row in shown))
    events = [_shown(opening, row) for row in shown]
    return {"events": events, "next": rows[limit - 1].uid if len(rows) > limit else None}


def show(platform: Platform, actor: Actor, ref: str) -> dict[str, Any]:
    """One event by its id or number, with the leaf as it is in the log. Raises NotFound."""
    gate.require(platform, actor, "audit.read", Resource("audit"), noted=actor.kind in gate.ACCOUNTS)
    with platform.database.read() as connection:
        row = _row(connection, ref)
        if row is None:
            raise NotFound(f"there is no event {ref[:80]!r}", hint="ground audit list shows the newest ones")
        opening = Opening(platform.home, connection, [row.leaf or ""])
    hashed = None if row.hash is None else b64encode(row.hash).decode()
    if row.leaf is None:
        return {"id": row.uid, "number": row.number, "leaf": None, "leaf_hash": hashed}
    return {**_shown(opening, row), "leaf": row.leaf, "leaf_hash": hashed}


def find(platform: Platform, connection: Connection, ref: str) -> dict[str, Any] | None:
    """The event of that id or number, if retention has left it: for who decides who may be told of it."""
    row = _row(connection, ref)
    if row is None or row.leaf is None:
        return None
    return _shown(Opening(platform.home, connection, [row.leaf]), row)


def _row(connection: Connection, ref: str) -> Any | None:
    row = _by_uid(connection, ref)
    if row is None and ref.isascii() and ref.isdecimal() and len(ref) <= _LONGEST_NUMBER:
        row = audit.by_number(connection, int(ref))
    return row


def _by_uid(connection: Connection, uid: str) -> Any | None:
    return audit.by_uid(connection, uid) if uid.isascii() and "\0" not in uid else None


def _shown(opening: Opening, row: Any) -> dict[str, Any]:
    event = opening.readable(json.loads(row.leaf))
    order = ("id", "time", "actor", "source", "action", "object", "outcome", "details")
    return {"number": row.number, **{name: event[name] for name in order}}
