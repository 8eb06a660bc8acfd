"""A run's variables as one sealed blob (services/variables.py seals it)."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, delete, insert, select

from groundplane.store.tables import variables


def put(connection: Connection, run_id: int, sealed: bytes) -> None:
    """Once a run."""
    connection.execute(insert(variables).values(run_id=run_id, sealed=sealed))


_GET = select(variables.c.sealed).where(variables.c.run_id == bindparam("key"))


def get(connection: Connection, run_id: int) -> bytes | None:
    """None once the run has ended."""
    return connection.execute(_GET, {"key": run_id}).scalar_one_or_none()


def forget(connection: Connection, run_id: int) -> None:
    """At the run's end."""
    connection.execute(delete(variables).where(variables.c.run_id == run_id))
