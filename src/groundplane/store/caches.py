"""What was found out once and holds until a stat differs: file digests, engine versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select

from groundplane.store import upserts
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


def put_stats(connection: Connection, rows: Sequence[tuple[str, Sequence[int | str]]]) -> None:
    """path and (size, mtime_ns, ctime_ns, inode, sha256, written_ns), replacing what was known of the path."""
    names = ("size", "mtime_ns", "ctime_ns", "inode", "sha256", "written_ns")
    values: list[dict[str, Any]] = [{"path": path, **dict(zip(names, row, strict=True))} for path, row in rows]
    upserts.replace(connection, stats, values)


def probe(connection: Connection, key: str) -> tuple[str, str] | None:
    """(version, libraries as JSON) of an engine by its key."""
    row = connection.execute(select(probes).where(probes.c.key == key)).first()
    return (row.version, row.libraries) if row else None


def put_probe(connection: Connection, key: str, version: str, libraries: str) -> None:
    """Replaces what was known of the key."""
    upserts.replace(connection, probes, [{"key": key, "version": version, "libraries": libraries}])


def pin(connection: Connection, digests: Sequence[str], at: int) -> None:
    """Keeps these blobs from the garbage collection for a day, before anything names them."""
    upserts.replace(connection, pins, [{"sha256": digest, "at": at} for digest in sorted(set(digests))])


def fetched(connection: Connection, run_id: int) -> dict[str, Any]:
    """URL -> (sha256, size) of what was fetched for a run."""
    rows = connection.execute(select(fetches).where(fetches.c.run_id == run_id))
    return {row.url: (row.sha256, row.size) for row in rows}


def put_fetched(connection: Connection, run_id: int, url: str, sha256: str, size: int) -> None:
    """Once a run and URL: the first one's content counts."""
    upserts.keep(connection, fetches, {"run_id": run_id, "url": url, "sha256": sha256, "size": size})
