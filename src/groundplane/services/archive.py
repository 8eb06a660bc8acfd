"""Log segments of runs that have ended, compressed. Offsets stay those of the records as they were written, so a
cursor taken before still holds.

`<writer>.segz`: blocks of whole records, each compressed by itself; the index as compressed JSON, a row a block
(offset, length, place in the file, compressed length, its tasks); the index's length as 8 bytes.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from groundplane.services.platform import Platform, now
from groundplane.spi import layout, segments
from groundplane.store import runs

SUFFIX = ".segz"
_BLOCK = 512 * 1024
_LENGTH = struct.Struct("<Q")
_REST_SECONDS = 3600
_AT_ONCE = 500


def archive_ended(platform: Platform, after: int = 0) -> int:
    """Compresses the segments of runs that ended over an hour ago, from the key `after` on; the last one's key."""
    while True:
        with platform.database.read() as connection:
            ended = runs.ended_before(connection, now() - _REST_SECONDS * 1_000_000, after, _AT_ONCE)
        for key, uid in ended:
            for path in layout.segments(platform.home, uid).glob("*.seg"):
                compress(path)
            after = key
        if len(ended) < _AT_ONCE:
            return after


def compress(path: Path) -> Path:
    """Replaces a segment by its compressed form, which is durable before the segment goes."""
    target = path.with_suffix(SUFFIX)
    fresh = path.with_suffix(f"{SUFFIX}.{os.getpid()}")
    rows: list[list[Any]] = []
    with path.open("rb") as source, fresh.open("wb") as file:
        for offset, block, tasks in _blocks(source):
            packed = zlib.compress(block, 6)
            rows.append([offset, len(block), file.tell(), len(packed), tasks])
            file.write(packed)
        index = zlib.compress(json.dumps(rows).encode())
        file.write(index)
        file.write(_LENGTH.pack(len(index)))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(target)
    path.unlink()
    return target


def read(path: Path, offset: int, limit: int, wanted: Callable[[str], bool]) -> list[tuple[segments.Record, int]]:
    """Records from the offset, about `limit` bytes of them, each with the offset behind it. Blocks that hold no
    wanted task are passed over; the last record's offset may then lie before them."""
    found: list[tuple[segments.Record, int]] = []
    for start, length, place, packed, tasks in _index(path, path.stat().st_mtime_ns):
        if start + length <= offset or not any(map(wanted, tasks)):
            continue
        with path.open("rb") as file:
            file.seek(place)
            block = zlib.decompress(file.read(packed))
        found += [(record, start + behind) for record, behind in segments.decode(block, max(0, offset - start))]
        if found and found[-1][1] - offset >= limit:
            break
    return found


def _blocks(source: BinaryIO) -> Iterator[tuple[int, bytes, list[str]]]:
    """(offset, whole records, the names of their tasks)."""
    begin, buffer = 0, b""
    while data := source.read(_BLOCK):
        buffer += data
        end, tasks = 0, dict[str, None]()
        for record, behind in segments.decode(buffer):
            tasks[record.task] = None
            end = behind
        if end:
            yield begin, buffer[:end], list(tasks)
            begin, buffer = begin + end, buffer[end:]


@lru_cache(maxsize=64)
def _index(path: Path, mtime_ns: int) -> list[tuple[int, int, int, int, list[str]]]:
    with path.open("rb") as file:
        file.seek(-_LENGTH.size, os.SEEK_END)
        (length,) = _LENGTH.unpack(file.read())
        file.seek(-_LENGTH.size - length, os.SEEK_END)
        return json.loads(zlib.decompress(file.read(length)))
