"""Rows that may be there already, also when two transactions write the same one at the same time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table

_BATCH = 500


def replace(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Inserts the rows; those whose primary key is known get the new values instead."""
    if not rows:
        return
    keys = [column.name for column in table.primary_key]
    statement: Any = _insert(connection)(table)
    new = {column.name: statement.excluded[column.name] for column in table.columns if not column.primary_key}
    statement = statement.on_conflict_do_update(index_elements=keys, set_=new)
    # In one order, so that two transactions with the same rows do not wait for each other.
    ordered = sorted(rows, key=lambda row: [row[key] for key in keys])
    for start in range(0, len(ordered), _BATCH):
        connection.execute(statement, ordered[start : start + _BATCH])


def keep(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Inserts the row, unless one with something unique of it is known, which stays as it is; whether it was."""
    statement = _insert(connection)(table).values(**row).on_conflict_do_nothing()
    return connection.execute(statement.returning(*table.primary_key.columns)).first() is not None


def _insert(connection: Connection) -> Any:
    """The dialect's own: SQL has no standard word for it."""
    if connection.dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert
    else:
        from sqlalchemy.dialects.postgresql import insert
    return insert
