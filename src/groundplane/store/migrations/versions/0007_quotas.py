"""Quotas and labels. What was queued before counts as a task that asks for one CPU and no GPU"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "quotas",
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("resource", sa.Text, primary_key=True),
        sa.Column("ceiling", sa.BigInteger, nullable=False),
        sa.Column("over", sa.Text, nullable=False),
    )
    op.create_table(
        "declassifications",
        sa.Column("project", sa.Text, primary_key=True),
        sa.Column("sha256", sa.Text, primary_key=True),
        sa.Column("label", sa.Text, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.add_column("tasks", sa.Column("gpus", sa.Integer, nullable=False, server_default=sa.text("0")))
    op.add_column("tasks", sa.Column("cpus", sa.BigInteger, nullable=False, server_default=sa.text("1000")))
    for table in ("runs", "artifacts"):
        op.add_column(table, sa.Column("labels", sa.Text, nullable=False, server_default=sa.text("'[]'")))
