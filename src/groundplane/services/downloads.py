"""What a URL gives. For strangers' runs from addresses that are not this host's own: the control plane asks, and it may
reach what they may not."""

from __future__ import annotations

import http.client
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from groundplane.services import addresses

_CHUNK = 1 << 20
_SECONDS = 60
_STRANGERS = ("http", "https")


class Unreadable(Exception):
    """The URL gave no answer, an error, or less than it announced."""


class OwnAddress(OSError):
    """It is of the control plane's own host: not for strangers."""


def blocks(url: str, *, stranger: bool) -> Iterator[bytes]:
    """The URL's content. Raises Unreadable, also at an end that came too early."""
    size = 0
    try:
        with opened_for_strangers(url) if stranger else _opened(url) as source:
            announced = source.headers.get("Content-Length")
            while block := source.read(_CHUNK):
                size += len(block)
                yield block
    except urllib.error.HTTPError as error:
        raise Unreadable(f"it answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise Unreadable(str(error.reason)) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unreadable(str(error) or type(error).__name__) from error
    if announced is not None and announced.isdecimal() and int(announced) != size:
        raise Unreadable(f"it announced {announced} bytes and broke off after {size}")


def opened_for_strangers(url: str) -> Any:
    """The answer of an address that a stranger names, as `urlopen` gives it. Raises HTTPError, and OSError: that of an
    address of this host says so, all others say the same, for ports of others are not his to probe."""
    request = _request(url)
    if request.type not in _STRANGERS:
        raise OwnAddress(f"{request.type}: is an address of the control plane's own host")
    try:
        return _strangers().open(request, timeout=_SECONDS)
    except urllib.error.HTTPError:
        raise
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, OwnAddress):
            raise reason from None
        raise OSError("it does not answer") from None


def _opened(url: str) -> Any:
    return urllib.request.urlopen(_request(url), timeout=_SECONDS)  # noqa: S310 - the owner's own, a file of his too


def _request(url: str) -> urllib.request.Request:
    return urllib.request.Request(url, headers={"User-Agent": "groundplane"})  # noqa: S310 - whoever opens it looks


def _strangers() -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPRedirectHandler(),  # to http and https alone: there are no others here
        _Http(),
        _Https(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_Connection if req.host == _named(req) else http.client.HTTPConnection, req)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_TlsConnection if req.host == _named(req) else http.client.HTTPSConnection, req)


def _named(request: urllib.request.Request) -> str:
    """The host of the URL: where a proxy stands between, the request's own host is the proxy, whose rules then hold."""
    return urllib.request.Request(request.full_url).host  # noqa: S310 - it is only taken apart


class _Connection(http.client.HTTPConnection):
    def connect(self) -> None:
        self._create_connection = _outside
        super().connect()


class _TlsConnection(http.client.HTTPSConnection):
    def connect(self) -> None:
        self._create_connection = _outside
        super().connect()


def _outside(address: tuple[str, int], timeout: float | None = None, source: Any = None) -> socket.socket:
    """`socket.create_connection` to where the name leads now, if that is no address of this host or its link alone."""
    return socket.create_connection((outside(*address), address[1]), timeout, source)


def outside(host: str, port: int) -> str:
    """The numeric address that the name leads to now. Raises OwnAddress for one of this host or its link alone, and
    OSError for a name without any."""
    for *_, found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        if addresses.is_own(str(found[0])):
            raise OwnAddress(f"{host} is an address of the control plane's own host ({found[0]})")
        return str(found[0])
    raise OSError(f"{host} has no address")
