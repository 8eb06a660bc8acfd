"""Users, teams, projects, tokens and sessions"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_Key = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.add_column("runs", sa.Column("team", sa.Text, nullable=False, server_default=sa.text("''")))
    op.add_column("runs", sa.Column("confined", sa.Boolean, nullable=False, server_default=sa.text("false")))
    op.create_table(
        "users",
        sa.Column("id", _Key, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("full_name", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.Column("email", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.Column("password", sa.Text),
        sa.Column("issuer", sa.Text),
        sa.Column("subject", sa.Text),
        sa.Column("attributes", sa.Text, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("disabled_at", sa.BigInteger),
        sa.Column("seen_at", sa.BigInteger),
        sa.Column("failures", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("locked_until", sa.BigInteger),
    )
    op.create_index("users_by_subject", "users", ["issuer", "subject"], unique=True)
    op.create_table(
        "teams",
        sa.Column("id", _Key, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("parent_id", _Key, sa.ForeignKey("teams.id")),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "members",
        sa.Column("team_id", _Key, sa.ForeignKey("teams.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("user_id", _Key, sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("role", sa.Text, primary_key=True),
        sa.Column("origin", sa.Text, primary_key=True),
    )
    op.create_index("members_by_user", "members", ["user_id"])
    op.create_table(
        "projects",
        sa.Column("id", _Key, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("team_id", _Key, sa.ForeignKey("teams.id"), nullable=False),
        sa.Column("labels", sa.Text, nullable=False, server_default=sa.text("'[]'")),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "tokens",
        sa.Column("id", _Key, primary_key=True),
        sa.Column("uid", sa.Text, nullable=False, unique=True),
        sa.Column("user_id", _Key, sa.ForeignKey("users.id", ondelete="CASCADE")),
        sa.Column("digest", sa.Text, nullable=False, unique=True),
        sa.Column("scopes", sa.Text),
        sa.Column("methods", sa.Text, nullable=False, server_default=sa.text("'[]'")),
        sa.Column("level", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("used_at", sa.BigInteger),
        sa.Column("revoked_at", sa.BigInteger),
    )
    op.create_index("tokens_by_user", "tokens", ["user_id"])
    op.create_table(
        "sessions",
        sa.Column("id", _Key, primary_key=True),
        sa.Column("digest", sa.Text, nullable=False, unique=True),
        sa.Column("user_id", _Key, sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
        sa.Column("methods", sa.Text, nullable=False),
        sa.Column("level", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger),
    )
