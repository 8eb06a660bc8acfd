"""What strangers' URLs reach of this host: nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from groundplane.services import downloads


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


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "127.1", "[::ffff:127.0.0.1]"])
def test_not_what_only_this_host_reaches(port: int, host: str) -> None:
    with pytest.raises(downloads.Unreadable):
        read(f"http://{host}:{port}/x")


def test_not_the_clouds_own_address() -> None:
    with pytest.raises(downloads.Unreadable, match="own host"):
        read("http://169.254.169.254/latest/meta-data/")


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
