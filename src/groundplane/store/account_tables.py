"""Tables of who there is: users, teams, projects, and what they show to be let in."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, Table, Text, text

from groundplane.store.tables import Key, metadata

users = Table(
    "users",
    metadata,
    Column("id", Key, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),  # user, or service: an account of a program
    Column("full_name", Text, nullable=False, server_default=text("''")),
    Column("email", Text, nullable=False, server_default=text("''")),
    Column("password", Text),  # argon2; None: it has none
    # Of an OpenID provider's account.
    Column("issuer", Text),
    Column("subject", Text),
    Column("attributes", Text, nullable=False, server_default=text("'{}'")),  # JSON: training, clearance
    Column("created_at", BigInteger, nullable=False),
    Column("disabled_at", BigInteger),
    Column("seen_at", BigInteger),
    # Failed logins since the last one that succeeded.
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("locked_until", BigInteger),
    # Tokens of attempts' work that are older do not hold: they stand in no table.
    Column("credentials_from", BigInteger),
    Index("users_by_subject", "issuer", "subject", unique=True),
)

teams = Table(
    "teams",
    metadata,
    Column("id", Key, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("parent_id", Key, ForeignKey("teams.id")),
    Column("created_at", BigInteger, nullable=False),
)

members = Table(
    "members",
    metadata,
    Column("team_id", Key, ForeignKey("teams.id", ondelete="CASCADE"), primary_key=True),
    Column("user_id", Key, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("role", Text, primary_key=True),
    Column("origin", Text, primary_key=True),  # local, or oidc: of a group that the provider says
    Index("members_by_user", "user_id"),
)

projects = Table(
    "projects",
    metadata,
    Column("id", Key, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("team_id", Key, ForeignKey("teams.id"), nullable=False),
    Column("labels", Text, nullable=False, server_default=text("'[]'")),  # JSON
    Column("created_at", BigInteger, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Key, primary_key=True),
    Column("uid", Text, nullable=False, unique=True),
    Column("user_id", Key, ForeignKey("users.id", ondelete="CASCADE")),  # None: the owner's
    Column("digest", Text, nullable=False, unique=True),  # HMAC-SHA-256 under the home's key
    Column("scopes", Text),  # JSON; None: all that the user may
    # Of the login that it stands for, as a session has them.
    Column("methods", Text, nullable=False, server_default=text("'[]'")),
    Column("level", Text, nullable=False, server_default=text("''")),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("used_at", BigInteger),
    Column("revoked_at", BigInteger),
    Index("tokens_by_user", "user_id"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", Key, primary_key=True),
    Column("digest", Text, nullable=False, unique=True),
    Column("user_id", Key, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("methods", Text, nullable=False),  # JSON: amr
    Column("level", Text, nullable=False),  # acr
    Column("created_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
)
