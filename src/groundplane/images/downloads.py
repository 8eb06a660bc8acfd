"""Files by content: from what is here, from a pool, from a mirror."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from itertools import repeat
from pathlib import Path
from typing import Any

from groundplane.images.disk import told_when_full
from groundplane.model.errors import Unavailable
from groundplane.spi.images import Progress

_CHUNK = 1 << 20
_SECONDS = 60
_TRIES = 3
_AT_ONCE = 4


class Gone(Unavailable):
    """No address has the file any more."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file of a lock. size: 0 when it is unknown. urls: of this site's own mirrors and indices, best first. named:
    such as only a lock names, which anybody may have written; they are asked last."""

    name: str
    sha256: str
    size: int
    urls: tuple[str, ...]
    named: tuple[str, ...] = ()


class Downloads:
    """Kept under their sha256. A file counts when it is whole and was found to be what its name says."""

    def __init__(self, folder: Path, outside: Callable[[str], Any] | None = None) -> None:
        """outside: opens the addresses that a stranger's lock names, as `urlopen` does; None for the owner's, for whom
        all addresses are the same."""
        self._folder = folder
        self._outside = outside

    @property
    def stranger(self) -> bool:
        """Whether they are for somebody whose host this is not."""
        return self._outside is not None

    def apart(self, name: str) -> Downloads:
        """Those of a folder of their own: nothing that lies elsewhere is among them."""
        return Downloads(self._folder / name, self._outside)

    def opened(self, url: str, *, named: bool) -> Any:
        """The answer of an address; named: see `Wanted`. Raises OSError, HTTPException and ValueError."""
        if named and self._outside is not None:
            return self._outside(url)
        return urllib.request.urlopen(url, timeout=_SECONDS)  # noqa: S310 - this site's own, or its owner's lock

    def get_all(self, wanted: Sequence[Wanted], pool: Path | None, progress: Progress) -> list[Path]:
        """The files, some at a time. With a pool no address is asked. Raises Gone (`package_gone`) and Unavailable that
        name the file."""
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            return list(threads.map(self._get, wanted, repeat(pool), repeat(progress)))

    def _get(self, wanted: Wanted, pool: Path | None, progress: Progress) -> Path:
        sha256 = wanted.sha256
        if self.has(sha256, wanted.size):
            return self.path(sha256)
        if pool is not None:
            found = in_pool(pool, sha256)
            if found is None:
                raise Unavailable(
                    f"the pool {pool} lacks {wanted.name}",
                    hint=f"where there is a network: ground env pool -o {pool}",
                    code="pool_incomplete",
                )
            if _digest(found) != sha256:
                raise Unavailable(f"{found} is damaged", hint="copy the pool again", code="pool_incomplete")
            return found
        return self._first(wanted.name, wanted.urls, wanted.named, sha256, progress)[0]

    def has(self, sha256: str, size: int) -> bool:
        """Whether the file is here already."""
        kept = self.path(sha256)
        return kept.is_file() and size in (0, kept.stat().st_size)

    def path(self, sha256: str) -> Path:
        """Where the file of that content is kept, once it is here."""
        return self._folder / sha256

    def discover(self, *, name: str, urls: Sequence[str], named: Sequence[str], progress: Progress) -> tuple[Path, str]:
        """A file whose content nobody has noted yet: where it is kept, and the address that gave it. urls, named: as of
        `Wanted`."""
        return self._first(name, urls, named, "", progress)

    def _first(
        self, name: str, urls: Iterable[str], named: Iterable[str], sha256: str, progress: Progress
    ) -> tuple[Path, str]:
        """From the first address that gives it; with sha256 "" whatever it gives is right."""
        progress(f"fetching {name}")
        self._folder.mkdir(parents=True, exist_ok=True)
        failures: list[str] = []
        for url, by_lock in [*((url, False) for url in urls), *((url, True) for url in named)]:
            for _ in range(_TRIES):
                try:
                    return self._fetch(url, sha256, named=by_lock), url
                except _NotThere:
                    failures.append(f"{_plain(url)} does not have it")
                    break
                except _Unreadable as error:
                    failures.append(f"{_plain(url)}: {error}")
        said = "; ".join(dict.fromkeys(failures)) or "no address of it is known"
        if all("does not have it" in each for each in failures):
            raise Gone(f"{name} is gone: {said}", hint=_POOLED, code="package_gone")
        raise Unavailable(f"{name} cannot be fetched: {said}", hint="is the network up? " + _POOLED, code="unreachable")

    def _fetch(self, url: str, sha256: str, *, named: bool) -> Path:
        digest = hashlib.sha256()
        handle, fresh = tempfile.mkstemp(dir=self._folder)
        try:
            with os.fdopen(handle, "wb") as target:
                try:
                    with self.opened(url, named=named) as source:
                        while block := source.read(_CHUNK):
                            digest.update(block)
                            with told_when_full(self._folder):
                                target.write(block)
                except urllib.error.HTTPError as error:
                    raise (_NotThere() if error.code in (404, 410) else _Unreadable(f"{error.code}")) from error
                except urllib.error.URLError as error:
                    gone = isinstance(error.reason, FileNotFoundError) or "No such file" in str(error.reason)
                    raise (_NotThere() if gone else _Unreadable(str(error.reason))) from error
                except (HTTPException, OSError, ValueError) as error:
                    raise _Unreadable(str(error) or type(error).__name__) from error
                target.flush()
                os.fchmod(target.fileno(), 0o644)  # its folder is private; scripts of a build read it as another user
                os.fsync(target.fileno())
            if sha256 not in ("", digest.hexdigest()):
                raise _Unreadable(f"it is not what the lock names (sha256 {digest.hexdigest()[:16]}…)")
            kept = self.path(digest.hexdigest())
            Path(fresh).replace(kept)
        finally:
            Path(fresh).unlink(missing_ok=True)
        return kept

    def clear(self) -> int:
        """Deletes all of them; the bytes freed."""
        freed = 0
        for path in self._folder.rglob("*"):
            if path.is_dir():
                continue
            freed += path.stat().st_size
            path.unlink(missing_ok=True)
        return freed


_POOLED = "a folder made by `ground env pool -o DIR` keeps every file: ground env build --offline DIR"


def put_into_pool(path: Path, folder: Path, name: str, sha256: str) -> None:
    """Copies the file there, unless it is there."""
    if in_pool(folder, sha256) is not None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{sha256}-{name}"
    fresh = target.with_name(f".{target.name}.new")
    try:
        with told_when_full(folder):
            shutil.copyfile(path, fresh)
            fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)


def in_pool(folder: Path, sha256: str) -> Path | None:
    """The pool's file of that content."""
    return next(folder.glob(f"{sha256}-*"), None)


class _NotThere(Exception):
    """The address says that there is no such file."""


class _Unreadable(Exception):
    """The address gave something else, or nothing."""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(url: str) -> str:
    """Without a password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if "@" in rest.partition("/")[0] else url
