"""What was found out once and holds until a stat differs: file digests, engine versions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from groundplane.store.tables import fetches, pins, probes, stats

_BATCH = 500


def stats_of(connection: Connection, paths: Sequence[str]) -> dict[str, tuple[int, int, int, int, str, int]]:
    """path -> (size, mtime_ns, ctime_ns, inode, sha256, written_ns) for the paths that are known."""
    found: dict[str, tuple[int, int, int, int, str, int]] = {}
    for start in range(0, len(paths), _BATCH):
        query = select(stats).where(stats.c.path.in_(paths[start : start + _BATCH]))
        for row in connection.execute(query):
            found[row.path] = (row.size, row.mtime_ns, row.ctime_ns, row.inode, row.sha256, row.written_ns)
    return found


def put_stats(connection: Connection, rows: Iterable[tuple[str, int, int, int, int, str, int]]) -> None:
    """(path, size, mtime_ns, ctime_ns, inode, sha256, written_ns), replacing what was known of the path."""
    names = ("path", "size", "mtime_ns", "ctime_ns", "inode", "sha256", "written_ns")
    values: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in rows]
    for start in range(0, len(values), _BATCH):
        batch = values[start : start + _BATCH]
        connection.execute(delete(stats).where(stats.c.path.in_([row["path"] for row in batch])))
        connection.execute(insert(stats), batch)


def probe(connection: Connection, key: str) -> tuple[str, str] | None:
    """(version, libraries as JSON) of an engine by its key."""
    row = connection.execute(select(probes).where(probes.c.key == key)).first()
    return (row.version, row.libraries) if row else None


def put_probe(connection: Connection, key: str, version: str, libraries: str) -> None:
    """Replaces what was known of the key."""
    connection.execute(delete(probes).where(probes.c.key == key))
    connection.execute(insert(probes).values(key=key, version=version, libraries=libraries))


def pin(connection: Connection, digests: Sequence[str], at: int) -> None:
    """Keeps these blobs from the garbage collection for a day, before anything names them."""
    for start in range(0, len(digests), _BATCH):
        batch = digests[start : start + _BATCH]
        connection.execute(delete(pins).where(pins.c.sha256.in_(batch)))
        connection.execute(insert(pins), [{"sha256": digest, "at": at} for digest in batch])


def fetched(connection: Connection, run_id: int) -> dict[str, Any]:
    """URL -> (sha256, size) of what was fetched for a run."""
    rows = connection.execute(select(fetches).where(fetches.c.run_id == run_id))
    return {row.url: (row.sha256, row.size) for row in rows}


def put_fetched(connection: Connection, run_id: int, url: str, sha256: str, size: int) -> None:
    """Once a run and URL."""
    connection.execute(delete(fetches).where(fetches.c.run_id == run_id, fetches.c.url == url))
    connection.execute(insert(fetches).values(run_id=run_id, url=url, sha256=sha256, size=size))
