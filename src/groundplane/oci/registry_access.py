"""Requests to a registry, with whatever it asks for to let them pass: name and password, or a token got with these."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from groundplane.model.errors import Denied, Outside
from groundplane.oci import credentials
from groundplane.oci.credentials import Credentials
from groundplane.oci.proxies import https_socket
from groundplane.oci.reference import HUB
from groundplane.spi.http import Connection, ConnectionLostError, tcp_socket

_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_CLIENT = "groundplane"
_HUB = "registry-1.docker.io"
"""Where the hub's registry answers. *Untested*: no test can reach it."""
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Access:
    """One registry and its user; connections are kept. Not for several threads.

    is_plain: whether a host (`host:port`) is spoken to without TLS. folder: Docker's configuration. silence: seconds
    without an answer after which it counts as away.
    """

    def __init__(
        self,
        registry: str,
        is_plain: Callable[[str], bool],
        folder: Path | None = None,
        silence: float | None = None,
    ) -> None:
        self._is_plain = is_plain
        self._silence = silence
        self._root = f"{'http' if is_plain(registry) else 'https'}://{_HUB if registry == HUB else registry}"
        self._known: Credentials | None = credentials.of(registry, folder)
        self._registry = registry
        self._connections: dict[str, Connection] = {}
        self._basic = False
        self._tokens: dict[tuple[str, ...], str] = {}

    @property
    def who(self) -> str:
        """The user, for messages."""
        if self._known is None:
            return "an anonymous user"
        return repr(self._known.name) if self._known.name else "this user"

    def close(self) -> None:
        """Ends the connections."""
        for connection in self._connections.values():
            connection.close()

    def request(
        self,
        method: str,
        target: str,
        body: bytes | Callable[[], Iterable[bytes]] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        scopes: Sequence[str] = (),
    ) -> Answer:
        """The answer of the registry, or of where it sends its clients to. target: a path, or an address. scopes: what
        is to be allowed, as registries write it. Raises ConnectionLostError, and Denied where no token is given."""
        url = urljoin(self._root, target)
        # Its own address may send uploads elsewhere, and only the registry is told who its user is.
        known = url.startswith(f"{self._root}/")
        answer = self._send(method, url, body, {**(headers or {}), **(self._allowed(scopes) if known else {})})
        if answer.status != 401 or not known:
            return answer
        self._challenged(answer.headers.get("www-authenticate", ""), scopes)
        if not (allowed := self._allowed(scopes)):
            return answer
        return self._send(method, url, body, {**(headers or {}), **allowed})

    def _send(
        self,
        method: str,
        url: str,
        body: bytes | Callable[[], Iterable[bytes]] | None,
        headers: Mapping[str, str],
    ) -> Answer:
        parts = urlsplit(url)
        host, tls = parts.netloc.rpartition("@")[2], parts.scheme == "https"
        if not tls and not self._is_plain(host):
            raise ConnectionLostError(f"{host} would be spoken to without TLS")
        name, port = parts.hostname or "", parts.port or (443 if tls else 80)
        connection = self._connections.setdefault(
            f"{parts.scheme}://{host}",
            Connection(
                lambda: https_socket(name, port) if tls else tcp_socket(name, port, tls=False),
                host,
                None,
                self._silence,
            ),
        )
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        for again in (True, False):
            try:
                sent = body if isinstance(body, bytes) or body is None else body()
                reply = connection.request(method, path, sent, headers={"User-Agent": _CLIENT, **headers})
                answer = Answer(reply.status, reply.headers, reply.read())
            except ConnectionLostError as error:
                connection.close()
                if not again or isinstance(error.__cause__, TimeoutError):  # who was silent would be so once more
                    raise
                continue
            if reply.headers.get("connection", "").lower() == "close":
                connection.close()
            return answer
        raise AssertionError

    # --- who it is --------------------------------------------------------------------------------------------------

    def _allowed(self, scopes: Sequence[str]) -> dict[str, str]:
        if self._basic and self._known is not None:
            return {"Authorization": _basic(self._known)}
        token = self._tokens.get(tuple(scopes))
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _challenged(self, challenge: str, scopes: Sequence[str]) -> None:
        """Gets what a `WWW-Authenticate` asks for."""
        kind, _, rest = challenge.partition(" ")
        if kind.lower() == "basic":
            self._basic = True
            return
        asked = dict(_CHALLENGE.findall(rest))
        realm = asked.get("realm", "")
        if kind.lower() != "bearer" or not realm:
            raise Outside(
                f"registry {self._registry} asks for a login of an unknown kind: {challenge or 'none told'}",
                hint="Basic and Bearer are known",
                code="registry_unavailable",
            )
        self._tokens[tuple(scopes)] = self._token(realm, asked.get("service", ""), scopes)

    def _token(self, realm: str, service: str, scopes: Sequence[str]) -> str:
        known = self._known
        if known is not None and known.token:
            form = {"grant_type": "refresh_token", "service": service, "client_id": _CLIENT, "scope": " ".join(scopes)}
            body = urlencode({**form, "refresh_token": known.token}).encode()
            answer = self._send("POST", realm, body, _FORM)
        else:
            query = urlencode([("service", service), *(("scope", scope) for scope in scopes)])
            url = realm + ("&" if "?" in realm else "?") + query
            answer = self._send("GET", url, None, {"Authorization": _basic(known)} if known else {})
        if answer.status in (400, 401, 403):
            raise Denied(
                f"registry {self._registry} gives {self.who} no token for {' '.join(scopes)}",
                hint=f"docker login {self._registry}, as somebody who may",
            )
        try:
            found: dict[str, Any] = json.loads(answer.body)
            return str(found.get("token") or found["access_token"])
        except (ValueError, KeyError, TypeError):
            raise Outside(
                f"registry {self._registry} gives no token: {urlsplit(realm).netloc} answered with {answer.status}",
                hint="try again later",
                code="registry_unavailable",
            ) from None


def _basic(known: Credentials) -> str:
    return "Basic " + base64.b64encode(f"{known.name}:{known.password}".encode()).decode()
