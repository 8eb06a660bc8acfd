"""The table of quotas: what a team or a project may have at once."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Table, Text

from groundplane.store.tables import metadata

quotas = Table(
    "quotas",
    metadata,
    Column("kind", Text, primary_key=True),  # team or project
    Column("name", Text, primary_key=True),  # a project may be a name in ground.toml and nothing else
    Column("resource", Text, primary_key=True),  # gpus, cpus, runs, seats:NAME
    Column("ceiling", BigInteger, nullable=False),  # thousandths
    Column("over", Text, nullable=False),  # queue or deny
)
