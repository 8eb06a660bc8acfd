"""The way to a registry past a firm's HTTP proxy: a tunnel, inside which the connection is encrypted as without one."""

from __future__ import annotations

import base64
import socket
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from groundplane.model.errors import Invalid
from groundplane.spi.http import encrypted, tcp_socket

_LONGEST_LINE = 65536


def https_socket(host: str, port: int) -> socket.socket:
    """An encrypted connection, by HTTPS_PROXY (else ALL_PROXY) unless NO_PROXY names the host. Raises OSError, and
    Invalid for a proxy's address that is not understood."""
    found = getproxies()
    proxy = found.get("https") or found.get("all")
    if not proxy or proxy_bypass(f"{host}:{port}"):
        return tcp_socket(host, port, tls=True)
    return encrypted(_tunnel(proxy, host, port), host)


def _tunnel(proxy: str, host: str, port: int) -> socket.socket:
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if parts.scheme != "http" or not parts.hostname:
        raise Invalid(
            f"HTTPS_PROXY is {parts.scheme}://{parts.hostname or ''}, and only proxies that speak HTTP are known",
            hint="write it like http://proxy.example:3128, or name the registry in NO_PROXY",
        )
    made = tcp_socket(parts.hostname, parts.port or 80, tls=False)
    try:
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        head = f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n"
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            head += f"Proxy-Authorization: Basic {base64.b64encode(user).decode()}\r\n"
        made.sendall(f"{head}\r\n".encode())
        told = _answer(made)
    except OSError:
        made.close()
        raise
    if not told.startswith("200"):
        made.close()
        raise ConnectionRefusedError(f"the proxy {parts.hostname} answered {told or 'nothing'}")
    return made


def _answer(connection: socket.socket) -> str:
    """Status and reason."""
    with connection.makefile("rb", buffering=0) as reader:  # unbuffered: what follows the head is the registry's
        told = reader.readline(_LONGEST_LINE).decode("latin-1").partition(" ")[2].strip()
        while reader.readline(_LONGEST_LINE).strip():
            pass
    return told
