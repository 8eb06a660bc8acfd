"""The log segment: an append-only file of records, one file a run and writer. A cursor is a segment and an offset.

A record is a header and three byte strings (task, attempt, data). `data` is whole lines of one stream, or ends in
an unfinished line (UNFINISHED), which the stream's next record continues. At most 64 KiB of data each.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_HEADER = struct.Struct("<BBBBHHIq")  # magic, stream, flags, reserved, len(task), len(attempt), len(data), µs UTC
_MAGIC = 0xA7
MAX_DATA = 64 * 1024
UNFINISHED = 1
STREAMS = ("stdout", "stderr")


@dataclass(frozen=True, slots=True)
class Record:
    """stream: 0 stdout, 1 stderr. at: when it was read, µs UTC."""

    task: str
    attempt: str
    stream: int
    at: int
    data: bytes
    flags: int = 0


class Damaged(ValueError):
    """The bytes at this offset are no record."""


def encode(record: Record) -> bytes:
    """One record as bytes; ValueError when its data is over MAX_DATA."""
    if len(record.data) > MAX_DATA:
        raise ValueError(f"a record holds at most {MAX_DATA} bytes, not {len(record.data)}")
    task, attempt = record.task.encode(errors="surrogateescape"), record.attempt.encode()
    head = _HEADER.pack(_MAGIC, record.stream, record.flags, 0, len(task), len(attempt), len(record.data), record.at)
    return b"".join((head, task, attempt, record.data))


def decode(buffer: bytes, offset: int = 0) -> Iterator[tuple[Record, int]]:
    """The whole records from `offset`, each with the offset behind it; an incomplete last one is left out."""
    size = _HEADER.size
    while offset + size <= len(buffer):
        magic, stream, flags, _, tasks, attempts, length, at = _HEADER.unpack_from(buffer, offset)
        if magic != _MAGIC:
            raise Damaged(f"no log record at offset {offset}")
        end = offset + size + tasks + attempts + length
        if end > len(buffer):
            return
        start = offset + size
        record = Record(
            task=buffer[start : start + tasks].decode(errors="surrogateescape"),
            attempt=buffer[start + tasks : start + tasks + attempts].decode(),
            stream=stream,
            at=at,
            data=buffer[end - length : end],
            flags=flags,
        )
        offset = end
        yield record, offset
