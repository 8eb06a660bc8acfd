"""Backends that somebody added"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_WAITS = sa.text("state = 'queued' AND ready = 3")


def upgrade() -> None:
    op.create_table(
        "backends",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("driver", sa.Text, nullable=False),
        sa.Column("options", sa.Text, nullable=False),
        sa.Column("added_at", sa.BigInteger, nullable=False),
    )
    op.create_index("tasks_for_images", "tasks", ["id"], sqlite_where=_WAITS, postgresql_where=_WAITS)
