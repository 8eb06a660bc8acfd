"""Who is at the other side of a connection, and whether they may be.

The unix socket tells the peer's user. On loopback the kernel's table of connections does; another user needs the
token in GROUND_HOME/token. A browser's page of another site is refused: by its Host (DNS rebinding) or its Origin.
With a token file everybody who comes over TCP needs its token, wherever from, and may call this host what he likes: a
page of another site does not know it.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import pwd
import secrets
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from groundplane.api.problems import problem_reply
from groundplane.model.errors import Denied
from groundplane.services.access import Actor

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_ESTABLISHED = "01"
_TOKEN_HOLDER = Actor("token")
"""Whoever has the token of a shared control plane: it does not tell one from another."""


@dataclass(frozen=True, slots=True)
class Peer:
    """uid: of a unix socket's other side. ends: (peer, own) addresses of a TCP connection."""

    uid: int | None
    ends: tuple[tuple[str, int], tuple[str, int]] | None = None


class PeerProtocol(H11Protocol):
    """uvicorn's HTTP with the connection's peer in each request's state."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        if connection.family == socket.AF_UNIX:
            raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            peer = Peer(uid=struct.unpack("3i", raw)[1])
        else:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = Peer(None, (connection.getpeername()[:2], connection.getsockname()[:2]))
        self.app_state = {**self.app_state, "peer": peer}


class Gate:
    """ASGI middleware: refuses who may not, and puts the actor into the request's state. token_file: see above; what
    asks whether a control plane answers (`open_path`) then needs no token: a cluster has none to show."""

    def __init__(self, app: ASGIApp, home: Path, token_file: Path | None = None, open_path: str = "") -> None:
        self._app = app
        self._shared = token_file is not None
        self._token = token_file or home / "token"
        self._open = open_path if self._shared else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not (self._open and scope["path"] == self._open):
            headers: dict[bytes, bytes] = dict(scope["headers"])
            try:
                scope["state"]["actor"] = self._admit(scope["state"].get("peer"), headers)
            except Denied as error:
                await problem_reply(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _admit(self, peer: Peer | None, headers: dict[bytes, bytes]) -> Actor:
        if peer is None:
            raise Denied("the connection does not tell who is there", hint="connect to the control plane's own sockets")
        _check_origin(headers)
        if peer.ends is None:
            if peer.uid != os.getuid():
                raise Denied("this control plane belongs to another user", hint="set GROUND_HOME to a folder of yours")
            return Actor(_user(os.getuid()))
        if self._shared:
            if not self._knows_token(headers.get(b"authorization", b"")):
                raise Denied("this control plane wants a token", hint="set GROUND_TOKEN to it", code="no_token")
            return _TOKEN_HOLDER
        _check_host(headers)
        uid = connection_uid(*peer.ends)
        if uid == os.getuid():
            return Actor(_user(uid))
        if not self._knows_token(headers.get(b"authorization", b"")):
            raise Denied(
                "this control plane belongs to another user",
                hint=f"set GROUND_TOKEN to the content of {self._token}",
                code="no_token",
            )
        return Actor(_user(os.getuid() if uid is None else uid))

    def _knows_token(self, authorization: bytes) -> bool:
        try:
            token = self._token.read_bytes().strip()
        except FileNotFoundError:
            return False
        return bool(token) and hmac.compare_digest(authorization, b"Bearer " + token)


def make_token(home: Path) -> str:
    """The token of this home, made on the first call, mode 0600."""
    path = home / "token"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    token = secrets.token_urlsafe(32)
    with os.fdopen(handle, "w") as file:
        file.write(token + "\n")
    return token


def connection_uid(peer: tuple[str, int], own: tuple[str, int], tables: Path = Path("/proc/net")) -> int | None:
    """The user who owns the peer's side of a TCP connection on this host; None when the kernel does not tell."""
    for name, local, remote in (
        ("tcp", _hexadecimal(*peer, False), _hexadecimal(*own, False)),
        ("tcp6", _hexadecimal(*peer, True), _hexadecimal(*own, True)),
    ):
        for row in _rows(tables / name) if local and remote else ():
            if row[1] == local and row[2] == remote and row[3] == _ESTABLISHED:
                return int(row[7])
    return None


def _rows(table: Path) -> Iterator[list[str]]:
    try:
        with table.open() as file:
            next(file, None)
            for row in file:
                yield row.split()
    except FileNotFoundError:  # not Linux, or no IPv6
        return


def _hexadecimal(host: str, port: int, six: bool) -> str | None:
    """An address as /proc/net/tcp writes it: 32-bit words in host order."""
    if ":" in host:
        packed = socket.inet_pton(socket.AF_INET6, host.split("%")[0])
        if not six:
            return None
    else:
        packed = socket.inet_aton(host)
        if six:  # an IPv4 connection of an IPv6 socket
            packed = b"\0" * 10 + b"\xff\xff" + packed
    words = (packed[i : i + 4][::-1] for i in range(0, len(packed), 4))
    return f"{b''.join(words).hex().upper()}:{port:04X}"


def _check_host(headers: dict[bytes, bytes]) -> None:
    host = headers.get(b"host", b"").decode("latin-1")
    if urlsplit(f"//{host}").hostname not in _LOOPBACK:
        raise Denied(
            f"the Host {host!r} is not this machine's loopback", hint="use http://127.0.0.1", code="wrong_host"
        )


def _check_origin(headers: dict[bytes, bytes]) -> None:
    origin = headers.get(b"origin")
    if origin is not None and origin.partition(b"://")[2] != headers.get(b"host"):
        raise Denied(f"a page of {origin.decode('latin-1')} may not use this control plane", code="wrong_origin")


@cache
def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
