"""Calls an ASGI application without a socket, as a peer of this user, and a platform to give it."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from groundplane.api.app import create
from groundplane.api.peers import Doors, Peer
from groundplane.services.login_rules import LoginRules
from groundplane.services.notices import Notifier


@dataclass
class StandIn:
    """What the API itself needs of a platform; the services are replaced by the tests."""

    home: Path
    version: str = "0.1.0"
    pid: int = 17
    notifier: Notifier = field(default_factory=Notifier)
    logins: LoginRules = field(default_factory=LoginRules)

    def require_space(self) -> None:
        """There is enough."""


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines() if line]


class Api:
    """The application over a stand-in, or over a real platform."""

    def __init__(self, home: Path, platform: Any = None, doors: Doors | None = None) -> None:
        self.platform = platform or StandIn(home)
        self.app = create(self.platform, doors)
        self.peer: Peer | None = Peer(uid=os.getuid())

    def routes(self) -> list[tuple[str, str]]:
        """method, path of each, as the description has them."""
        described = self("GET", "/api/v1/openapi.json").json()["paths"]
        return [(method, path) for path, methods in described.items() for method in methods]

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        raw: bytes | None = None,
        unquoted: bool = False,
    ) -> Answer:
        """unquoted: the path's escapes are read, as uvicorn does."""
        return asyncio.run(self.call(method, path, body, headers=headers, raw=raw, unquoted=unquoted))

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        raw: bytes | None = None,
        unquoted: bool = False,
        gone: asyncio.Event | None = None,
        heard: Any = None,
    ) -> Answer:
        """gone: set it to hang up. heard: called with each piece of the body as it comes."""
        content = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        plain, _, query = path.partition("?")
        state: dict[str, Any] = {} if self.peer is None else {"peer": self.peer}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(plain) if unquoted else plain,
            "raw_path": plain.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(n.lower().encode(), v.encode()) for n, v in {"host": "localhost", **(headers or {})}.items()],
            "client": None,
            "server": None,
            "state": state,
        }
        asked = False
        start: dict[str, Any] = {}
        pieces: list[bytes] = []

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": content, "more_body": False}
            await (gone or asyncio.Event()).wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                pieces.append(message.get("body", b""))
                if heard:
                    heard(pieces[-1])

        try:
            await self.app(scope, receive, send)
        except Exception:  # Starlette answers 500 and raises on, for the server's log
            if start.get("status") != 500:
                raise
        return Answer(start["status"], {n.decode(): v.decode() for n, v in start["headers"]}, b"".join(pieces))
