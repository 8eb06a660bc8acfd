"""Connections say whether they may lead to the control plane's own host, accounts since when their credentials hold"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("users", sa.Column("credentials_from", sa.BigInteger))
    op.add_column("connections", sa.Column("to_this_host", sa.Integer, nullable=False, server_default=sa.text("0")))
    # Nobody noted who had added them. Where nobody has an account, it was whoever's control plane it is.
    op.execute("UPDATE connections SET to_this_host = 1 WHERE NOT EXISTS (SELECT 1 FROM users)")
