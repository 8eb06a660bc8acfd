"""The audit log: events that are entries of a Merkle tree"""

from __future__ import annotations

import json
import os
import time
import uuid
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_Key = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_BATCH = 5000


def upgrade() -> None:
    op.execute("CREATE TABLE events_before AS SELECT * FROM events")  # renamed, it would keep its sequence's name
    op.drop_table("events")
    made = op.create_table(
        "events",
        sa.Column("id", _Key, primary_key=True),
        sa.Column("uid", sa.Text, nullable=False, unique=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("person", sa.Text),
        sa.Column("leaf", sa.Text),
        sa.Column("number", sa.BigInteger, unique=True),
        sa.Column("hash", sa.LargeBinary),
        sa.Column("mark", sa.LargeBinary),
    )
    waiting = sa.text("number IS NULL")
    op.create_index("events_waiting", "events", ["id"], sqlite_where=waiting, postgresql_where=waiting)
    op.create_table(
        "audit_log",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("peaks", sa.LargeBinary, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("pushed_size", sa.BigInteger, nullable=False),
        sa.Column("pushed_at", sa.BigInteger),
        sa.Column("push_error", sa.Text),
    )
    op.create_table(
        "people",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("under", sa.Text, primary_key=True),
        sa.Column("uid", sa.Text, nullable=False, unique=True),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
    )
    _keep(made)
    op.drop_table("events_before")


def _keep(made: sa.Table) -> None:
    """What was told before enters the log first. Its actors stand there in clear: there were no keys of people."""
    connection = op.get_bind()
    before = sa.table("events_before", *map(sa.column, ("id", "at", "actor", "action", "object", "outcome", "body")))
    last = -1
    while rows := connection.execute(
        sa.select(before).where(before.c.id > last).order_by(before.c.id).limit(_BATCH)
    ).all():
        connection.execute(sa.insert(made), [_event(row) for row in rows])
        last = rows[-1].id


def _event(row: Any) -> dict[str, object]:
    seconds, micros = divmod(row.at, 1_000_000)
    raw = bytearray((row.at // 1000).to_bytes(6, "big") + os.urandom(10))
    raw[6], raw[8] = raw[6] & 0x0F | 0x70, raw[8] & 0x3F | 0x80
    uid = str(uuid.UUID(bytes=bytes(raw)))
    leaf = {
        "id": uid,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{micros:06d}Z",
        "actor": row.actor,
        "source": "",
        "action": row.action,
        "object": row.object,
        "outcome": row.outcome,
        "details": {name: value if isinstance(value, (str, bool)) else json.dumps(value)
                    for name, value in json.loads(row.body).items()},
    }  # fmt: skip
    text = json.dumps(leaf, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return {"uid": uid, "at": row.at, "action": row.action, "outcome": row.outcome, "leaf": text}
