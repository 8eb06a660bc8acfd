"""`python -I -m groundplane.services.bucket_probing`: whether a bucket answers, for a stranger.

In:  {"url": "s3://bucket/prefix", "variables": {"AWS_…": …}}
Out: {} when it answers, {"message", "hint"} when it does not, {"own"} (why) when it leads to this host

A process of its own, which reaches no address of this host whatever name it is asked for: the library that speaks S3
asks for addresses by itself.
"""

from __future__ import annotations

import json
import socket
import sys
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from groundplane.model.connections import UNANSWERED, UNANSWERED_HINT
from groundplane.model.errors import GroundError
from groundplane.services import downloads
from groundplane.spi.blobs import open_store

_HTTP = 80
_TELLS_PORTS = ("does not answer", "it answered:")


def main() -> int:
    """Answers one request; the exit status."""
    request: dict[str, Any] = json.load(sys.stdin)
    refused: list[str] = []
    socket.getaddrinfo = _checked(socket.getaddrinfo, refused)
    answer: dict[str, str] = {}
    try:
        next(iter(open_store(request["url"], request["variables"]).listing("")), None)
    except GroundError as error:
        hidden = any(each in error.message for each in _TELLS_PORTS)
        told = {"message": UNANSWERED, "hint": UNANSWERED_HINT} if hidden else {}
        answer = {"message": error.message, "hint": error.hint, **told}
    if refused:
        answer = {"own": refused[0]}
    json.dump(answer, sys.stdout)
    return 0


def _checked(ask: Callable[..., Any], refused: list[str]) -> Callable[..., Any]:
    """`getaddrinfo` that gives the address which was checked, and none of this host. A proxy is its owner's choice."""
    found = [urlsplit(each) for each in urllib.request.getproxies().values()]
    proxies = {(each.hostname, each.port or _HTTP) for each in found}

    def checked(host: Any, port: Any, *more: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        if (name, int(port)) not in proxies:
            socket.getaddrinfo = ask  # which `outside` asks as well
            try:
                host = downloads.outside(name, port)
            except downloads.OwnAddress as error:
                refused.append(str(error))
                raise
            finally:
                socket.getaddrinfo = checked
        return ask(host, port, *more, **named)

    return checked


if __name__ == "__main__":
    sys.exit(main())
