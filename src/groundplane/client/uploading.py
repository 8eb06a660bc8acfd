"""A project folder on its way to a control plane that does not see it: a tar of what belongs to a run."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator

from groundplane.folders import walk
from groundplane.model.errors import Invalid

_CHUNK = 1 << 20
_BLOCK = 512


def packed(folder: str) -> Iterator[bytes]:
    """The pieces of the tar (PAX). Raises Invalid for what cannot be part of a run, and for a file that changes."""
    found = walk(os.path.realpath(folder))
    for name in found.folders:
        yield _head(name, tarfile.DIRTYPE)
    for name, status in found.files:
        yield from _file(f"{found.root}/{name}", name, status.st_size, executable=bool(status.st_mode & 0o100))
    for name, target in found.links:
        yield _head(name, tarfile.SYMTYPE, link=target)
    yield b"\0" * (2 * _BLOCK)


def _file(path: str, name: str, size: int, *, executable: bool) -> Iterator[bytes]:
    yield _head(name, tarfile.REGTYPE, size=size, mode=0o755 if executable else 0o644)
    left = size
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - thousands of files: no Path objects
            while left and (piece := file.read(min(_CHUNK, left))):
                left -= len(piece)
                yield piece
    except OSError as error:
        raise Invalid(f"{name!r} cannot be read: {error.strerror}", hint="make it readable (chmod u+r)") from None
    if left:
        raise Invalid(f"{name!r} became shorter while it was read", hint="wait until it has been written")
    yield b"\0" * (-size % _BLOCK)


def _head(name: str, kind: bytes, *, size: int = 0, mode: int = 0o755, link: str = "") -> bytes:
    entry = tarfile.TarInfo(name)
    entry.type, entry.size, entry.mode, entry.linkname = kind, size, mode, link
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
