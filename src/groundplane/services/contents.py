"""File contents on their way into the store: each byte that is named by a digest was hashed as it was written."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from groundplane.model.errors import Invalid, Unavailable
from groundplane.spi import layout
from groundplane.spi.snapshots import IN_PLACE_SIZE

_IN_MEMORY: Final = 4 * 1024 * 1024
_CHUNK: Final = 1024 * 1024
_TRIES: Final = 5
_WAIT: Final = 0.02  # seconds before a file that changed while it was read is read again
_FEW: Final = 8  # files up to which each is synced by itself


@dataclass(frozen=True, slots=True)
class Content:
    """A file as it was read: its stat at that time, and its digest; "" when it is too large for the store."""

    status: os.stat_result
    sha256: str


class Store:
    """Brings contents into `home`'s blob store. What was taken in and not committed when it closes is thrown away.

    Every method that writes raises Unavailable when the store takes no bytes.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._incoming = os.fspath(layout.incoming(home))
        self._root = os.fspath(layout.blob(home, "00").parent.parent)
        self._queued: dict[str, str] = {}  # path -> temporary file
        self._serial = 0

    def has(self, sha256: str) -> bool:
        """Whether the blob is there, or will be after `commit`."""
        path = self._path(sha256)
        return path in self._queued or os.access(path, os.F_OK)

    def queued(self) -> tuple[str, ...]:
        """The digests of the blobs that `commit` will add."""
        return tuple(path.rpartition("/")[2] for path in self._queued if path.startswith(self._root + "/"))

    def take_in(self, path: str, name: str, *, whole: bool = False) -> Content | None:
        """Reads a regular file and queues its content; None when it is gone, or no regular file any more.

        whole: also one that is too large to be read for every run.

        Raises Invalid when it keeps changing while it is read, OSError when it cannot be read.
        """
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_WAIT)
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError):
                return None
            except OSError as error:
                if error.errno == errno.ELOOP:
                    return None  # a link by now
                raise
            try:
                before = os.fstat(descriptor)
                if not stat.S_ISREG(before.st_mode):
                    return None
                if before.st_size > IN_PLACE_SIZE and not whole:
                    return Content(before, "")
                content = self._read(descriptor, before)
            finally:
                os.close(descriptor)
            if content is not None:
                return content
        raise Invalid(
            f"{name!r} changes while it is read",
            hint="wait until it has been written, or name it in .groundignore",
            code="input_changes",
        )

    def put(self, path: str, data: bytes) -> None:
        """Queues a file for any path on the store's file system."""
        with self._writing() as (temporary, descriptor):
            self._write(descriptor, data)
        self._queued[path] = temporary

    def commit(self) -> None:
        """All that is queued lies at its path, of mode 0444 and durable.

        Few files are synced one by one, many by one call for the whole file system.
        """
        if not self._queued:
            return
        few = len(self._queued) <= _FEW
        folders: set[str] = set()
        with self._telling():
            for temporary in self._queued.values():
                os.chmod(temporary, 0o444)  # noqa: PTH101
            for path in self._queued.values() if few else ():
                _sync(path)
            if not few:
                _sync_all(self._incoming)
            for path, temporary in self._queued.items():
                folder = path.rpartition("/")[0]
                if folder not in folders:
                    folders.update(_make(folder))
                os.rename(temporary, path)  # noqa: PTH104
            for folder in folders if few else ():
                _sync(folder)
            if not few:
                _sync_all(self._incoming)
        self._queued.clear()

    def close(self) -> None:
        """Deletes the temporary files that were not committed."""
        for temporary in self._queued.values():
            Path(temporary).unlink(missing_ok=True)
        self._queued.clear()

    def _path(self, sha256: str) -> str:
        return f"{self._root}/{sha256[:2]}/{sha256}"

    def _read(self, descriptor: int, before: os.stat_result) -> Content | None:
        """Hashes and queues what is read, so that a blob has the bytes of its name; None when the file changed."""
        digest, size, small = hashlib.sha256(), before.st_size, before.st_size <= _IN_MEMORY
        if small:
            data = _all(descriptor, size + 1)
            digest.update(data)
            if len(data) != size or not same(before, os.fstat(descriptor)):
                return None
            sha256 = digest.hexdigest()
            if not self.has(sha256):
                self.put(self._path(sha256), data)
            return Content(before, sha256)
        total = 0
        with self._writing() as (temporary, target):
            while total <= size and (part := os.read(descriptor, _CHUNK)):
                digest.update(part)
                self._write(target, part)
                total += len(part)
        sha256 = digest.hexdigest()
        changed = total != size or not same(before, os.fstat(descriptor))
        if changed or self.has(sha256):
            Path(temporary).unlink()
        else:
            self._queued[self._path(sha256)] = temporary
        return None if changed else Content(before, sha256)

    @contextmanager
    def _writing(self) -> Generator[tuple[str, int]]:
        """A new temporary file and its descriptor; deleted again when the block raises."""
        self._serial += 1
        temporary = f"{self._incoming}/snapshot-{os.getpid()}-{time.monotonic_ns():x}-{id(self):x}-{self._serial}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with self._telling():
            try:
                descriptor = os.open(temporary, flags, 0o600)
            except FileNotFoundError:
                Path(self._incoming).mkdir(parents=True, exist_ok=True)
                descriptor = os.open(temporary, flags, 0o600)
        try:
            yield temporary, descriptor
        except BaseException:
            Path(temporary).unlink()
            raise
        finally:
            os.close(descriptor)

    def _write(self, descriptor: int, data: bytes) -> None:
        view = memoryview(data)
        with self._telling():
            while view:
                view = view[os.write(descriptor, view) :]

    @contextmanager
    def _telling(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise cannot_write(error, self._home) from error


@contextmanager
def shared(home: Path) -> Generator[None]:
    """While it lasts, no blob is deleted: what is found in the store may be relied on."""
    with _locked(home, fcntl.LOCK_SH):
        yield


@contextmanager
def only(home: Path) -> Generator[None]:
    """While it lasts, nobody relies on what is found in the store."""
    with _locked(home, fcntl.LOCK_EX):
        yield


@contextmanager
def _locked(home: Path, kind: int) -> Generator[None]:
    path = layout.incoming(home).parent / "lock"
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        try:
            handle = os.open(path, flags, 0o600)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, flags, 0o600)
    except OSError as error:
        raise cannot_write(error, home) from error
    try:
        fcntl.flock(handle, kind)
        yield
    finally:
        os.close(handle)


def same(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether a file is unchanged as far as its stat tells."""
    return (one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino) == (
        other.st_size,
        other.st_mtime_ns,
        other.st_ctime_ns,
        other.st_ino,
    )


def cannot_write(error: OSError, home: Path) -> Unavailable:
    """The error for a store that takes no bytes: a full disk, a quota, a read-only file system."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return Unavailable(
        f"no space left under {home}" if full else f"cannot write under {home}: {error.strerror}",
        hint="free some space there, or set GROUND_HOME to a folder with more" if full else "check that it is writable",
        code="no_space" if full else "store_failed",
    )


def _all(descriptor: int, size: int) -> bytes:
    """What there is to read, at most `size` bytes."""
    parts: list[bytes] = []
    while size and (part := os.read(descriptor, size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _make(folder: str) -> set[str]:
    """Makes a folder; it and those whose listing has changed, for their names are durable once these are synced."""
    found = {folder}
    missing = folder
    while not os.path.isdir(missing):  # noqa: PTH112
        missing = missing.rpartition("/")[0]
        found.add(missing)
    if missing != folder:
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
    return found


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_all(path: str) -> None:
    """Everything on the file system of `path`: one wait for thousands of files."""
    import ctypes

    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(descriptor)
