"""Seats of licences, and what queued tasks wait for"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_OPEN = sa.text("state IN ('queued', 'starting', 'running', 'stopping')")


def upgrade() -> None:
    op.add_column("tasks", sa.Column("licence", sa.Text, nullable=False, server_default=sa.text("''")))
    op.add_column("tasks", sa.Column("waiting", sa.Text))
    op.add_column("attempts", sa.Column("licence", sa.Text))
    op.create_index("attempts_by_licence", "attempts", ["licence"], sqlite_where=_OPEN, postgresql_where=_OPEN)
    op.create_table(
        "licences",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("seats", sa.Integer, nullable=False),
        sa.Column("server", sa.Text),
        sa.Column("asked_at", sa.BigInteger),
        sa.Column("issued", sa.Integer),
        sa.Column("others", sa.Integer),
        sa.Column("error", sa.Text),
        sa.Column("refused_at", sa.BigInteger),
        sa.Column("granted", sa.Integer),
    )
