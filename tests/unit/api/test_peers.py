"""Who may use a control plane."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from groundplane.api.peers import Doors, Peer, cookie_of
from groundplane.services import sessions, tokens, users
from groundplane.services.access import Actor
from groundplane.services.login_rules import LoginRules
from groundplane.services.platform import Platform
from groundplane.store.database import Database
from tests.integration.accounts import session
from tests.unit.api.asgi import Answer, Api

OWNER = Actor("me", "owner")
FILE_TOKEN = "a-token-of-this-many-letters-is-one"
TCP = Peer(None, "10.1.2.3", "10.0.0.1")
DATA = "/api/v1/tokens"


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    made = Platform(
        home=tmp_path, database=Database(f"sqlite:///{tmp_path}/ground.db"), drivers={}, logins=LoginRules(rate=3)
    )
    users.create(made, OWNER, "alice")
    yield made
    made.database.close()


def made(platform: Platform, peer: Peer | None = TCP, **doors: Any) -> Api:
    api = Api(platform.home, platform, Doors(**doors))
    api.peer = peer
    return api


@pytest.fixture
def api(platform: Platform) -> Api:
    return made(platform)


def told(answer: Answer) -> tuple[int, str]:
    body = answer.json()
    return answer.status, body.get("code", "") if isinstance(body, dict) else ""


def bearer(platform: Platform, user: str = "alice", **words: Any) -> str:
    return f"Bearer {tokens.create(platform, OWNER, user or None, **words).token}"


def test_this_user_on_the_unix_socket_is_the_owner(platform: Platform) -> None:
    who = made(platform, Peer(uid=os.getuid()))("GET", "/api/v1/whoami")
    assert who.json()["roles"] == ["owner"] and who.json()["user"] == users.owner_name()


def test_another_user_on_the_unix_socket_may_not(platform: Platform) -> None:
    assert told(made(platform, Peer(uid=os.getuid() + 1))("GET", DATA)) == (403, "denied")


def test_a_connection_that_does_not_tell_may_not(platform: Platform) -> None:
    assert told(made(platform, None)("GET", DATA)) == (403, "denied")


@pytest.mark.parametrize("peer", [TCP, Peer(None, "127.0.0.1", "127.0.0.1")])
def test_over_tcp_nobody_may_without_showing_who_he_is(platform: Platform, peer: Peer) -> None:
    api = made(platform, peer)
    for path in (DATA, "/api/v1/whoami", "/api/v1/health/", "/nowhere", "/docs", "/authentic", "//auth/x"):
        answer = api("GET", path)
        assert told(answer) == (401, "no_token"), path
        assert answer.headers["www-authenticate"] == "Bearer"


def test_every_route_but_three_and_the_login_needs_it(api: Api) -> None:
    """A new route is behind the gate because it is behind all of them; what is open is named here."""
    paths = {path.replace("{", "").replace("}", "") for _, path in api.routes()} | {"/api/v1/openapi.json"}
    assert len(paths) > 30
    assert {path for path in paths if api("GET", path).status != 401} == {"/api/v1/health", "/api/v1/openapi.json"}


def test_health_and_the_description_are_open(api: Api) -> None:
    assert api("GET", "/api/v1/health").status == 200
    assert api("GET", "/api/v1/openapi.json").status == 200


def test_a_token_says_for_whom(api: Api, platform: Platform) -> None:
    assert api("GET", "/api/v1/whoami", headers={"authorization": bearer(platform)}).json()["user"] == "alice"
    assert api("GET", "/api/v1/whoami", headers={"authorization": bearer(platform, "")}).json()["roles"] == ["owner"]


@pytest.mark.parametrize(
    "shown", ["", "Bearer", "Bearer ", "Bearer wrong", "Basic YTpi", "Bearer a.b.c", "Bearer ..", "x"]
)
def test_what_is_no_token(api: Api, shown: str) -> None:
    assert told(api("GET", DATA, headers={"authorization": shown})) == (401, "no_token")


def test_after_many_wrong_tokens_an_address_is_not_listened_to(api: Api, platform: Platform) -> None:
    right = bearer(platform)
    answers = [api("GET", DATA, headers={"authorization": "Bearer wrong"}).status for _ in range(130)]
    assert answers[:100] == [401] * 100 and answers[-1] == 429
    assert api("GET", DATA, headers={"authorization": right}).status == 429
    api.peer = Peer(None, "10.1.2.4", "10.0.0.1")
    assert api("GET", DATA, headers={"authorization": right}).status == 200


def test_a_session_needs_the_word_of_a_page_to_change_anything(api: Api, platform: Platform) -> None:
    cookie = session(platform, Actor("alice"))
    headers = {"cookie": f"other=1; ground-session={cookie}"}
    assert api("GET", "/api/v1/whoami", headers=headers).json()["user"] == "alice"
    assert told(api("POST", DATA, {}, headers=headers)) == (403, "no_csrf")
    assert told(api("POST", DATA, {}, headers={**headers, "x-csrf-token": "wrong"})) == (403, "no_csrf")
    csrf = sessions.csrf(platform, cookie)
    assert api("POST", DATA, {}, headers={**headers, "x-csrf-token": csrf}).status == 201
    assert told(api("GET", DATA, headers={"cookie": "ground-session=x"})) == (401, "no_token")
    assert told(api("GET", DATA, headers={"cookie": "ground-session"})) == (401, "no_token")


def test_over_tls_a_cookie_counts_only_with_its_prefix(platform: Platform) -> None:
    cookie = session(platform, Actor("alice"))
    api = made(platform, tls=True)
    assert api("GET", DATA, headers={"cookie": f"ground-session={cookie}"}).status == 401
    answer = api("GET", DATA, headers={"cookie": f"__Host-ground={cookie}"})
    assert answer.status == 200 and "max-age" in answer.headers["strict-transport-security"]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "", "10.0.0.2", "localhost.evil.example", "[", "a b"]
)
@pytest.mark.parametrize("path", [DATA, "/api/v1/health", "/auth/login", "/"])
def test_a_rebound_name_may_not(api: Api, platform: Platform, host: str, path: str) -> None:
    headers = {"host": host, "authorization": bearer(platform)}
    assert told(api("GET", path, headers=headers)) == (403, "wrong_host")


@pytest.mark.parametrize(
    "host", ["localhost:8080", "127.0.0.1", "[::1]:80", "10.0.0.1:7433", "ground.example", "node7:1"]
)
def test_its_own_names_may(platform: Platform, host: str) -> None:
    api = made(platform, host="node7", url="https://ground.example")
    assert api("GET", "/api/v1/health", headers={"host": host}).status == 200
    assert api("GET", "/api/v1/health", headers={"host": host, "origin": f"http://{host}"}).status == 200
    assert api("GET", "/api/v1/health", headers={"host": host, "origin": "https://ground.example"}).status == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:9999", ""])
@pytest.mark.parametrize("peer", [TCP, Peer(uid=os.getuid())])
def test_another_sites_page_may_not(platform: Platform, origin: str, peer: Peer) -> None:
    headers = {"host": "localhost:8080", "origin": origin, "authorization": bearer(platform)}
    assert told(made(platform, peer)("GET", DATA, headers=headers)) == (403, "wrong_origin")


@pytest.fixture
def shared(platform: Platform, tmp_path: Path) -> Api:
    """A control plane whose owner's token is in a file."""
    (tmp_path / "shared").write_text(FILE_TOKEN + "\n")
    return made(platform, token_file=tmp_path / "shared", host="0.0.0.0")


