"""Who is at the other side of a connection, and whether they may be.

The unix socket tells the peer's user, who has to be the control plane's own: the owner. Over TCP, wherever from, a
token or a browser's session tells who asks; all but health, login and the API's description needs one. A browser's
page of another site is refused: by its Host (DNS rebinding) or its Origin. With a token file its token is one of the
owner's, and whoever has it may call this host what he likes: a page of another site does not know it.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import os
import socket
import struct
from dataclasses import dataclass
from functools import partial
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from groundplane.api.headers import hardened
from groundplane.api.limits import Rate, limited
from groundplane.api.problems import problem_reply
from groundplane.api.replies import BODY_LIMIT
from groundplane.api.standing import CutShort, Standing, lasting
from groundplane.model.errors import Denied, GroundError, Throttled, Unauthenticated
from groundplane.services import sessions, tokens
from groundplane.services.access import Actor
from groundplane.services.platform import Platform
from groundplane.services.users import TOKEN_HOLDER, owner_name

log = logging.getLogger(__name__)

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104 - not listened on here
_HEALTH = "/api/v1/health"
_OPEN = ("/", _HEALTH, "/api/v1/openapi.json")
_LOGIN = "/auth/"
_LOGIN_LIMIT = 64 * 1024
_UNLIMITED = ("/api/v1/folders",)  # it has a limit of its own
_SAFE = ("GET", "HEAD", "OPTIONS")
_SAY_WHO = "`ground login`, or set GROUND_TOKEN to a token: `ground tokens create` makes one"
_WRONG_TOKENS = 120
"""Wrong tokens a minute from one address, after which it is not listened to for a while."""


@dataclass(frozen=True, slots=True)
class Peer:
    """uid: of a unix socket's other side. Of a TCP connection: the other side's address, and the one it came to."""

    uid: int | None
    address: str = ""
    own: str = ""


@dataclass(frozen=True, slots=True)
class Doors:
    """How the control plane listens over TCP. host: as it was told. tls: it speaks that itself. token_file: see above.
    url: where people reach it, "" where that is not said."""

    host: str = ""
    tls: bool = False
    token_file: Path | None = None
    url: str = ""

    @property
    def secure(self) -> bool:
        """Whether browsers reach it by https."""
        return self.tls or self.url.startswith("https://")

    @property
    def cookie(self) -> str:
        """The name of a session's cookie. With the prefix a browser takes it from this host by https alone."""
        return "__Host-ground" if self.secure else "ground-session"

    @property
    def hosts(self) -> frozenset[str]:
        """What it may be called."""
        named = {self.host} - {"", *_ANYWHERE}
        return frozenset({*_LOOPBACK, *named, *filter(None, [urlsplit(self.url).hostname])})


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
            peer = Peer(None, _address(connection.getpeername()), _address(connection.getsockname()))
        self.app_state = {**self.app_state, "peer": peer}


