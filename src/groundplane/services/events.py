"""What actors did."""

from __future__ import annotations

import json
from typing import Any

from groundplane.services import pages
from groundplane.services.platform import Platform, iso
from groundplane.store import events


def listing(platform: Platform, limit: int, cursor: str | None) -> dict[str, Any]:
    """`{"events": [...], "next": cursor or None}`, newest first."""
    below = pages.below(limit, cursor)
    with platform.database.read() as connection:
        rows = events.page(connection, below, limit + 1)
    shown = [
        {
            "id": row.id,
            "time": iso(row.at),
            "actor": row.actor,
            "action": row.action,
            "object": row.object,
            "outcome": row.outcome,
            "facts": json.loads(row.body),
        }
        for row in rows[:limit]
    ]
    return {"events": shown, "next": str(rows[limit - 1].id) if len(rows) > limit else None}
