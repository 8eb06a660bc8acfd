"""Connections that strangers add: where they have the control plane's host connect to, and what its errors tell."""

from __future__ import annotations

import ast
import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from groundplane.model.connections import UNANSWERED
from groundplane.services import connections, downloads, probing, querying, secrets
from groundplane.services.access import Actor
from groundplane.spi import enclosing, layout, readers
from groundplane.store.database import sqlite_url
from tests.parts import require
from tests.planes import ME, Ground, Shared
from tests.postgres import Postgres

STRANGER = Actor(ME.name, "owner", source="192.0.2.7", credential="token")
STEP = 'steps.a.command = ["/fake/a"]\nsteps.a.inputs = { "n.csv" = "connection:warehouse?sql=select 1 as n" }\n'


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    require("postgres")
    from tests.postgres import server

    with server(tcp=True) as running:
        running.user("ann", "of the database")
        yield running


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    home = tmp_path / "home"
    made = Ground(home, tmp_path / "project", sqlite_url(tmp_path / "ground.db"), Shared(home).seat()).start()
    secrets.put(made.platform, ME, "password", None, b"of the database")
    yield made
    made.close()


@pytest.fixture
def asked() -> Iterator[tuple[int, list[str]]]:
    """The port of a server of this host alone, and what it was asked for."""
    paths: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, paths
        server.shutdown()


def add(ground: Ground, who: Actor, host: str, port: int | None) -> None:
    url = f"postgresql://ann@{host}:{port}/postgres"
    connections.put(ground.platform, who, "warehouse", None, url, "password")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]"])
def test_a_stranger_leads_nobody_to_this_host(ground: Ground, database: Postgres, host: str) -> None:
    add(ground, STRANGER, host, database.port)
    for who in (STRANGER, ME):  # whoever asks: it is he who added it
        found = probing.check(ground.platform, who, "warehouse", None)
        assert not found.ok and "address of the control plane's own host" in found.message, found
        assert "whoever runs the control plane can add it" in found.hint
    run = ground.run(STEP)
    (done,) = run.tasks
    assert done.reason is not None and done.reason.code == "not_here", done


def test_what_its_owner_added_leads_anywhere(ground: Ground, database: Postgres) -> None:
    add(ground, ME, "127.0.0.1", database.port)
    assert probing.check(ground.platform, STRANGER, "warehouse", None).ok
    assert ground.run(STEP).state == "succeeded"
    add(ground, STRANGER, "127.0.0.1", database.port)
    assert not probing.check(ground.platform, ME, "warehouse", None).ok, "it is the stranger's from now on"