class Gate:
    """ASGI middleware: refuses who may not, and puts the actor into the request's state."""

    def __init__(self, app: ASGIApp, platform: Platform, doors: Doors) -> None:
        self._app = app
        self._platform = platform
        self._doors = doors
        self._hosts = doors.hosts
        self._wrong = Rate(_WRONG_TOKENS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        peer: Peer | None = scope["state"].get("peer")
        path: str = scope["path"]
        login = path == "/" or path.startswith(_LOGIN)
        if peer is not None and peer.uid is None:
            send = hardened(send, page=login, secure=self._doors.secure)
        headers: dict[bytes, bytes] = dict(scope["headers"])
        try:
            if peer is None:
                raise Denied("the connection does not tell who is there", hint="connect to the control plane's sockets")
            if peer.uid is not None:
                _check_origin(headers, "")
                actor = _owner(peer.uid)
            else:
                if path not in _UNLIMITED:
                    receive = limited(receive, _LOGIN_LIMIT if login else BODY_LIMIT, headers.get(b"content-length"))
                actor = await self._admit(peer, scope["method"], path, headers)
        except GroundError as error:
            reply = problem_reply(error)
            if isinstance(error, Unauthenticated):
                reply.headers["WWW-Authenticate"] = "Bearer"
            await reply(scope, receive, send)
            return
        if actor is not None:
            scope["state"]["actor"] = actor
            scope["state"]["standing"] = standing = Standing(partial(self._holds, peer, headers))
            send = lasting(send, standing)
        try:
            await self._app(scope, receive, send)
        except CutShort as cut:
            log.info("an answer was cut short path=%s code=%s", path, cut.code)

    async def _admit(self, peer: Peer, method: str, path: str, headers: dict[bytes, bytes]) -> Actor | None:
        """Who asks; None where nobody needs to say so."""
        _check_origin(headers, self._doors.url)
        bearer = bearer_of(headers)
        if bearer and self._is_token_of_file(bearer):
            return Actor(TOKEN_HOLDER, "owner", source=peer.address, credential="token-file")
        if not (path == _HEALTH and self._doors.token_file):  # a cluster asks by whatever address it has
            self._check_host(headers, peer)
        if path in _OPEN or path.startswith(_LOGIN):
            return None
        if self._wrong.over(peer.address):
            raise Throttled("too many wrong tokens came from this address", hint="try again in a minute")
        try:
            if bearer:
                return await run_in_threadpool(tokens.actor_of, self._platform, bearer, peer.address)
            return await self._of_session(peer, method, headers)
        except Unauthenticated:
            self._wrong.take(peer.address)
            raise

    def _holds(self, peer: Peer, headers: dict[bytes, bytes]) -> None:
        """Raises Unauthenticated when what was shown with an earlier request has ended. To be answered for long is no
        use of a session."""
        bearer = bearer_of(headers)
        if peer.uid is not None or (bearer and self._is_token_of_file(bearer)):
            return
        if bearer:
            tokens.actor_of(self._platform, bearer, peer.address)
        elif sessions.find(self._platform, cookie_of(headers, self._doors.cookie), peer.address, used=False) is None:
            raise _ended()

    async def _of_session(self, peer: Peer, method: str, headers: dict[bytes, bytes]) -> Actor:
        cookie = cookie_of(headers, self._doors.cookie)
        found = await run_in_threadpool(sessions.find, self._platform, cookie, peer.address) if cookie else None
        if found is None:
            raise _ended() if cookie else Unauthenticated("this control plane wants to know who asks", hint=_SAY_WHO)
        shown = headers.get(b"x-csrf-token", b"").decode("latin-1")
        if method not in _SAFE and not hmac.compare_digest(shown.encode(), found.csrf.encode()):
            raise Denied("the request does not come from a page of ours", hint="send X-CSRF-Token", code="no_csrf")
        return found.actor

    def _is_token_of_file(self, bearer: str) -> bool:
        if self._doors.token_file is None:
            return False
        try:
            token = self._doors.token_file.read_bytes().strip()
        except OSError:
            return False
        return bool(token) and hmac.compare_digest(bearer.encode(), token)

    def _check_host(self, headers: dict[bytes, bytes], peer: Peer) -> None:
        host = headers.get(b"host", b"").decode("latin-1")
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            name = ""
        # Where it listens everywhere, addresses are translated on the way. No foreign name can be bound to one.
        translated = self._doors.host in _ANYWHERE and _is_address(name)
        if name not in self._hosts and name != peer.own and not translated:
            raise Denied(
                f"the Host {host!r} is not this control plane's", hint="GROUND_PUBLIC_URL names it", code="wrong_host"
            )


def bearer_of(headers: dict[bytes, bytes]) -> str:
    """The token that is shown; "" when there is none."""
    kind, _, shown = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return shown.strip() if kind.lower() == "bearer" else ""


def cookie_of(headers: dict[bytes, bytes], name: str) -> str:
    """The value of a cookie; "" when there is none."""
    try:
        found = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
    except CookieError:
        return ""
    return found[name].value if name in found else ""


def _ended() -> Unauthenticated:
    return Unauthenticated("the session has ended", hint=_SAY_WHO)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _owner(uid: int) -> Actor:
    if uid != os.getuid():
        raise Denied("this control plane belongs to another user", hint="set GROUND_HOME to a folder of yours")
    return Actor(owner_name(), "owner", source="socket")


def _address(name: tuple[str, int] | tuple[str, int, int, int]) -> str:
    """An address as people write it: IPv4 also where an IPv6 socket took it."""
    return name[0].partition("%")[0].removeprefix("::ffff:")


def _check_origin(headers: dict[bytes, bytes], url: str) -> None:
    origin = headers.get(b"origin")
    if origin is None or (url and origin.decode("latin-1") == url):
        return
    if origin.partition(b"://")[2] != headers.get(b"host"):
        raise Denied(f"a page of {origin.decode('latin-1')} may not use this control plane", code="wrong_origin")
