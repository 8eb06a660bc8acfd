"""The manifest of a snapshot: every file of a project folder by content. Written by services, read by the agent."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

IN_PLACE_SIZE = 64 * 1024 * 1024
"""Files larger than this many bytes are not copied into the store: they are used where they are."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file. `sha256` names its blob; "" for one in place: `source` is its absolute path and the rest its stat."""

    path: str
    size: int
    executable: bool = False
    sha256: str = ""
    source: str = ""
    mtime_ns: int = 0
    ctime_ns: int = 0
    inode: int = 0


@dataclass(frozen=True, slots=True)
class Manifest:
    """Sorted by path. links: (path, target as written), none leaving the project. folders: the empty ones."""

    files: tuple[Entry, ...]
    links: tuple[tuple[str, str], ...] = ()
    folders: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """Canonical bytes; their sha256 is the snapshot's digest."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    @staticmethod
    def from_json(data: bytes) -> Manifest:
        """The inverse of `to_json`."""
        body = json.loads(data)
        return Manifest(
            files=tuple(Entry(**entry) for entry in body["files"]),
            links=tuple((path, target) for path, target in body["links"]),
            folders=tuple(body["folders"]),
        )


def digest_of(data: bytes) -> str:
    """The name of the snapshot whose manifest has these bytes."""
    return hashlib.sha256(data).hexdigest()
