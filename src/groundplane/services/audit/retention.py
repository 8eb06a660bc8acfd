"""Retention: what is older than the setting keeps its hash alone. The tree stays whole; the drop itself is an event."""

from __future__ import annotations

import json

from groundplane.model.errors import Invalid, Unavailable
from groundplane.services.access import PLATFORM
from groundplane.services.audit import entries, log
from groundplane.services.audit.recording import record
from groundplane.services.audit.signing import signer
from groundplane.services.platform import Platform, iso, now
from groundplane.store import audit

ACTION = "audit.expire"
BEGINNING = f'{{"action":"{ACTION}",'
"""What the leaf of such an event begins with."""
_PAGE = 5000
_MICROSECONDS_A_DAY = 86400 * 1_000_000


def days(setting: str) -> float | None:
    """GROUND_AUDIT_RETENTION: days for which events are kept whole, None for ever. Raises Invalid."""
    if not setting:
        return None
    try:
        found = float(setting)
    except ValueError:
        found = 0.0
    if not 1 <= found < 1e5:
        raise Invalid(f"GROUND_AUDIT_RETENTION={setting!r} is no number of days", hint="write it like 2190")
    return found


def expire(platform: Platform) -> int:
    """Drops the content of events that are too old; of how many. Only what the log holds, from its beginning on.

    Raises Unavailable when one of them was changed: its content is the evidence.
    """
    if platform.audit_retention is None:
        return 0
    log.integrate(platform)
    oldest = now() - round(platform.audit_retention * _MICROSECONDS_A_DAY)
    with platform.database.read() as connection:
        state = audit.log(connection)
        start = audit.first_whole(connection)
        if state is None or start is None:
            return 0
        end = audit.first_since(connection, oldest, state.size)
    if end <= start:
        return 0
    _check(platform, start, end)
    with platform.database.write() as connection:
        if audit.first_whole(connection) != start:
            return 0  # another control plane was first
        facts = {"below": end, "older_than": iso(oldest)}
        record(platform, connection, PLATFORM, ACTION, f"events {start} to {end - 1}", facts=facts)
        audit.drop_leaves(connection, start, end)
    return end - start


def _check(platform: Platform, start: int, end: int) -> None:
    mine = signer(platform.home)
    while start < end:
        with platform.database.read() as connection:
            rows = audit.entries(connection, start, min(_PAGE, end - start))
        for row in rows:
            if found := entries.fault(mine, row):
                raise Unavailable(
                    f"event {row[0]} ({row[1]}) {found}: retention leaves the log as it is", hint="ground audit verify"
                )
        if not rows:
            return
        start = rows[-1][0] + 1


def told(leaf: str) -> int:
    """Below which number an event of retention told that it drops; 0 for one that does not say."""
    below = json.loads(leaf)["details"].get("below")
    return below if isinstance(below, int) else 0
