"""A run's log: read from its segments by a cursor that neither loses nor doubles a byte."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from groundplane.model.errors import Invalid
from groundplane.services import archive
from groundplane.services.platform import Platform
from groundplane.spi import layout, segments

_LONGEST_OFFSET = 18  # digits: what a file's offset can have


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole lines of one stream, or a piece without its end (`unfinished`). at: µs UTC."""

    task: str
    attempt: int
    stream: str
    at: int
    data: bytes
    unfinished: bool


def read(
    platform: Platform, run_id: str, cursor: str, limit_bytes: int = 1 << 20, task: str | None = None
) -> tuple[list[Chunk], str]:
    """What follows `cursor` ("" is the beginning), about `limit_bytes` of it, and the cursor behind it.

    task: only this task's, or those of all tasks of the step of that name.
    Several writers' segments are read one after the other, so lines of one stream are always in order. The cursor
    stays the same when there is nothing more.
    """
    offsets = _parse(cursor)
    chunks: list[Chunk] = []
    left = limit_bytes

    def wanted(name: str) -> bool:
        return task is None or name == task or name.startswith(f"{task}[")

    for path in _segments(layout.segments(platform.home, run_id)):
        if left <= 0:
            break
        offset = offsets.get(path.stem, 0)
        for record, behind in _records(path, offset, left, wanted):
            left -= behind - offset
            offset = behind
            if wanted(record.task):
                chunks.append(
                    Chunk(
                        task=record.task,
                        attempt=int(record.attempt.rpartition(".")[2] or 0),
                        stream=segments.STREAMS[record.stream],
                        at=record.at,
                        data=record.data,
                        unfinished=bool(record.flags & segments.UNFINISHED),
                    )
                )
        offsets[path.stem] = offset
    return chunks, ",".join(f"{name}:{offset}" for name, offset in sorted(offsets.items()))


def _segments(folder: Path) -> list[Path]:
    """One file a writer; of a segment that is being compressed, the one that is whole."""
    if not folder.is_dir():
        return []
    found = {path.stem: path for suffix in (".seg", archive.SUFFIX) for path in folder.glob(f"*{suffix}")}
    return [found[name] for name in sorted(found)]


def _records(path: Path, offset: int, limit: int, wanted: Callable[[str], bool]) -> list[tuple[segments.Record, int]]:
    """Whole records from the offset; at least one when there is one."""
    try:
        if path.suffix == archive.SUFFIX:
            return archive.read(path, offset, limit, wanted)
        with path.open("rb") as file:
            if file.seek(0, 2) <= offset:
                return []
            file.seek(offset)
            buffer = file.read(max(limit, 2 * segments.MAX_DATA))
        return [(record, offset + behind) for record, behind in segments.decode(buffer)]
    except FileNotFoundError:  # compressed since it was listed
        return archive.read(path.with_suffix(archive.SUFFIX), offset, limit, wanted)
    except segments.Damaged as error:
        raise _no_cursor(f"{path.stem}:{offset}") from error


def _no_cursor(cursor: str) -> Invalid:
    return Invalid(f"{cursor[:200]!r} is no log cursor", hint="use the one that the last answer gave")


def _parse(cursor: str) -> dict[str, int]:
    offsets: dict[str, int] = {}
    for part in cursor.split(",") if cursor else ():
        name, _, offset = part.rpartition(":")
        if not (offset.isascii() and offset.isdecimal() and len(offset) <= _LONGEST_OFFSET):
            raise _no_cursor(cursor)
        offsets[name] = int(offset)
    return offsets
