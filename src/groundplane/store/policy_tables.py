"""Tables of what a firm has decided, and of what was decided by it."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Table, Text

from groundplane.store.names import Name
from groundplane.store.tables import metadata

policies = Table(
    "policies",
    metadata,
    Column("name", Name, primary_key=True),  # its file's stem
    Column("text", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("added_at", BigInteger, nullable=False),
)

decisions = Table(
    "decisions",
    metadata,
    Column("run", Text, primary_key=True),  # the id that its caller made: a denied launch is no run
    Column("at", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False),  # allowed, denied
    Column("body", Text, nullable=False),  # JSON: who asked for what, and which rule decided on each step
    Index("decisions_by_time", "at"),
)
