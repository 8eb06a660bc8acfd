"""Connections that strangers add: where they have the control plane's host connect to, and what its errors tell."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from groundplane.model.connections import UNANSWERED
from groundplane.services import connections, downloads, probing, querying, secrets
from groundplane.services.access import Actor
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


def test_its_owners_tickets_and_certificates_are_shown_to_nobody(ground: Ground) -> None:
    add(ground, STRANGER, "192.0.2.1", 5432)
    with ground.platform.database.read() as connection:
        opened = connections.open_(ground.platform, connection, "", "warehouse")
    more = querying._outside(opened, "x")  # pyright: ignore[reportPrivateUsage]
    assert (more["hostaddr"], more["gssencmode"], more["sslcert"]) == ("192.0.2.1", "disable", "/nonexistent")
    environment = querying._environment(opened)  # pyright: ignore[reportPrivateUsage]
    assert environment["KRB5CCNAME"] == "FILE:/nonexistent"
