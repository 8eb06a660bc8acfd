"""The table of labels that somebody took off. What has a label says so itself: artifacts.labels, runs.labels."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Table, Text

from groundplane.store.names import Name
from groundplane.store.tables import metadata

declassifications = Table(
    "declassifications",
    metadata,
    Column("project", Name, primary_key=True),
    Column("sha256", Text, primary_key=True),  # that content, whoever makes it again in the project
    Column("label", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
)
