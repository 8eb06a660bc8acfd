"""A PostgreSQL of the tests' own: made by initdb in a temporary folder, as a user who is not root, on a unix socket;
or with TCP and passwords."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.parts import POSTGRES_BIN

# What is fast and loses data only where the machine itself ends. The order of text is not that of its bytes, as on
# most servers: whoever relies on it is found out.
_SETTINGS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=300")
_PATIENCE = 30.0


class Postgres:
    """A running server. `folder` holds its socket. port: on 127.0.0.1, where whoever comes needs a password."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder, self.port = folder, port
        self._made = 0

    def url(self, database: str) -> str:
        port = f"&port={self.port}" if self.port else ""
        return f"postgresql://ground@/{database}?host={self.folder}{port}"

    def run(self, database: str, *statements: str) -> None:
        """As its superuser."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def user(self, name: str, password: str) -> None:
        """A new role that may log in."""
        from psycopg import sql

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(password))
            )

    def create(self) -> str:
        """A new, empty database; its URL."""
        self._made += 1
        name = f"ground{self._made}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)


@contextmanager
def server(*, tcp: bool = False) -> Iterator[Postgres]:
    """Runs while the block does. tcp: on a port of 127.0.0.1 too."""
    folder = Path(tempfile.mkdtemp(prefix="ground-postgres-"))
    user = _unprivileged()
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    programs = POSTGRES_BIN or Path(shutil.which("initdb") or "/usr/bin/initdb").parent
    as_user = {"user": user, "cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    try:
        subprocess.run(
            [programs / "initdb", "-D", folder / "data", "-U", "ground", "--auth-local=trust",
             "--auth-host=scram-sha-256", "-E", "UTF8", "--no-sync", "--locale-provider=icu", "--icu-locale=en-US",
             "--locale=C.UTF-8"],
            check=True, **as_user,
        )  # fmt: skip
        port = _free_port() if tcp else None
        listening = (f"port={port}", "listen_addresses=127.0.0.1") if port else ("listen_addresses=",)
        settings = [word for setting in (*_SETTINGS, *listening) for word in ("-c", setting)]
        argv = [programs / "postgres", "-D", folder / "data", "-k", folder, *settings]
        with (folder / "log").open("wb") as log, subprocess.Popen(argv, **{**as_user, "stderr": log}) as process:
            try:
                made = Postgres(folder, port)
                _wait(process, made)
                yield made
            finally:
                process.send_signal(signal.SIGQUIT)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(process: subprocess.Popen[bytes], made: Postgres) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            psycopg.connect(made.url("postgres")).close()
            return
        except psycopg.OperationalError:
            assert process.poll() is None and time.monotonic() < deadline, (made.folder / "log").read_text()
            time.sleep(0.02)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _unprivileged() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise LookupError("neither postgres nor nobody is a user here")
