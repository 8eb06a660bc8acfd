"""Who may use a control plane."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from groundplane.api import peers
from groundplane.api.peers import Gate, Peer, connection_uid, make_token
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


@pytest.fixture
def shared(tmp_path: Path) -> Gate:
    """A control plane that everybody with the token in a file may use."""
    (tmp_path / "shared").write_text("a-token-of-this-many-letters-is-one\n")

    async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
        """Whoever comes here was let in."""

    return Gate(nothing, tmp_path, tmp_path / "shared", "/api/v1/health")


@pytest.mark.parametrize("uid", [os.getuid(), None])
def test_with_a_token_file_everybody_needs_its_token(
    shared: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int | None
) -> None:
    monkeypatch.setattr(peers, "connection_uid", lambda *_: uid)
    for wrong in ("", "Bearer wrong", "Bearer ", f"Bearer {make_token(tmp_path)}"):
        assert entered(shared, "/api/v1/status", authorization=wrong) == (403, "")
    right = "Bearer a-token-of-this-many-letters-is-one"
    assert entered(shared, "/api/v1/status", authorization=right, host="ground.example") == (0, "token")
    assert entered(shared, "/api/v1/status", authorization=right, host="a", origin="http://b") == (403, "")


def test_with_a_token_file_a_cluster_may_ask_whether_it_answers(shared: Gate) -> None:
    assert entered(shared, "/api/v1/health", host="10.0.0.1:7433") == (0, "")
    assert entered(shared, "/api/v1/healthy", host="10.0.0.1:7433") == (403, "")


def entered(gate: Gate, path: str, **headers: str) -> tuple[int, str]:
    """The status of a refusal, 0 for none; and the name of the actor who went on."""
    sent: list[Message] = []
    peer = Peer(None, (("10.1.2.3", 40000), ("10.0.0.1", 7433)))
    state: dict[str, Any] = {"peer": peer}
    found = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope: Scope = {"type": "http", "method": "GET", "path": path, "headers": found, "state": state}

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    asyncio.run(gate(scope, receive, send))
    actor = state.get("actor")
    return (sent[0]["status"] if sent else 0), (actor.name if actor else "")


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
