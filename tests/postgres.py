"""A PostgreSQL of the tests' own: made by initdb in a temporary folder, as a user who is not root, on a unix socket."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
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
_SETTINGS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=300", "listen_addresses=")
_PATIENCE = 30.0


class Postgres:
    """A running server. `folder` holds its socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made = 0

    def url(self, database: str) -> str:
        return f"postgresql://ground@/{database}?host={self.folder}"

    def create(self) -> str:
        """A new, empty database; its URL."""
        self._made += 1
        name = f"ground{self._made}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)


@contextmanager
def server() -> Iterator[Postgres]:
    """Runs while the block does."""
    folder = Path(tempfile.mkdtemp(prefix="ground-postgres-"))
    user = _unprivileged()
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    programs = POSTGRES_BIN or Path(shutil.which("initdb") or "/usr/bin/initdb").parent
    as_user = {"user": user, "cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    try:
        subprocess.run(
            [programs / "initdb", "-D", folder / "data", "-U", "ground", "-A", "trust", "-E", "UTF8", "--no-sync",
             "--locale-provider=icu", "--icu-locale=en-US", "--locale=C.UTF-8"],
            check=True, **as_user,
        )  # fmt: skip
        settings = [word for setting in _SETTINGS for word in ("-c", setting)]
        argv = [programs / "postgres", "-D", folder / "data", "-k", folder, *settings]
        with (folder / "log").open("wb") as log, subprocess.Popen(argv, **{**as_user, "stderr": log}) as process:
            try:
                _wait(process, folder)
                yield Postgres(folder)
            finally:
                process.send_signal(signal.SIGQUIT)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            psycopg.connect(f"postgresql://ground@/postgres?host={folder}").close()
            return
        except psycopg.OperationalError:
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.02)


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
