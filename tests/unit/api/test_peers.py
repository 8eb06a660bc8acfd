"""Who may use a control plane."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from groundplane.api import peers
from groundplane.api.peers import Peer, connection_uid, make_token
from tests.unit.api.asgi import Api

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return Api(tmp_path)


def over_tcp(api: Api, monkeypatch: pytest.MonkeyPatch, uid: int | None) -> None:
    api.peer = Peer(None, (("127.0.0.1", 40000), ("127.0.0.1", 8080)))
    monkeypatch.setattr(peers, "connection_uid", lambda *_: uid)


def health(api: Api, **headers: str) -> tuple[int, str]:
    answer = api("GET", "/api/v1/health", headers=headers)
    return answer.status, answer.json().get("code", "")


def test_this_user_on_the_unix_socket_may(api: Api) -> None:
    assert health(api) == (200, "")


def test_another_user_on_the_unix_socket_may_not(api: Api) -> None:
    api.peer = Peer(uid=os.getuid() + 1)
    assert health(api) == (403, "denied")


def test_a_connection_that_does_not_tell_may_not(api: Api) -> None:
    api.peer = None
    assert health(api) == (403, "denied")


@pytest.mark.parametrize("uid", [os.getuid() + 1, None])
def test_on_loopback_another_user_needs_the_token(api: Api, monkeypatch: pytest.MonkeyPatch, uid: int | None) -> None:
    over_tcp(api, monkeypatch, uid)
    assert health(api) == (403, "no_token")
    assert health(api, authorization="Bearer wrong") == (403, "no_token")
    assert health(api, authorization="Bearer ") == (403, "no_token")
    assert health(api, authorization=f"Bearer {make_token(api.platform.home)}") == (200, "")


def test_on_loopback_this_user_needs_none(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    over_tcp(api, monkeypatch, os.getuid())
    assert health(api) == (200, "")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "", "10.0.0.1"])
def test_a_rebound_name_may_not(api: Api, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    over_tcp(api, monkeypatch, os.getuid())
    assert health(api, host=host) == (403, "wrong_host")


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1:8080", "[::1]:8080"])
def test_loopback_names_may(api: Api, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    over_tcp(api, monkeypatch, os.getuid())
    assert health(api, host=host) == (200, "")
    assert health(api, host=host, origin=f"http://{host}") == (200, "")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:9999"])
def test_another_sites_page_may_not(api: Api, monkeypatch: pytest.MonkeyPatch, origin: str) -> None:
    over_tcp(api, monkeypatch, os.getuid())
    assert health(api, host="localhost:8080", origin=origin) == (403, "wrong_origin")


def test_the_token_is_made_once_and_is_private(tmp_path: Path) -> None:
    token = make_token(tmp_path)
    assert make_token(tmp_path) == token
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600


def test_the_kernels_table_tells_the_user_of_a_connection(tmp_path: Path) -> None:
    (tmp_path / "tcp").write_text(
        HEAD
        + "   0: 0100007F:1F90 0100007F:9C40 01 0:0 0:0 0 1000 0 1\n"  # the server's own side
        + "   1: 0100007F:9C40 0100007F:1F90 06 0:0 0:0 0 0 0 0\n"  # an earlier connection's TIME_WAIT
        + "   2: 0100007F:9C40 0100007F:1F90 01 0:0 0:0 0 1234 0 2\n"
    )
    (tmp_path / "tcp6").write_text(
        HEAD
        + f"   0: {'0' * 16}FFFF00000100007F:9C41 {'0' * 16}FFFF00000100007F:1F90 01 0:0 0:0 0 77 0 1\n"
        + f"   1: {'0' * 24}01000000:9C42 {'0' * 24}01000000:1F90 01 0:0 0:0 0 88 0 1\n"
    )
    own = ("127.0.0.1", 8080)
    assert connection_uid(("127.0.0.1", 40000), own, tmp_path) == 1234
    assert connection_uid(("127.0.0.1", 40001), own, tmp_path) == 77
    assert connection_uid(("::1", 40002), ("::1", 8080), tmp_path) == 88
    assert connection_uid(("127.0.0.1", 40003), own, tmp_path) is None
    assert connection_uid(("127.0.0.1", 40000), own, tmp_path / "none") is None
