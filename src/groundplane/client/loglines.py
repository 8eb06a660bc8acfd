"""Pieces of a log as lines: a line that was read in several pieces is one line, however long it is."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from groundplane.model.documents import LogLine

_HELD = 1024 * 1024
"""Bytes of an unfinished line that are held in memory; what is longer waits in a temporary file."""
_PART = 64 * 1024


class Piece(NamedTuple):
    """Some bytes of one stream of one attempt: whole lines, but for the end of `data` when `unfinished`.

    at: when they were read, µs UTC. stream: `stdout` or `stderr`.
    """

    task: str
    attempt: int
    stream: str
    at: int
    data: bytes
    unfinished: bool


class Line(NamedTuple):
    """A line without its newline. at: when its first bytes were read, µs UTC.

    parts: its bytes; those of a long line come some at a time, and once.
    """

    task: str
    attempt: int
    stream: str
    at: int
    parts: Sequence[bytes] | Iterator[bytes]

    @property
    def data(self) -> bytes:
        """All of it at once."""
        return b"".join(self.parts)


class Joiner:
    """Feed it pieces in order; `rest` gives the unfinished last lines. Holds little of a line that is long."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, int, str], _Beginning] = {}

    def feed(self, piece: Piece) -> Iterator[Line]:
        """The lines that this piece ends."""
        key = (piece.task, piece.attempt, piece.stream)
        *whole, tail = piece.data.split(b"\n")
        if tail and not piece.unfinished:  # whole lines, the newline of the last one left out
            whole.append(tail)
            tail = b""
        if key in self._open and whole:
            beginning = self._open.pop(key)
            beginning.add(whole.pop(0))
            yield Line(*key, beginning.at, beginning.parts())
        for data in whole:
            yield Line(*key, piece.at, (data,))
        if tail:
            self._open.setdefault(key, _Beginning(piece.at)).add(tail)

    def rest(self) -> Iterator[Line]:
        """The lines that never got their newline, oldest first."""
        for key, beginning in self._open.items():
            yield Line(*key, beginning.at, beginning.parts())
        self._open.clear()


class _Beginning:
    """What there is of a line so far."""

    def __init__(self, at: int) -> None:
        self.at = at
        self._held: list[bytes] = []
        self._size = 0
        self._file: IO[bytes] | None = None

    def add(self, data: bytes) -> None:
        self._held.append(data)
        self._size += len(data)
        if self._size > _HELD:
            if self._file is None:
                import tempfile  # 10 ms that only a long line is worth

                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - `parts` ends it
            self._file.write(b"".join(self._held))
            self._held, self._size = [], 0

    def parts(self) -> Sequence[bytes] | Iterator[bytes]:
        """All of it, once: the file is gone with its last byte."""
        return self._held if self._file is None else self._stored(self._file)

    def _stored(self, file: IO[bytes]) -> Iterator[bytes]:
        with file:
            file.seek(0)
            while part := file.read(_PART):
                yield part
        yield from self._held


def log_line(line: Line) -> LogLine:
    """A joined line as a document. It holds the whole line, however long that is: see `json_lines`."""
    return _document(line, line.data.decode(errors="replace"))


def json_lines(lines: Iterable[Line]) -> Iterator[bytes]:
    """As `runs logs --json` shows them, a JSON object each: some lines at a time, or a part of a long one."""
    from groundplane.spi import wire

    ready: list[bytes] = []
    size = 0
    for line in lines:
        for part in (wire.encode(log_line(line)),) if isinstance(line.parts, Sequence) else _streamed(line):
            ready.append(part)
            size += len(part)
            if size > _PART:
                yield b"".join(ready)
                ready, size = [], 0
    if ready:
        yield b"".join(ready)


def _streamed(line: Line) -> Iterator[bytes]:
    """One JSON object that is never there as a whole."""
    import json

    from groundplane.spi import wire

    yield wire.encode(_document(line, "")).removesuffix(b'"}\n')  # `text` is its last key
    for text in _texts(line.parts):
        yield json.dumps(text, ensure_ascii=False)[1:-1].encode()
    yield b'"}\n'


def _texts(parts: Iterable[bytes]) -> Iterator[str]:
    """UTF-8 with replacement, also where a character is split between two parts."""
    import codecs

    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for part in parts:
        yield decoder.decode(part)
    yield decoder.decode(b"", True)


def _document(line: Line, text: str) -> LogLine:
    from groundplane.model.documents import LogLine

    return LogLine(rfc3339(line.at), line.task, line.attempt, line.stream, text)


def rfc3339(at: int) -> str:
    """µs UTC as `2026-08-01T10:00:00.123456Z`."""
    seconds, micros = divmod(at, 1_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{micros:06d}Z"
