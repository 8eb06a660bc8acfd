"""Secrets, sealed, and connections. A project's own goes before that of all projects, whose `project` is ''."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text, text

from groundplane.store.names import Name
from groundplane.store.tables import Key, metadata

secrets = Table(
    "secrets",
    metadata,
    Column("id", Key, primary_key=True),
    Column("project", Name, nullable=False, server_default=text("''")),
    Column("name", Name, nullable=False),
    Column("version", Integer, nullable=False),
    Column("keeper", Text, nullable=False),  # what wrapped its data key
    Column("wrapped", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("set_at", BigInteger, nullable=False),
    Column("set_by", Text, nullable=False),
    Index("secrets_by_name", "name", "project", unique=True),
)

connections = Table(
    "connections",
    metadata,
    Column("id", Key, primary_key=True),
    Column("project", Name, nullable=False, server_default=text("''")),
    Column("name", Name, nullable=False),
    Column("url", Text, nullable=False),  # without its password
    Column("secret", Text),  # the name of the one that is its password
    Column("added_at", BigInteger, nullable=False),
    # Whether it may lead to the control plane's own host: whose host that is has added it.
    Column("to_this_host", Integer, nullable=False, server_default=text("0")),
    Index("connections_by_name", "name", "project", unique=True),
)
