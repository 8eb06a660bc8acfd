"""HTTP/1.1 over one kept connection: what control planes, their clients, container engines and registries speak.

Not `http.client`: importing it takes a quarter of the 100 ms that a warm run may cost beyond its own interpreter.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import BufferedReader

STREAM_SILENCE = 60.0
"""Seconds without a byte after which a stream counts as broken; the control plane sends a sign of life each 15."""


class ConnectionLostError(Exception):
    """The connection broke, or could not be made, before the whole answer was there."""


class Reply:
    """An answer whose body is still to be read."""

    def __init__(self, reader: BufferedReader, status: int, headers: dict[str, str], *, bodiless: bool = False) -> None:
        self.status = status
        self.headers = headers
        self._reader = reader
        self._bodiless = bodiless

    def pieces(self) -> Iterator[bytes]:
        """The body as it arrives. Raises ConnectionLostError when it ends too early."""
        if self._bodiless:
            return
        try:
            if self.headers.get("transfer-encoding", "").lower() == "chunked":
                yield from self._chunks()
                return
            if "content-length" not in self.headers and self.headers.get("connection", "").lower() == "close":
                while piece := self._reader.read1(1 << 20):  # the end of the connection is the body's
                    yield piece
                return
            left = int(self.headers.get("content-length", "0"))
            while left:
                piece = self._reader.read1(min(left, 1 << 20))
                if not piece:
                    raise ConnectionLostError("the connection broke in an answer")
                left -= len(piece)
                yield piece
        except (OSError, ValueError) as error:
            raise ConnectionLostError(str(error)) from error

    def _chunks(self) -> Iterator[bytes]:
        while True:
            head = self._reader.readline(1024)
            if not head.endswith(b"\n"):
                raise ConnectionLostError("the connection broke in a stream")
            size = int(head.split(b";", 1)[0], 16)
            body = self._reader.read(size + 2)
            if len(body) < size + 2:
                raise ConnectionLostError("the connection broke in a stream")
            if not size:
                return
            yield body[:size]

    def read(self) -> bytes:
        """The whole body."""
        return b"".join(self.pieces())

    def lines(self) -> Iterator[bytes]:
        """The body's lines without their newlines, empty ones (signs of life) left out."""
        rest = b""
        for piece in self.pieces():
            *whole, rest = (rest + piece).split(b"\n")
            yield from filter(None, whole)
        if rest:
            yield rest


class Connection:
    """One connection, used for one request at a time. Not for several threads.

    connect: makes a connected socket, or raises OSError. host: the Host header. token: sent as bearer, when given.
    """

    def __init__(
        self, connect: Callable[[], socket.socket], host: str, token: str | None, silence: float | None = None
    ) -> None:
        self._connect = connect
        self._silence = silence
        self._head = f"Host: {host}\r\n" + (f"Authorization: Bearer {token}\r\n" if token else "")
        self._socket: socket.socket | None = None
        self._reader: BufferedReader | None = None

    def request(
        self,
        method: str,
        target: str,
        body: bytes | Iterable[bytes] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
        meanwhile: Callable[[], None] | None = None,
    ) -> Reply:
        """Sends a request, calls `meanwhile`, and reads the answer's head. Raises ConnectionLostError.

        body: bytes, of JSON unless `headers` says otherwise, or pieces that are sent as chunks, but as they are where
        `headers` has their Content-Length.
        """
        sized = headers is not None and "Content-Length" in headers
        try:
            if self._socket is None or self._reader is None:
                self._socket = self._connect()
                self._reader = self._socket.makefile("rb")
            head = f"{method} {target} HTTP/1.1\r\n{self._head}"
            if body is not None and not (headers and "Content-Type" in headers):
                head += "Content-Type: application/json\r\n"
            if isinstance(body, bytes):
                head += f"Content-Length: {len(body)}\r\n"
            elif body is not None and not sized:
                head += "Transfer-Encoding: chunked\r\n"
            for name, value in (headers or {}).items():
                head += f"{name}: {value}\r\n"
            self._socket.settimeout(STREAM_SILENCE if stream else self._silence)
            self._socket.sendall(head.encode() + b"\r\n" + (body if isinstance(body, bytes) else b""))
            if body is not None and not isinstance(body, bytes):
                for piece in filter(None, body):
                    self._socket.sendall(piece if sized else b"%x\r\n%b\r\n" % (len(piece), piece))
                if not sized:
                    self._socket.sendall(b"0\r\n\r\n")
            if meanwhile:
                meanwhile()
            return self._read_head(self._reader, method)
        except (OSError, ValueError, IndexError) as error:
            self.close()
            raise ConnectionLostError(str(error)) from error

    def _read_head(self, reader: BufferedReader, method: str) -> Reply:
        status = reader.readline(4096)
        if not status:
            raise ConnectionResetError("the connection was closed before an answer")
        headers: dict[str, str] = {}
        while (line := reader.readline(65536)) not in (b"\r\n", b"\n"):
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon:
                raise ConnectionResetError("the connection broke in an answer's head")
            headers[name.strip().lower()] = value.strip()
        number = int(status.split(b" ", 2)[1])
        return Reply(reader, number, headers, bodiless=method == "HEAD" or number in (204, 304))

    def detach(self) -> tuple[socket.socket, BufferedReader]:
        """After an answer that gave the connection over (101): the socket and what reads from it, the caller's now."""
        if self._socket is None or self._reader is None:
            raise ConnectionLostError("there is no connection")
        found = self._socket, self._reader
        self._socket = self._reader = None
        return found

    def close(self) -> None:
        """Ends the connection; the next request makes a new one."""
        if self._reader is not None:
            self._reader.close()
        if self._socket is not None:
            self._socket.close()
        self._socket = self._reader = None


def tcp_socket(host: str, port: int, tls: bool) -> socket.socket:
    """A connected TCP socket that notices a dead peer within a minute."""
    made = socket.create_connection((host, port), timeout=10)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, seconds in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, option):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), seconds)
    return encrypted(made, host) if tls else made


def encrypted(connected: socket.socket, host: str) -> socket.socket:
    """TLS over a connection; the certificate must be the host's."""
    import ssl  # 20 ms that only a shared server is worth

    return ssl.create_default_context().wrap_socket(connected, server_hostname=host)


def unix_socket(path: str) -> socket.socket:
    """A connected unix socket."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.connect(path)
    except OSError:
        made.close()
        raise
    return made
