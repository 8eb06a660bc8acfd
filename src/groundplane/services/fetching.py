"""URLs and queries that tasks read: fetched once a run, kept by content."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
import time
from pathlib import Path
from typing import BinaryIO

from groundplane.model.reasons import Fault, Reason
from groundplane.model.states import FINAL
from groundplane.services import claims, downloads, plans, querying, staging
from groundplane.services.platform import Platform, now
from groundplane.services.spec import fanout
from groundplane.services.spec.sources import is_query
from groundplane.spi import layout
from groundplane.store import caches, runs, tasks

_TRIES = 3
_PAUSE = 0.2


def fetch(platform: Platform, task_id: int, run_id: int, url: str) -> None:
    """Brings what the URL or query gives into the store; the task may then be claimed, or fails with the reason."""
    reason: Reason | None = None
    with platform.database.read() as connection:
        known = url in caches.fetched(connection, run_id)
        run = runs.by_key(connection, run_id)
    if not known:
        try:
            if is_query(url):
                sha256, size = querying.ask(platform, run.project, url, lambda: _is_open(platform, run_id))
            else:
                sha256, size = _download(platform.home, url, stranger=bool(run.confined))
        except querying.NotAsked as failed:
            reason = failed.reason
        except downloads.Unreadable as error:
            reason = Reason("missing_input", f"{url} cannot be fetched: {error}", "check the address and the network")
        except OSError as error:  # of this side: the store
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            reason = Reason(
                "no_space" if full else "store_failed",
                f"{url} could not be kept: {error.strerror or error}",
                "make space on the disk that holds GROUND_HOME" if full else "look at the disk that holds GROUND_HOME",
                Fault.PLATFORM,
            )
        else:
            with platform.database.write() as connection:
                caches.pin(connection, [sha256], now())
                caches.put_fetched(connection, run_id, url, sha256, size)
    with platform.database.write() as connection:
        if reason is not None:
            changed = claims.fetch_failed(platform, connection, task_id, run_id, reason)
        else:
            claims.fetch_done(connection, task_id)
            changed = set[str]()
    platform.notifier.notify(*changed)


def _is_open(platform: Platform, run_id: int) -> bool:
    with platform.database.read() as connection:
        run = runs.by_key(connection, run_id)
    return not run.cancelled and run.state not in FINAL


def unfinished(platform: Platform, site: str) -> list[tuple[int, int, str]]:
    """(task, run, URL) of every task of the site that was waiting for one when a control plane ended."""
    found: list[tuple[int, int, str]] = []
    with platform.database.read() as connection:
        for row in tasks.with_ready(connection, 2, site):
            step = fanout.fill(plans.load(connection, row.plan).step(row.position), row.item or "")
            found += [(row.id, row.run_id, url) for url in staging.urls(step)]
    return found


def _download(home: Path, url: str, *, stranger: bool) -> tuple[str, int]:
    """(sha256, bytes) of what the URL gave, after three tries. Raises Unreadable, and OSError for this side's disk."""
    folder = layout.incoming(home)
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder)
    try:
        with os.fdopen(handle, "wb") as target:
            digest, size = _read_into(target, url, stranger=stranger)
            target.flush()
            os.fsync(target.fileno())
        path = layout.blob(home, digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        Path(name).chmod(0o444)
        Path(name).rename(path)
    finally:
        Path(name).unlink(missing_ok=True)
    return digest, size


def _read_into(target: BinaryIO, url: str, *, stranger: bool) -> tuple[str, int]:
    for attempt in range(1, _TRIES + 1):
        target.seek(0)
        target.truncate()
        digest, size = hashlib.sha256(), 0
        try:
            for block in downloads.blocks(url, stranger=stranger):
                digest.update(block)
                size += len(block)
                target.write(block)
            return digest.hexdigest(), size
        except downloads.Unreadable:
            if attempt == _TRIES:
                raise
            time.sleep(_PAUSE * attempt)
    raise AssertionError