def test_the_token_of_a_file_is_the_owners_and_may_call_it_what_it_likes(shared: Api, platform: Platform) -> None:
    headers = {"authorization": f"Bearer {FILE_TOKEN}", "host": "ground.example"}
    who = shared("GET", "/api/v1/whoami", headers=headers).json()
    assert (who["user"], who["roles"]) == ("token", ["owner"])
    assert told(shared("GET", DATA, headers={**headers, "host": "a", "origin": "http://b"})) == (403, "wrong_origin")
    assert told(shared("GET", DATA, headers={**headers, "authorization": "Bearer wrong"})) == (403, "wrong_host")
    assert told(shared("GET", DATA, headers={"authorization": "Bearer wrong"})) == (401, "no_token")
    assert shared("GET", DATA, headers={"authorization": bearer(platform)}).status == 200, "accounts' tokens count too"


def test_where_it_listens_everywhere_it_has_any_address_and_no_foreign_name(platform: Platform) -> None:
    api = made(platform, host="0.0.0.0")
    for host, code in (("10.9.9.9:80", "no_token"), ("[fd00::7]", "no_token"), ("evil.example", "wrong_host")):
        assert told(api("GET", DATA, headers={"host": host}))[1] == code


def test_with_a_token_file_a_cluster_may_ask_whether_it_answers(shared: Api) -> None:
    assert shared("GET", "/api/v1/health", headers={"host": "node.example:7433"}).status == 200
    assert told(shared("GET", "/api/v1/health/", headers={"host": "node.example:7433"})) == (403, "wrong_host")


@pytest.mark.parametrize("content", ["", "\n", None])
def test_a_token_file_that_was_emptied_lets_nobody_in(shared: Api, tmp_path: Path, content: str | None) -> None:
    if content is None:
        (tmp_path / "shared").unlink()
    else:
        (tmp_path / "shared").write_text(content)
    for shown in (f"Bearer {FILE_TOKEN}", "Bearer ", "Bearer"):
        assert shared("GET", DATA, headers={"authorization": shown}).status == 401


def test_too_much_is_refused_before_it_is_read(api: Api, platform: Platform) -> None:
    headers = {"authorization": bearer(platform)}
    assert told(api("POST", DATA, headers={**headers, "content-length": str(17 << 20)})) == (413, "too_large")
    assert told(api("POST", DATA, raw=b"x" * (17 << 20), headers=headers)) == (413, "too_large")
    assert told(api("POST", "/auth/token", raw=b"x" * (65 << 10))) == (413, "too_large")


def test_logins_from_one_address_are_counted(api: Api) -> None:
    body = {"name": "alice", "password": "wrong-password"}
    answers = [told(api("POST", "/auth/token", body)) for _ in range(4)]
    assert answers == [(401, "login_failed")] * 3 + [(429, "throttled")]


def test_a_form_whose_word_is_no_ascii_is_refused(api: Api) -> None:
    headers = {"cookie": "ground-session-form=x", "content-type": "application/x-www-form-urlencoded"}
    assert told(api("POST", "/auth/login", raw=b"name=a&password=b&csrf=%C3%A9", headers=headers)) == (403, "no_csrf")


def test_every_answer_over_tcp_tells_browsers_to_run_nothing(api: Api) -> None:
    for path in (DATA, "/api/v1/health", "/auth/login"):
        headers = api("GET", path).headers
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe-inline" not in policy and "script-src" not in policy
        assert ("sandbox" in policy) == path.startswith("/api/")
        assert headers["cache-control"] == "no-store"
        assert "strict-transport-security" not in headers


@pytest.mark.parametrize("text", ["", "a", "a=1; b", "\xff=\xfe", ";;;", "a=1;;b=2", 'b="x'])
def test_cookies_of_any_kind_are_read(text: str) -> None:
    assert cookie_of({b"cookie": text.encode("latin-1")}, "session") == ""
