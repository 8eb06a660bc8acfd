"""What strangers' URLs reach of this host: nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from groundplane.services import addresses, downloads


class _Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"data")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("0.0.0.0", 0), _Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def own_address() -> str:
    """This host's address on its network: none that only it has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no network")
        return probe.getsockname()[0]


def read(url: str, *, stranger: bool = True) -> bytes:
    return b"".join(downloads.blocks(url, stranger=stranger))


LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "0.0.0.0", "0", "127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1")
MAPPED = ("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::]", "[::ffff:0.0.0.0]")


@pytest.mark.parametrize("host", [*LOOPBACK, *MAPPED])
def test_not_what_only_this_host_reaches(port: int, host: str) -> None:
    with pytest.raises(downloads.Unreadable, match="own host"):
        read(f"http://{host}:{port}/x")


CLOUDS = (
    *(
        "169.254.169.254",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::]",
    ),
    *("[::a9fe:a9fe]", "[fd00:ec2::254]", "[fd20:ce::254]", "[fd00:c1::a9fe:a9fe]", "[fd00:42::42]"),
    *("100.100.100.200", "168.63.129.16", "[fe80::a9fe:a9fe]", "224.0.0.1", "255.255.255.255", "0.1.2.3", "[ff02::1]"),
)


@pytest.mark.parametrize("host", CLOUDS)
def test_not_the_clouds_own_address(host: str) -> None:
    with pytest.raises(downloads.Unreadable, match="own host"):
        read(f"http://{host}/latest/meta-data/")


def test_what_a_name_leads_to_is_asked_once_and_counts(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that leads to another address when it is asked again comes to nothing: what was looked at is connected."""
    answers = iter((own_address(), "127.0.0.1"))
    known = socket.getaddrinfo

    def changing(host: str, *rest: Any, **named: Any) -> Any:
        return known(next(answers) if host == "rebound.example" else host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", changing)
    assert read(f"http://rebound.example:{port}/x") == b"data"
    with pytest.raises(downloads.Unreadable, match=r"own host \(127\.0\.0\.1\)"):
        read(f"http://rebound.example:{port}/x")


@pytest.mark.parametrize("address", ["192.0.2.1", "10.0.0.1", "100.64.0.1", "2001:db8::1", "fd12::1", "64:ff9b::a00:1"])
def test_networks_of_others_are_theirs(address: str) -> None:
    assert not addresses.is_own(address)


def test_no_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"key")
    with pytest.raises(downloads.Unreadable, match="own host"):
        read(f"file://{tmp_path}/key")
    assert read(f"file://{tmp_path}/key", stranger=False) == b"key"


def test_others_are_reached_and_lead_nowhere_else(port: int, tmp_path: Path) -> None:
    there = f"http://{own_address()}:{port}"
    assert read(f"{there}/x") == b"data"
    assert read(f"{there}/to/{there}/x") == b"data"
    (tmp_path / "key").write_bytes(b"key")
    for target in (f"http://127.0.0.1:{port}/x", f"file://{tmp_path}/key", "ftp://x/", "http://169.254.169.254/"):
        with pytest.raises(downloads.Unreadable):
            read(f"{there}/to/{target}")
    assert read(f"http://127.0.0.1:{port}/x", stranger=False) == b"data"


def test_which_ports_of_others_are_open_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def elsewhere(_: str) -> bool:
        return False

    monkeypatch.setattr(addresses, "is_own", elsewhere)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        with pytest.raises(downloads.Unreadable, match=r"^it does not answer$"):
            list(downloads.blocks(url, stranger=True))
        with pytest.raises(downloads.Unreadable, match="refused"):
            list(downloads.blocks(url, stranger=False))
