"""What nothing names any more: blobs, snapshots and logs that the database has not known for a day."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from groundplane.services import callers, contents, plans
from groundplane.services.platform import Platform
from groundplane.spi import layout
from groundplane.spi.snapshots import Manifest
from groundplane.store import garbage, runs

_DAY = 86_400.0
_BATCH = 400


@dataclass(slots=True)
class Collected:
    """How many were deleted, and the bytes of the blobs among them."""

    blobs: int = 0
    bytes: int = 0
    snapshots: int = 0
    logs: int = 0
    uploads: int = 0


def collect(platform: Platform, at: float) -> Collected:
    """Deletes it. at: seconds since the epoch that count as now.

    A blob is named by an artifact, a fetched URL, a pin of the last day, or a snapshot that a run stands on; a
    snapshot younger than a day counts too, because its run may be on its way. What is looked through may change
    meanwhile; only while a batch is looked at once more and deleted is no snapshot taken.
    """
    found, before = Collected(), at - _DAY
    with platform.database.write() as connection:
        garbage.forget_pins(connection, round(before * 1e6))
    _snapshots(platform, before, found)
    _blobs(platform, before, found)
    _logs(platform, before, found)
    _uploads(platform.home, before, found)
    _sent_folders(platform, before, found)
    return found


def _sent_folders(platform: Platform, before: float, found: Collected) -> None:
    """Not one of an open run: what it runs in may yet be built from it."""
    old = list(_older(callers.uploads(platform.home), before))
    if not old:
        return
    with platform.database.read() as connection:
        needed = {plans.load(connection, row.plan).folder for row in runs.plans_in_use(connection, None)}
    for path in old:
        if not any(Path(folder).is_relative_to(path) for folder in needed):
            _delete(path)
            found.uploads += 1


def _uploads(home: Path, before: float, found: Collected) -> None:
    for path in _older(layout.incoming(home), before):
        _delete(path)
        found.uploads += 1


def _delete(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _snapshots(platform: Platform, before: float, found: Collected) -> None:
    folder = layout.manifest(platform.home, "0").parent
    old = {path.stem: path for path in _older(folder, before) if path.suffix == ".json"}
    for batch in _batches(list(old)):
        with contents.only(platform.home), platform.database.read() as connection:
            for digest in set(batch) - garbage.named_snapshots(connection, batch):
                if _is_older(old[digest].stat(), before):
                    old[digest].unlink()
                    shutil.rmtree(layout.layer(platform.home, digest), ignore_errors=True)
                    found.snapshots += 1


def _blobs(platform: Platform, before: float, found: Collected) -> None:
    doomed: dict[str, Path] = {}
    root = layout.blob(platform.home, "00").parent.parent
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        old = {path.name: path for path in _older(folder, before)}
        for batch in _batches(list(old)):
            with platform.database.read() as connection:
                named = garbage.named_blobs(connection, batch)
            doomed.update((digest, old[digest]) for digest in batch if digest not in named)
    manifests = _manifests(platform.home)
    _spare_listed(doomed, manifests)
    for batch in _batches(list(doomed)):
        with contents.only(platform.home), platform.database.read() as connection:
            last = {digest: doomed[digest] for digest in set(batch) - garbage.named_blobs(connection, batch)}
            _spare_listed(last, _manifests(platform.home) - manifests)
            for path in last.values():
                status = path.stat()
                if _is_older(status, before):
                    path.unlink()
                    found.bytes += status.st_size
                    found.blobs += 1


def _manifests(home: Path) -> set[tuple[Path, float]]:
    """Each, with when it was used last."""
    return {(path, path.stat().st_mtime) for path in layout.manifest(home, "0").parent.glob("*.json")}


def _spare_listed(doomed: dict[str, Path], manifests: set[tuple[Path, float]]) -> None:
    """Takes out what one of the manifests lists."""
    for path, _ in manifests:
        if not doomed:
            return
        for entry in Manifest.from_json(path.read_bytes()).files:
            doomed.pop(entry.sha256, None)


def _logs(platform: Platform, before: float, found: Collected) -> None:
    folder = layout.segments(platform.home, "0").parent
    old = {path.name: path for path in _older(folder, before)}
    for batch in _batches(list(old)):
        with platform.database.read() as connection:
            known = garbage.known_runs(connection, batch)
        for run in set(batch) - known:
            shutil.rmtree(old[run])
            found.logs += 1


def _older(folder: Path, before: float) -> Iterator[Path]:
    """What lies in the folder and neither changed nor came there since that time."""
    if folder.is_dir():
        with os.scandir(folder) as entries:
            for entry in entries:
                if _is_older(entry.stat(follow_symlinks=False), before):
                    yield Path(entry.path)


def _is_older(status: os.stat_result, before: float) -> bool:
    """By both times: a file that was moved in may say any time of itself."""
    return max(status.st_mtime, status.st_ctime) < before


def _batches(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), _BATCH):
        yield names[start : start + _BATCH]
