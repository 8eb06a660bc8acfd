"""Secrets and connections"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_Key = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "secrets",
        sa.Column("id", _Key, primary_key=True),
        sa.Column("project", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("keeper", sa.Text, nullable=False),
        sa.Column("wrapped", sa.LargeBinary, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("set_at", sa.BigInteger, nullable=False),
        sa.Column("set_by", sa.Text, nullable=False),
    )
    op.create_index("secrets_by_name", "secrets", ["name", "project"], unique=True)
    op.create_table(
        "connections",
        sa.Column("id", _Key, primary_key=True),
        sa.Column("project", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("secret", sa.Text),
        sa.Column("added_at", sa.BigInteger, nullable=False),
    )
    op.create_index("connections_by_name", "connections", ["name", "project"], unique=True)