def test_what_answers_nothing_is_told_alike(
    ground: Ground, asked: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A closed port, one of another service, one that says nothing, a name that nobody has. That the address is another
    host's is played: this machine has no network of others."""
    monkeypatch.setattr(downloads, "outside", lambda host, port: outside(host, port))
    monkeypatch.setattr(querying, "_CONNECT_SECONDS", 2)
    monkeypatch.setattr(querying, "_EVEN_SECONDS", 4.0)

    def outside(host: str, _: int) -> str:
        if host == "nowhere.invalid":
            raise socket.gaierror(-2, "Name or service not known")
        return "127.0.0.1"

    with socket.create_server(("127.0.0.1", 0)) as silent:
        found: list[tuple[str, str]] = []
        times: list[float] = []
        for host, port in (("db", 1), ("db", asked[0]), ("db", silent.getsockname()[1]), ("nowhere.invalid", 5432)):
            add(ground, STRANGER, host, port)
            began = time.monotonic()
            health = probing.check(ground.platform, STRANGER, "warehouse", None)
            times.append(time.monotonic() - began)
            found.append((health.message, health.hint))
    assert len(set(found)) == 1 and UNANSWERED in found[0][0], found
    assert max(times) - min(times) < 1.0, times
    add(ground, ME, "127.0.0.1", 1)
    assert "refused" in probing.check(ground.platform, ME, "warehouse", None).message


def test_a_name_is_looked_up_once(ground: Ground, database: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that leads elsewhere when it is looked at, and here when it is connected to."""
    add(ground, STRANGER, "localhost", database.port)
    monkeypatch.setattr(downloads, "outside", lambda host, port: "192.0.2.1")
    monkeypatch.setattr(querying, "_CONNECT_SECONDS", 2)
    monkeypatch.setattr(querying, "_EVEN_SECONDS", 0.0)
    assert UNANSWERED in probing.check(ground.platform, STRANGER, "warehouse", None).message


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "169.254.169.254"])
def test_a_strangers_bucket_is_none_of_this_host(ground: Ground, asked: tuple[int, list[str]], host: str) -> None:
    pytest.importorskip("botocore")
    port, paths = asked
    address = f"s3://KEY@lake/raw?endpoint_url=http%3A%2F%2F{host}%3A{port}"
    connections.put(ground.platform, STRANGER, "lake", None, address, "password")
    found = probing.check(ground.platform, STRANGER, "lake", None)
    assert not found.ok and "address of the control plane's own host" in found.message, found
    assert paths == []
    if host == "127.0.0.1":
        connections.put(ground.platform, ME, "lake", None, address, "password")
        assert not probing.check(ground.platform, ME, "lake", None).ok and paths != []


def test_its_owners_tickets_and_certificates_are_shown_to_nobody(
    ground: Ground, asked: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Played as above."""
    monkeypatch.setattr(downloads, "outside", lambda host, port: "127.0.0.1")
    monkeypatch.setenv("KRB5CCNAME", "FILE:/tmp/ticket")
    monkeypatch.setenv("PGSSLCERT", "/tmp/certificate")
    monkeypatch.setattr(
        readers, "command", lambda _: [sys.executable, "-I", "-c", START + "tell(sorted(os.environ), asked)"]
    )
    add(ground, STRANGER, "db", asked[0])
    told = probing.check(ground.platform, STRANGER, "warehouse", None).message
    assert "KRB5" not in told and "PG" not in told, told
    assert "'hostaddr': '127.0.0.1'" in told and "'gssencmode': 'disable'" in told
    assert "'sslcert': '/nonexistent'" in told and "'sslkey': '/nonexistent'" in told


START = """
import json, os, socket, sys
from pathlib import Path
asked = json.loads(sys.stdin.buffer.read())["connection"]
if "--enclosed" in sys.argv:
    from groundplane.spi.readers import enclose
    enclose(*sys.argv[sys.argv.index("--enclosed") + 1 :], port=asked["port"])
def tell(*found):
    print(json.dumps({"error": {"code": "query_failed", "message": str(found), "hint": "", "fault": "user"}}))
"""
"""What asks a server, as if what the server says had taken it over."""
ATTACK = """
found = []
def attempt(what, do):
    try:
        found.append((what, do()))
    except OSError as error:
        found.append((what, type(error).__name__))
attempt("server", lambda: socket.create_connection(("127.0.0.1", asked["port"]), 1).close())
attempt("key", lambda: Path(HOME, "key").read_bytes())
attempt("home", lambda: os.listdir(HOME))
attempt("passwords", lambda: Path("/etc/shadow").read_text())
attempt("platform", lambda: open(PACKAGE, "r+").close())
attempt("another's", lambda: socket.create_connection(("127.0.0.1", OTHER), 1).close())
attempt("socket", lambda: socket.socket(socket.AF_UNIX).connect(SOCKET))
attempt("datagram", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close())
attempt("parent", lambda: os.kill(PARENT, 0))
attempt("fork", lambda: os.fork() or os._exit(0))
tell(*found)
"""


@pytest.mark.parametrize("by", ["bubblewrap", "itself"])
def test_what_asks_a_strangers_server_reaches_that_server(
    ground: Ground, asked: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """Played as above."""
    require("bubblewrap") if by == "bubblewrap" else None
    if by == "itself" and (why := enclosing.unavailable()):
        pytest.skip(why)
    monkeypatch.setattr(enclosing if by == "bubblewrap" else readers, *ABSENT[by])
    monkeypatch.setattr(downloads, "outside", lambda host, port: "127.0.0.1")
    home = ground.platform.home
    with socket.create_server(("127.0.0.1", 0)) as other, socket.socket(socket.AF_UNIX) as local:
        local.bind(str(home / "s"))
        local.listen()
        names = {"HOME": str(home), "PACKAGE": enclosing.__file__, "OTHER": other.getsockname()[1]}
        names |= {"SOCKET": str(home / "s"), "PARENT": os.getpid()}
        code = START + "".join(f"{name} = {value!r}\n" for name, value in names.items()) + ATTACK
        monkeypatch.setattr(readers, "command", lambda _: [sys.executable, "-I", "-c", code])
        add(ground, STRANGER, "db", asked[0])
        told = probing.check(ground.platform, STRANGER, "warehouse", None).message
    found = dict(ast.literal_eval(told.partition(": ")[2]))
    assert found.pop("server") is None, "the server that it is for"
    free = {"another's", "datagram", "fork"} if by == "bubblewrap" else set[str]()  # it has this host's network
    if found.pop("home") == ["blobs"]:
        free.add("home")
    for what, came in found.items():
        assert what in free or str(came).endswith("Error"), (what, came)
    assert "the key" not in told


ABSENT = {
    "bubblewrap": ("unavailable", lambda: "the kernel has no Landlock"),
    "itself": ("_no_bubblewrap", lambda: "bubblewrap (bwrap) is not installed"),
}


def test_where_nothing_can_confine_it_a_stranger_asks_nothing(
    ground: Ground, database: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enclosing, *ABSENT["bubblewrap"])
    monkeypatch.setattr(readers, *ABSENT["itself"])
    monkeypatch.setattr(downloads, "outside", lambda host, port: "127.0.0.1")
    add(ground, STRANGER, "localhost", database.port)
    run = ground.run(STEP)
    (done,) = run.tasks
    assert done.reason is not None and done.reason.code == "cannot_confine", done
    assert "Landlock" in done.reason.message and "bubblewrap" in done.reason.hint
    add(ground, ME, "localhost", database.port)
    assert ground.run(STEP).state == "succeeded"


@pytest.mark.parametrize("by", ["bubblewrap", "itself"])
def test_a_strangers_query_is_answered(
    ground: Ground, database: Postgres, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """Played as above."""
    monkeypatch.setattr(enclosing if by == "bubblewrap" else readers, *ABSENT[by])
    monkeypatch.setattr(downloads, "outside", lambda host, port: "127.0.0.1")
    add(ground, STRANGER, "localhost", database.port)
    assert probing.check(ground.platform, STRANGER, "warehouse", None).ok
    assert ground.run(STEP).state == "succeeded"
    (kept,) = [path for path in layout.blob(ground.platform.home, "00").parent.parent.rglob("*") if is_table(path)]
    assert (kept.stat().st_uid, kept.stat().st_mode & 0o777) == (os.geteuid(), 0o444)
    assert not list(layout.incoming(ground.platform.home).iterdir())


@pytest.mark.parametrize("by", ["bubblewrap", "itself"])
def test_whom_the_control_plane_trusts_a_strangers_query_trusts(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """Played as above. As libpq takes it from the home of whoever runs the control plane."""
    require("postgres")
    from tests.postgres import server

    monkeypatch.setattr(enclosing if by == "bubblewrap" else readers, *ABSENT[by])
    monkeypatch.setattr(downloads, "outside", lambda host, port: "127.0.0.1")
    tmp_path.chmod(0o755)
    with server(tcp=True) as running:
        running.user("ann", "of the database")
        own, others = certified(running.folder / "data"), certified(tmp_path)
        running.run("postgres", "ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()")
        url = f"postgresql://ann@localhost:{running.port}/postgres?sslmode=verify-full"
        connections.put(ground.platform, STRANGER, "warehouse", None, url, "password")
        for trusted, ok in ((own, True), (others, False)):
            seen = tmp_path / ".postgresql" / "root.crt"
            seen.parent.mkdir(exist_ok=True)
            seen.write_bytes(trusted.read_bytes())
            monkeypatch.setenv("HOME", str(tmp_path))
            monkeypatch.setattr(querying, "_EVEN_SECONDS", 0.0)
            found = probing.check(ground.platform, STRANGER, "warehouse", None)
            assert found.ok is ok, (trusted, found)


def certified(folder: Path) -> Path:
    """A certificate for `localhost` and its key, as a PostgreSQL takes them from its folder; the certificate."""
    chain, key = folder / "server.crt", folder / "server.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", chain, "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    for path in (chain, key):
        os.chown(path, folder.stat().st_uid, -1)
        path.chmod(0o600)
    return chain


def is_table(path: Path) -> bool:
    return path.is_file() and path.read_bytes()[:4] == b"PAR1"
