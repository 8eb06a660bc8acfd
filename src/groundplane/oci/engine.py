"""Docker's Engine API, as much of it as is needed here.

What it imports is little on purpose: a process of its own follows each container, and its start is part of the run's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from groundplane.model.errors import Outside
from groundplane.oci.address import Address
from groundplane.spi.http import Connection, ConnectionLostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import BufferedReader
    from socket import socket
    from typing import Any

_VERSION = "v1.41"
"""Of Docker 20.10, the oldest engine that is met; newer ones speak it too."""
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~/")
TAR = {"Content-Type": "application/x-tar"}


class Refused(Exception):
    """The engine answered with an error. status: HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Engine:
    """One engine; a connection is kept between calls. Not for two threads at once.

    silence: seconds without a byte after which it counts as away; None: it may take its time.
    Every method raises Refused, and Outside `backend_unavailable` when the engine does not answer.
    """

    def __init__(self, address: Address, silence: float | None = None) -> None:
        self.address = address
        self._silence = silence
        self._kept = self._connection()

    def close(self) -> None:
        """Ends the kept connection; the next call makes a new one."""
        self._kept.close()

    def ping(self, tries: int = 2) -> None:
        """Whether it answers. Asking for its version would have it start two programs."""
        self._answer("GET", "/_ping", None, None, tries)

    def call(
        self, method: str, path: str, query: Mapping[str, object] | None = None, body: object = None, *, tries: int = 2
    ) -> Any:
        """The answer's JSON, None without one. A kept connection may have been closed meanwhile: tried anew."""
        data = None if body is None else json.dumps(body).encode()
        content = self._answer(method, path, query, data, tries)
        return json.loads(content) if content.strip() else None

    def _answer(
        self, method: str, path: str, query: Mapping[str, object] | None, data: bytes | None, tries: int
    ) -> bytes:
        while True:
            tries -= 1
            try:
                reply = self._kept.request(method, _target(path, query), data)
                content = reply.read()
            except ConnectionLostError as error:
                self._kept.close()
                if tries <= 0:
                    raise self._unreachable(error) from error
                continue
            _check(reply.status, content)
            return content

    def head(self, path: str, query: Mapping[str, object] | None = None) -> Mapping[str, str] | None:
        """The headers of an answer, None when there is no such thing."""
        try:
            reply = self._kept.request("HEAD", _target(path, query))
        except ConnectionLostError as error:
            raise self._unreachable(error) from error
        return None if reply.status == 404 else reply.headers

    def stream(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        body: Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[bytes]:
        """The answer's body as it comes, on a connection of its own. body: sent in pieces, a tar unless headers say."""
        connection = self._connection()
        try:
            if body is None:
                reply = connection.request(method, _target(path, query), headers=headers)
            else:
                reply = connection.request(method, _target(path, query), body, headers={**TAR, **(headers or {})})
            if reply.status >= 400:
                _check(reply.status, reply.read())
            yield from reply.pieces()
        except ConnectionLostError as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()

    def framed(self, method: str, path: str, query: Mapping[str, object]) -> Iterator[tuple[int, bytes]]:
        """Output of a container as `frames` gives it, from an answer that holds it (its log)."""
        held = bytearray()
        for piece in self.stream(method, path, query):
            held += piece
            while len(held) >= 8 and len(held) >= (end := 8 + int.from_bytes(held[4:8], "big")):
                yield held[0], bytes(held[8:end])
                del held[:end]

    def events(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        body: Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[Mapping[str, Any]]:
        """JSON objects as they come (pull, load, build, push). One with an error is raised as Refused."""
        rest = b""
        for piece in self.stream(method, path, query, body, headers):
            *lines, rest = (rest + piece).split(b"\n")
            yield from filter(None, map(_event, lines))
        if found := _event(rest):
            yield found

    def attach(self, container: str) -> tuple[socket, BufferedReader]:
        """The container's output from now on (before its start: from the first byte), in frames: see `frames`."""
        query = {"stream": 1, "stdout": 1, "stderr": 1}
        connection = self._connection()
        headers = {"Connection": "Upgrade", "Upgrade": "tcp"}
        try:
            reply = connection.request("POST", _target(f"/containers/{container}/attach", query), b"", headers=headers)
            if reply.status >= 400:
                _check(reply.status, reply.read())
            return connection.detach()
        except ConnectionLostError as error:
            raise self._unreachable(error) from error

    def _connection(self) -> Connection:
        return Connection(self.address.connect, "docker", None, self._silence)

    def _unreachable(self, error: ConnectionLostError) -> Outside:
        return Outside(
            f"the Docker engine at {self.address.url} does not answer: {error}",
            hint="is it running, and may this user use it? `docker version` tells; DOCKER_HOST names another one",
            code="backend_unavailable",
        )


def frames(reader: BufferedReader) -> Iterator[tuple[int, bytes]]:
    """(1 for stdout or 2 for stderr, bytes) of an attached container or of its logs, until the stream ends."""
    while len(head := reader.read(8)) == 8:
        left = int.from_bytes(head[4:], "big")
        while left:
            piece = reader.read1(min(left, 65536))
            if not piece:
                return
            left -= len(piece)
            yield head[0], piece


def _target(path: str, query: Mapping[str, object] | None) -> str:
    given = "&".join(f"{name}={_escaped(str(value))}" for name, value in (query or {}).items())
    return f"/{_VERSION}{_escaped(path)}" + (f"?{given}" if given else "")


def _escaped(text: str) -> str:
    """As urllib.parse.quote, whose import would be a tenth of a container's process's."""
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in text.encode())


def _check(status: int, content: bytes) -> None:
    if status < 400:
        return
    try:
        message = str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        message = content.decode(errors="replace").strip() or f"HTTP status {status}"
    raise Refused(status, message)


def _event(line: bytes) -> Mapping[str, Any] | None:
    if not line.strip():
        return None
    found: Mapping[str, Any] = json.loads(line)
    if "error" in found:
        raise Refused(500, str(found["error"]))
    return found
