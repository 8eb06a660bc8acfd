"""What the routes of accounts and logins make of anything that somebody may send: an answer, never a failure."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from groundplane.api.peers import Doors, Peer
from groundplane.services import tokens
from groundplane.services.access import Actor
from groundplane.services.login_rules import LoginRules
from groundplane.services.platform import Platform
from groundplane.store.database import Database
from tests.unit.api.asgi import Api

ODD = ["", " ", "\0", "\ud800", "é", "x" * 5000, "a/b", "'; DROP TABLE users; --", "%00", "..", "<script>", "\n", "🌍"]
VALUES: list[Any] = [*ODD, None, 0, -1, 1e308, float("nan"), True, [], {}, ["\0"], {"\0": "\0"}, {"a": "\ud800"}]
ROUTES: dict[tuple[str, str], tuple[str, ...]] = {
    ("PUT", "/api/v1/users/{}"): ("kind", "email", "password"),
    ("PATCH", "/api/v1/users/{}"): ("email", "password", "attributes"),
    ("POST", "/api/v1/users/{}/disable"): (),
    ("POST", "/api/v1/users/{}/enable"): (),
    ("PUT", "/api/v1/teams/{}"): ("parent",),
    ("GET", "/api/v1/teams/{}"): (),
    ("PUT", "/api/v1/teams/platform/members/{}/member"): (),
    ("PUT", "/api/v1/teams/platform/members/alice/{}"): (),
    ("DELETE", "/api/v1/teams/{}/members/alice"): (),
    ("DELETE", "/api/v1/teams/platform/members/alice?role={}"): (),
    ("PUT", "/api/v1/projects/{}"): ("team",),
    ("POST", "/api/v1/tokens"): ("user", "scopes", "lifetime"),
    ("DELETE", "/api/v1/tokens/{}"): (),
    ("POST", "/auth/token"): ("name", "password"),
    ("POST", "/auth/device"): (),
    ("POST", "/auth/device/token"): ("device_code",),
    ("GET", "/auth/callback?state={}&code={}"): (),
    ("GET", "/auth/logout"): (),
}


@pytest.fixture
def api(tmp_path: Path, database_url: str) -> Iterator[Api]:
    rules = LoginRules(rate=100_000)
    platform = Platform(home=tmp_path, database=Database(database_url), drivers={}, logins=rules)
    made = Api(tmp_path, platform, Doors())
    made.peer = Peer(None, "10.0.0.2", "10.0.0.1")
    yield made
    platform.database.close()


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route[0]} {route[1]}")
def test_nothing_that_is_sent_fails(api: Api, route: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groundplane.services.passwords.holds", lambda kept, password: False)
    monkeypatch.setattr("groundplane.services.passwords.hashed", lambda password: "$argon2id$none")
    headers = {"authorization": f"Bearer {tokens.create(api.platform, Actor('me', 'owner')).token}"}
    (method, path), keys = route, ROUTES[route]
    words = ODD if "{}" in path else ["x"]
    bodies: list[Any] = [
        None,
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff",
        *({key: value} for key in keys for value in VALUES),
    ]
    if keys:
        bodies += [
            dict(zip(keys, each, strict=True))
            for each in itertools.islice(itertools.product(ODD, repeat=len(keys)), 60)
        ]
    seen = set()
    for word, body in [*((word, {}) for word in words), *(("a-name", body) for body in bodies)]:
        raw = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        where = path.replace("{}", quote(word, safe="", errors="surrogatepass"))
        answer = api(method, where, headers=headers, raw=raw or b"", unquoted=True)
        assert answer.status < 500, (method, where, body, answer.body)
        seen.add(answer.status)
    assert seen


@pytest.mark.parametrize("cookie", ["\0", "é", '"', "a=b=c;", "ground-session=\udcff", "ground-session=" + "x" * 5000])
@pytest.mark.parametrize(
    "path", ["/", "/auth/callback?state=x&code=y", "/auth/logout", "/auth/login", "/api/v1/whoami"]
)
def test_no_cookie_fails(api: Api, path: str, cookie: str) -> None:
    text = cookie.encode("utf-8", "surrogateescape").decode("latin-1")
    assert api("GET", path, headers={"cookie": text}).status < 500
