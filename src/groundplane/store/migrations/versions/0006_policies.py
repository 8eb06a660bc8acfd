"""Policies, decisions on launches, and what backends are said to be"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "policies",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("added_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "decisions",
        sa.Column("run", sa.Text, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("decisions_by_time", "decisions", ["at"])
    op.add_column("backends", sa.Column("region", sa.Text, nullable=False, server_default=sa.text("''")))
    op.add_column("backends", sa.Column("encrypted", sa.Boolean, nullable=False, server_default=sa.text("false")))
