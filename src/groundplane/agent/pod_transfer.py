"""Signed URLs: what the work stands on is brought from them, and its result is put to one."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import IO, Protocol, TypeVar
from urllib.parse import urljoin, urlsplit

from groundplane.agent.journal import FULL
from groundplane.spi import layout

T = TypeVar("T")

LARGEST = 5 * 1024**3
"""Bytes that object stores take in one piece."""
_PATIENCE_IN = 60.0  # seconds: what is asked for may still be on its way up
_SILENCE = 60.0  # seconds without a byte after which a connection is given up
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_WIDTH = 8
_CHUNK = 256 * 1024
_REDIRECTS = 5
_PASSING = frozenset({408, 425, 429})
_MEMBER = re.compile(r"(?:\./)?(?:snapshots/([0-9a-f]{64})\.json|blobs/sha256/[0-9a-f]{2}/([0-9a-f]{64}))")
_BLOCK = 512  # of a tar


class NotTransferred(Exception):
    """It failed for good. status: of HTTP, 0 where there was no answer. No URL is in its text: it is a secret."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class _NotYet(Exception):
    """The next try may go better."""


class _Reads(Protocol):
    def read(self, size: int, /) -> bytes: ...


def bring(home: Path, snapshot: str, inputs: Mapping[str, str]) -> None:
    """Puts the snapshot (a URL, or "") and the inputs (sha256 -> URL) into the store, several at a time.

    Raises NotTransferred, and OSError of a disk that is full.
    """
    jobs: deque[Callable[[], None]] = deque()
    if snapshot:
        jobs.append(partial(_fetch, "the snapshot", snapshot, partial(_unpack, home)))
    for digest, url in inputs.items():
        target = layout.blob(home, digest)
        if not target.exists():
            jobs.append(partial(_fetch, f"input {digest[:12]}", url, partial(_keep, home, target, digest)))
    failures: list[Exception] = []

    def work() -> None:
        while not failures:
            try:
                job = jobs.popleft()
            except IndexError:
                return
            try:
                job()
            except Exception as error:  # noqa: BLE001 - raised again below, on the caller's thread
                failures.append(error)

    helpers = [threading.Thread(target=work, daemon=True) for _ in range(min(_WIDTH, len(jobs)) - 1)]
    for helper in helpers:
        helper.start()
    work()
    for helper in helpers:
        helper.join()
    if failures:
        raise failures[0]


class Result:
    """The tar that is put to the result's URL: nothing of it is copied before. files: name -> path and size."""

    def __init__(self, observation: bytes, files: Mapping[str, tuple[str, int]]) -> None:
        self._observation = observation
        self._files = files
        sizes = [len(observation), *(size for _, size in files.values())]
        self.size = sum(_BLOCK + _padded(size) for size in sizes) + 2 * _BLOCK

    def put(self, url: str, patience: float) -> None:
        """patience: seconds for which it is tried again. Raises NotTransferred, and OSError of a disk that is full."""
        _retried("the result", partial(self._try, url), patience)

    def _try(self, url: str) -> None:
        with _answer("PUT", url, self) as answer:
            _judge("the result", answer, _PASSING)
            answer.read()

    def chunks(self) -> Iterator[bytes]:
        yield from _member("observation.json", len(self._observation), [self._observation])
        for name, (path, size) in self._files.items():
            yield from _member(name, size, _pieces(path, size))
        yield bytes(2 * _BLOCK)


def _member(name: str, size: int, content: Sequence[bytes] | Iterator[bytes]) -> Iterator[bytes]:
    import tarfile  # 10 ms that the start need not wait for

    header = tarfile.TarInfo(name)
    header.size, header.mode = size, 0o600
    yield header.tobuf(tarfile.USTAR_FORMAT)
    yield from content
    yield bytes(_padded(size) - size)


def _pieces(path: str, size: int) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while size:
            piece = file.read(min(_CHUNK, size))
            if not piece:
                raise ValueError(f"{path} has become shorter")
            size -= len(piece)
            yield piece


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _fetch(what: str, url: str, take: Callable[[HTTPResponse], None]) -> None:
    def attempt() -> None:
        with _answer("GET", url) as answer:
            _judge(what, answer, _PASSING | {404})
            take(answer)
            while answer.read(_CHUNK):
                pass
            if answer.length:
                raise _NotYet(f"{what} came incomplete")

    _retried(what, attempt, _PATIENCE_IN)


def _retried(what: str, attempt: Callable[[], T], patience: float) -> T:
    deadline = time.monotonic() + patience
    pause = _FIRST_PAUSE
    while True:
        try:
            return attempt()
        except (OSError, HTTPException, _NotYet) as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            if time.monotonic() + pause > deadline:
                raise NotTransferred(f"{what}: {error or type(error).__name__}") from error
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


def _judge(what: str, answer: HTTPResponse, passing: frozenset[int]) -> None:
    if 200 <= answer.status < 300:
        return
    said = f"{what}: HTTP {answer.status} {answer.reason}".rstrip()
    if answer.status in passing or answer.status >= 500:
        raise _NotYet(f"HTTP {answer.status} {answer.reason}".rstrip())
    raise NotTransferred(said, answer.status)


def _answer(method: str, url: str, body: Result | None = None) -> HTTPResponse:
    """What the URL's server says; redirects are followed. Raises OSError, HTTPException."""
    for _ in range(_REDIRECTS):
        parts = urlsplit(url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=_SILENCE)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.putrequest(method, target, skip_accept_encoding=True)
        connection.putheader("Connection", "close")
        if body is not None:
            connection.putheader("Content-Length", str(body.size))
        connection.endheaders()
        if body is not None:
            _send(connection, body)
        answer = connection.getresponse()
        if answer.status not in (301, 302, 307, 308):
            return answer
        url = urljoin(url, answer.headers["Location"] or "")
    raise HTTPException("it is redirected again and again")


def _send(connection: HTTPConnection, body: Result) -> None:
    for chunk in body.chunks():
        try:
            connection.send(chunk)
        except TimeoutError:
            raise
        except OSError:
            return  # it has heard enough, and its answer says why; TLS has an error of its own for that


def _unpack(home: Path, answer: HTTPResponse) -> None:
    import tarfile

    try:
        with tarfile.open(fileobj=answer, mode="r|*") as tar:
            for member in tar:
                content = tar.extractfile(member)
                if content is None:
                    continue  # a folder
                match = _MEMBER.fullmatch(member.name)
                if match is None:
                    raise NotTransferred(f"the snapshot holds {member.name!r}, which belongs into none")
                manifest, digest = match.groups()
                target = layout.manifest(home, manifest) if manifest else layout.blob(home, digest)
                _keep(home, target, manifest or digest, content)
    except tarfile.TarError as error:
        raise _NotYet(f"the snapshot came damaged ({error})") from error


def _keep(home: Path, target: Path, digest: str, content: _Reads | IO[bytes]) -> None:
    """Puts the content where its digest says, if it is the digest's."""
    if target.exists():
        return
    incoming = layout.incoming(home)
    incoming.mkdir(parents=True, exist_ok=True)
    path = incoming / os.urandom(12).hex()
    try:
        found = hashlib.sha256()
        with path.open("xb") as file:
            while chunk := content.read(_CHUNK):
                found.update(chunk)
                file.write(chunk)
        if found.hexdigest() != digest:
            raise _NotYet(f"the content of {digest[:12]} came damaged")
        path.chmod(0o444)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    finally:
        path.unlink(missing_ok=True)
