"""Which of some blobs, snapshots and runs the database still names."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, select

from groundplane.store.tables import artifacts, fetches, pins, runs


def named_blobs(connection: Connection, digests: Sequence[str]) -> set[str]:
    """Those that an artifact, a fetched URL or a pin names."""
    found: set[str] = set()
    for column in (artifacts.c.sha256, fetches.c.sha256, pins.c.sha256):
        found.update(connection.execute(select(column).where(column.in_(digests))).scalars())
    return found


def named_snapshots(connection: Connection, digests: Sequence[str]) -> set[str]:
    """Those that a run stands on."""
    query = select(runs.c.snapshot).where(runs.c.snapshot.in_(digests)).distinct()
    return set(connection.execute(query).scalars())


def known_runs(connection: Connection, uids: Sequence[str]) -> set[str]:
    """Those that there are."""
    return set(connection.execute(select(runs.c.uid).where(runs.c.uid.in_(uids))).scalars())


def forget_pins(connection: Connection, before: int) -> None:
    """Those set before that, in µs UTC."""
    connection.execute(delete(pins).where(pins.c.at < before))
