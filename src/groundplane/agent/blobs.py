"""Puts files into the blob store: synced first, then renamed to the name that their content has."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from groundplane.spi import layout

_CHUNK = 1024 * 1024


class Intake:
    """The files of one attempt: `add` each, then `settle` once, so that their syncs are one after the other."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._incoming = str(layout.incoming(home))
        self._pending: dict[str, tuple[int, str]] = {}  # sha256 -> open file, where it lies now

    def add(self, path: str, movable: bool) -> tuple[str, int]:
        """sha256 and size of a file. `movable`: nobody else needs it where it is. Raises OSError."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            status = os.fstat(fd)
            movable = movable and status.st_nlink == 1
            if not movable:
                return self._copy(fd)
            digest, size = _hash(fd)
            if digest not in self._pending and not self._has(digest):
                self._pending[digest] = (os.dup(fd), path)
            return digest, size
        finally:
            os.close(fd)

    def settle(self) -> None:
        """All that was added is in the store, durably. Raises OSError."""
        try:
            for fd, _ in self._pending.values():
                if os.fstat(fd).st_uid != os.geteuid():  # written by the user that a container's work runs as
                    os.fchown(fd, os.geteuid(), os.getegid())
                os.fchmod(fd, 0o444)
                os.fsync(fd)
            for digest, (_, path) in self._pending.items():
                target = str(layout.blob(self._home, digest))
                try:
                    os.rename(path, target)
                except FileNotFoundError:
                    os.makedirs(os.path.dirname(target), exist_ok=True)
                    os.rename(path, target)
        finally:
            self.drop()

    def drop(self) -> None:
        """Forgets what was not settled."""
        for fd, path in self._pending.values():
            os.close(fd)
            if path.startswith(self._incoming):
                Path(path).unlink(missing_ok=True)
        self._pending.clear()

    def _has(self, digest: str) -> bool:
        """Whether the store has it already; it is then in use anew, and no garbage for a day."""
        try:
            os.utime(layout.blob(self._home, digest))
        except FileNotFoundError:
            return False
        return True

    def _copy(self, source: int) -> tuple[str, int]:
        """Hashes and copies in one pass."""
        temporary = f"{self._incoming}/{os.urandom(12).hex()}"
        try:
            fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            os.makedirs(self._incoming, exist_ok=True)
            fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        digest, size = hashlib.sha256(), 0
        try:
            while chunk := os.read(source, _CHUNK):
                digest.update(chunk)
                size += len(chunk)
                view = memoryview(chunk)
                while view:
                    view = view[os.write(fd, view) :]
        except OSError as error:
            os.close(fd)
            Path(temporary).unlink(missing_ok=True)
            error.filename = error.filename or temporary
            raise
        name = digest.hexdigest()
        if name in self._pending or self._has(name):
            os.close(fd)
            Path(temporary).unlink(missing_ok=True)
        else:
            self._pending[name] = (fd, temporary)
        return name, size


def _hash(fd: int) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while chunk := os.read(fd, _CHUNK):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size
