"""Tables of the audit log: events, the log that gives them their order, and people's keys."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text, text

from groundplane.store.tables import Key, metadata

_WAITING = "number IS NULL"

events = Table(
    "events",
    metadata,
    Column("id", Key, primary_key=True),
    Column("uid", Text, nullable=False, unique=True),
    Column("at", BigInteger, nullable=False),
    # Of the leaf, for lists to choose by. What counts is the leaf.
    Column("action", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("person", Text),  # whose key its actor is sealed with
    # RFC 8785 JSON, the entry of the log; None once retention has dropped it: its hash stays.
    Column("leaf", Text),
    # Given when it enters the log, from 0 on without a gap: transactions do not commit in the order of `id`.
    Column("number", BigInteger, unique=True),
    Column("hash", LargeBinary),  # RFC 6962, of the leaf
    # Under a key that is not in the database: of the leaf until it has its number, then of number and hash.
    Column("mark", LargeBinary),
    Index("events_waiting", "id", sqlite_where=text(_WAITING), postgresql_where=text(_WAITING)),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", Integer, primary_key=True),  # 1: there is one
    Column("origin", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("peaks", LargeBinary, nullable=False),  # model/merkle.py
    Column("note", Text, nullable=False),  # the head, signed: a C2SP checkpoint; "" before the first event
    # Which control plane puts events into the log.
    Column("holder", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    # What became of handing checkpoints to the witness.
    Column("pushed_size", BigInteger, nullable=False),
    Column("pushed_at", BigInteger),
    Column("push_error", Text),
)

people = Table(
    "people",
    metadata,
    Column("name", Text, primary_key=True),
    # Which home's key seals it: control planes of one database should share theirs, but need not.
    Column("under", Text, primary_key=True),
    Column("uid", Text, nullable=False, unique=True),  # what stands for the person in events
    Column("sealed", LargeBinary, nullable=False),  # the person's key; without it nobody can read what it sealed
)
