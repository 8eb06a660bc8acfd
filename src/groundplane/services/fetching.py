"""URLs that tasks read: fetched once a run, kept by content."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO

from groundplane.model.reasons import Fault, Reason
from groundplane.services import claims, plans, staging
from groundplane.services.platform import Platform, now
from groundplane.services.spec import fanout
from groundplane.spi import layout
from groundplane.store import caches, tasks

_CHUNK = 1 << 20
_SECONDS = 60
_TRIES = 3
_PAUSE = 0.2


def fetch(platform: Platform, task_id: int, run_id: int, url: str) -> None:
    """Brings the URL's content into the store; the task may then be claimed, or fails with `missing_input`."""
    reason: Reason | None = None
    with platform.database.read() as connection:
        known = url in caches.fetched(connection, run_id)
    if not known:
        try:
            sha256, size = _download(platform.home, url)
        except _Unreadable as error:
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


def unfinished(platform: Platform, site: str) -> list[tuple[int, int, str]]:
    """(task, run, URL) of every task of the site that was waiting for one when a control plane ended."""
    found: list[tuple[int, int, str]] = []
    with platform.database.read() as connection:
        for row in tasks.with_ready(connection, 2, site):
            step = fanout.fill(plans.load(connection, row.plan).step(row.position), row.item or "")
            found += [(row.id, row.run_id, url) for url in staging.urls(step)]
    return found


class _Unreadable(Exception):
    """The URL gave no answer, an error, or less than it announced."""


def _download(home: Path, url: str) -> tuple[str, int]:
    """(sha256, bytes) of what the URL gave, after three tries. Raises _Unreadable, and OSError for this side's disk."""
    folder = layout.incoming(home)
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder)
    try:
        with os.fdopen(handle, "wb") as target:
            digest, size = _read_into(target, url)
            target.flush()
            os.fsync(target.fileno())
        path = layout.blob(home, digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        Path(name).chmod(0o444)
        Path(name).rename(path)
    finally:
        Path(name).unlink(missing_ok=True)
    return digest, size


def _read_into(target: BinaryIO, url: str) -> tuple[str, int]:
    for attempt in range(1, _TRIES + 1):
        target.seek(0)
        target.truncate()
        digest, size = hashlib.sha256(), 0
        try:
            for block in _blocks(url):
                digest.update(block)
                size += len(block)
                target.write(block)
            return digest.hexdigest(), size
        except _Unreadable:
            if attempt == _TRIES:
                raise
            time.sleep(_PAUSE * attempt)
    raise AssertionError


def _blocks(url: str) -> Iterator[bytes]:
    """The URL's content. Raises _Unreadable, also at an end that came too early."""
    request = urllib.request.Request(url, headers={"User-Agent": "groundplane"})  # noqa: S310  resolve() lets only http, https and file pass
    size = 0
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as source:  # noqa: S310
            announced = source.headers.get("Content-Length")
            while block := source.read(_CHUNK):
                size += len(block)
                yield block
    except urllib.error.HTTPError as error:
        raise _Unreadable(f"it answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _Unreadable(str(error.reason)) from error
    except (OSError, HTTPException, ValueError) as error:
        raise _Unreadable(str(error) or type(error).__name__) from error
    if announced is not None and announced.isdecimal() and int(announced) != size:
        raise _Unreadable(f"it announced {announced} bytes and broke off after {size}")
