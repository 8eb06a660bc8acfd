"""A project folder as one read-only snapshot, named by its content (DESIGN §5, snapshot and working copy)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from groundplane.folders import IGNORE_FILE, Folder, unreadable, walk
from groundplane.model.errors import Invalid
from groundplane.model.quantities import format_size
from groundplane.services.contents import Store, shared
from groundplane.spi import layout
from groundplane.spi.snapshots import IN_PLACE_SIZE, Entry, Manifest, digest_of

#: A kernel's file times lag behind its clock by a tick; some file systems keep whole seconds, or two of them.
_TICK_NS: Final = 20_000_000
_COARSE_NS: Final = 2_000_000_000
COPY_LIMIT: Final = 2 * 1024**3
"""Bytes up to which a working copy is made by copying where a backend has no overlay."""


class Known(NamedTuple):
    """A file's digest and the stat with which it was read; `written_ns` is the wall clock before that."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    sha256: str
    written_ns: int


class StatCache(Protocol):
    """What is known of files by their absolute path. It may forget at any time."""

    def get_many(self, paths: Sequence[str]) -> Mapping[str, tuple[int, int, int, int, str, int]]:
        """What is known of those paths, with the fields of `Known`; paths are valid UTF-8."""
        ...

    def put_many(self, rows: Sequence[tuple[str, Known]]) -> None: ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """digest: of the manifest, which lies at layout.manifest. ignored: names that stayed behind, folders with `/`.

    total_bytes: of all files, those in place included.
    """

    digest: str
    manifest: Manifest
    ignored: tuple[str, ...]
    total_bytes: int

    def names(self) -> frozenset[str]:
        """What `spec.resolve` takes: files, also those behind links, and empty folders with `/` at their end."""
        found = set(self.manifest.reachable())
        found.update(f"{path}/" for path in self.manifest.folders)
        return frozenset(found)


def take(
    home: Path,
    folder: Path,
    cache: StatCache,
    pin: Callable[[Sequence[str]], None] | None = None,
    *,
    whole: bool = False,
) -> Snapshot:
    """The snapshot of `folder` as it is now; its contents and its manifest are durable under `home`.

    whole: its large files too; otherwise they are used where they lie.
    pin: called with the digests that are about to be written, before they are. A file that a script writes at the
    same moment is read again; one that never rests is refused. Raises Invalid that names what cannot be part of a
    snapshot, and Unavailable when the store takes no bytes.
    """
    root, own = os.path.realpath(folder), os.path.realpath(home)
    if root == own:
        raise Invalid(f"{str(folder)!r} is GROUND_HOME itself", hint="run in the folder of a project")
    found = walk(root, own)
    store = Store(home)
    try:
        with shared(home):
            return _take(home, found, store, cache, pin, whole=whole)
    finally:
        store.close()


def check_copyable(snapshot: Snapshot, overlay: bool) -> None:
    """Raises Invalid that names the largest files when every task would copy more than COPY_LIMIT bytes."""
    if overlay or snapshot.total_bytes <= COPY_LIMIT:
        return
    largest = sorted(snapshot.manifest.files, key=lambda entry: entry.size, reverse=True)[:5]
    told = ", ".join(f"{entry.path!r} ({format_size(entry.size)})" for entry in largest)
    raise Invalid(
        f"the project has {format_size(snapshot.total_bytes)}, and without an overlay each task would copy it; "
        f"the largest: {told}",
        hint=f"name what the work does not need in {IGNORE_FILE}, or keep it outside of the project",
        code="project_too_large",
    )


def _take(
    home: Path,
    found: Folder,
    store: Store,
    cache: StatCache,
    pin: Callable[[Sequence[str]], None] | None,
    *,
    whole: bool,
) -> Snapshot:
    known = _cached(found, cache)
    prefix = found.root + "/"
    entries: list[Entry] = []
    learned: list[tuple[str, Known]] = []
    refused: list[str] = []
    for name, status in found.files:
        path = prefix + name
        sha256 = _trusted(known.get(path), status)
        # The blob may be gone although the cache knows the file: garbage is collected without asking the cache.
        if not sha256 or not store.has(sha256):
            before = time.time_ns()
            try:
                content = store.take_in(path, name, whole=whole)
            except OSError:
                refused.append(name)
                continue
            if content is None:
                continue
            status, sha256 = content.status, content.sha256
            if sha256:
                learned.append((path, _known(status, sha256, before)))
        entries.append(
            Entry(name, status.st_size, bool(status.st_mode & 0o100), sha256)
            if sha256
            else _in_place(name, path, status)
        )
    if refused:
        raise unreadable(refused)
    manifest = Manifest(tuple(entries), tuple(found.links), tuple(found.folders))
    body = manifest.to_json()
    digest = digest_of(body)
    if pin is not None and (blobs := store.queued()):
        pin(blobs)
    listing = os.fspath(layout.manifest(home, digest))
    try:
        os.utime(listing)  # it is in use: its age, by which garbage is told, begins again
    except FileNotFoundError:
        store.put(listing, body)
    store.commit()
    if learned:
        cache.put_many([row for row in learned if _utf8(row[0])])
    return Snapshot(digest, manifest, tuple(found.ignored), sum(entry.size for entry in entries))


def _cached(found: Folder, cache: StatCache) -> Mapping[str, tuple[int, int, int, int, str, int]]:
    prefix = found.root + "/"
    paths = [prefix + name for name, status in found.files if status.st_size <= IN_PLACE_SIZE]
    if not _utf8("".join(paths)):
        paths = [path for path in paths if _utf8(path)]
    return cache.get_many(paths) if paths else {}


def _utf8(text: str) -> bool:
    """Names that are no UTF-8 are not cached, for a database takes none: such a file is read each time."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _trusted(known: tuple[int, int, int, int, str, int] | None, status: os.stat_result) -> str:
    """The digest of a file that is unchanged since it was read; "" when that is not sure.

    git's racy rule: a file whose time is not older than its reading may have been changed within the same tick.
    """
    if known is None:
        return ""
    size, mtime, ctime, inode, sha256, written = known
    if (size, mtime, ctime, inode) != (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino):
        return ""
    newest = mtime if mtime > ctime else ctime
    return sha256 if newest < written - (_TICK_NS if newest % 1_000_000_000 else _COARSE_NS) else ""


def _known(status: os.stat_result, sha256: str, written_ns: int) -> Known:
    return Known(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, sha256, written_ns)


def _in_place(name: str, path: str, status: os.stat_result) -> Entry:
    return Entry(
        path=name,
        size=status.st_size,
        executable=bool(status.st_mode & 0o100),
        source=path,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
        inode=status.st_ino,
    )
