"""One database: SQLite (exactly one control plane) or PostgreSQL (several). Transactions, time, creation."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Generator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, select, text
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from groundplane.model.errors import GroundError, Invalid, Unavailable
from groundplane.store import account_tables as account_tables  # so that a fresh database has them
from groundplane.store import audit_tables as audit_tables
from groundplane.store import label_tables as label_tables
from groundplane.store import policy_tables as policy_tables
from groundplane.store import quota_tables as quota_tables
from groundplane.store import secret_tables as secret_tables
from groundplane.store import tables

QueryFailed = SQLAlchemyError
"""Whatever the database or the way to it may raise: for who must answer for it and speaks no SQL."""

# A control plane whose host sleeps in the midst of a transaction must not hold up the others.
_POSTGRES = {"options": "-c idle_in_transaction_session_timeout=20s"}


class Database:
    """Opens, and creates or migrates if need be. `read` and `write` give a connection in a transaction.

    `write` excludes other writers from the start (a lock and BEGIN IMMEDIATE on SQLite), so that what is read in it
    still holds when it commits; on PostgreSQL the queries that need it lock their rows.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.sqlite = url.startswith("sqlite")
        self._engine = _sqlite_engine(url) if self.sqlite else _postgres_engine(url)
        self._writing = self._engine.execution_options(ground_write=True)
        self._writer: Connection | None = None
        self._writers: Any = threading.RLock() if self.sqlite else nullcontext()
        try:
            self._prepare()
        except GroundError:
            self.close()
            raise
        except DBAPIError as error:
            self.close()
            raise Unavailable(f"the database does not answer: {error.orig}", hint=f"check {self.shown_url}") from error

    @property
    def shown_url(self) -> str:
        """The URL without its password."""
        return self._engine.url.render_as_string(hide_password=True)

    @contextmanager
    def read(self) -> Generator[Connection]:
        """A consistent look; nothing is written."""
        with self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Generator[Connection]:
        """All or nothing. Raises Unavailable `no_space` when the disk is full."""
        try:
            with self._writers, self._begin() as connection:
                yield connection
        except OperationalError as error:
            if is_full(error):
                raise Unavailable(
                    "the disk that holds the database is full", hint="make space there", code="no_space"
                ) from error
            raise

    def now(self, connection: Connection) -> int:
        """µs UTC by the clock that all control planes share: the database's, or this host's for SQLite."""
        if self.sqlite:
            return time.time_ns() // 1000
        return connection.execute(text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")).scalar_one()

    def close(self) -> None:
        """Ends the connections."""
        with self._writers:
            self._drop_writer()
        self._engine.dispose()

    def scrub(self) -> None:
        """What was deleted or replaced is in none of this SQLite database's files any more: they are written anew, and
        nobody else writes meanwhile. PostgreSQL frees its pages by itself, later. Raises Unavailable."""
        if not self.sqlite:
            return
        try:
            with self._writers, closing(self._engine.raw_connection()) as raw:
                cursor = raw.cursor()
                cursor.execute("VACUUM")
                busy = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.OperationalError as error:
            raise Unavailable(
                f"the database could not be written anew: {error}",
                hint="its unused pages still hold what was deleted: make space, ground down, and VACUUM it by sqlite3",
            ) from error
        if busy:
            raise Unavailable(
                "somebody reads the database: its log of changes still holds what was deleted",
                hint="ground down: who closes the database last deletes that log",
            )

    def listen(self, channel: str) -> Any:
        """PostgreSQL: a psycopg connection that listens on the channel, outside the pool. Not for SQLite."""
        import psycopg

        url = self._engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        connection = psycopg.connect(url, autocommit=True)
        connection.execute(f"LISTEN {channel}".encode())
        return connection

    @contextmanager
    def _begin(self) -> Generator[Connection]:
        """A write transaction. SQLite's are all on one connection: it knows what it wrote, another would read again."""
        if not self.sqlite:
            with self._writing.begin() as connection:
                yield connection
            return
        if self._writer is None:
            self._writer = self._writing.connect()
        try:
            with self._writer.begin():
                yield self._writer
        except BaseException:
            self._drop_writer()
            raise

    def _drop_writer(self) -> None:
        """Back to the pool, which rolls back what a COMMIT that failed has left begun."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _prepare(self) -> None:
        with self._writers, self._writing.begin() as connection:
            if not self.sqlite:  # two control planes that start on an empty database: one creates it
                connection.execute(text("SELECT pg_advisory_xact_lock(7261746)"))
            found = _revision(connection)
            if found is None:
                tables.metadata.create_all(connection)
                connection.execute(tables.revision.insert().values(version_num=tables.REVISION))
                return
        if found != tables.REVISION:
            from groundplane.store.migrate import migrate

            migrate(self._engine, found)


def is_full(error: DBAPIError) -> bool:
    """Whether the statement failed for want of disk space."""
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        return cause.sqlite_errorcode == sqlite3.SQLITE_FULL
    return getattr(cause, "sqlstate", None) == "53100"


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return f"sqlite:///{path}"


def _revision(connection: Connection) -> str | None:
    if not connection.dialect.has_table(connection, tables.revision.name):
        return None
    return connection.execute(select(tables.revision.c.version_num)).scalar_one_or_none()


def _sqlite_engine(url: str) -> Engine:
    engine = create_engine(url, pool_size=8, max_overflow=32, connect_args={"timeout": 30, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:  # pyright: ignore[reportUnusedFunction]
        connection.isolation_level = None  # the `begin` event below says how each transaction begins
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA busy_timeout = 30000")
        connection.execute("PRAGMA cache_size = -16000")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:  # pyright: ignore[reportUnusedFunction]
        write = connection.get_execution_options().get("ground_write")
        # Past SQLAlchemy's own machinery, which costs more than the statement.
        connection.connection.cursor().execute("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _postgres_engine(url: str) -> Engine:
    if url.startswith(("postgresql://", "postgres://")):
        url = "postgresql+psycopg://" + url.partition("://")[2]
    try:
        return create_engine(url, pool_size=8, max_overflow=32, pool_pre_ping=True, connect_args=_POSTGRES)
    except ModuleNotFoundError as error:
        raise Invalid(
            f"the database needs the Python package {error.name}", hint="pip install 'groundplane[postgres]'"
        ) from error
    except GroundError:
        raise
    except Exception as error:
        raise Invalid(
            f"--database {url.partition('@')[2] or url!r} is not understood: {error}",
            hint="write postgresql://USER@HOST/NAME or sqlite:///PATH",
        ) from error
