"""The manifest of a snapshot: every file of a project folder by content. Written by services, read by the agent."""

from __future__ import annotations

import hashlib
import json
import posixpath
from dataclasses import dataclass

IN_PLACE_SIZE = 64 * 1024 * 1024
"""Files larger than this many bytes are not copied into the store: they are used where they are."""

_THROUGH_LINKS = 50_000


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
    """Sorted by path. links: (path, relative target), none leaving the project. folders: the empty ones."""

    files: tuple[Entry, ...]
    links: tuple[tuple[str, str], ...] = ()
    folders: tuple[str, ...] = ()

    def reachable(self) -> dict[str, Entry]:
        """Each name under which a file can be read, links to files and folders followed, and the file's entry.

        Through links to folders at most _THROUGH_LINKS names: a link to its own parent would have no end.
        """
        found = {entry.path: entry for entry in self.files}
        waiting = dict(self.links)
        for _ in self.links:  # a link may lead to another: each round settles at least one, or none is left to settle
            settled = {path: to for path, target in waiting.items() if (to := _leads(path, target)) in found}
            found.update((path, found[to]) for path, to in settled.items())
            waiting = {path: target for path, target in waiting.items() if path not in settled}
            if not settled:
                break
        room = _THROUGH_LINKS
        for path, target in waiting.items():
            folder = _leads(path, target) + "/"
            inside = [entry for entry in self.files if folder == "./" or entry.path.startswith(folder)][:room]
            room -= len(inside)
            for entry in inside:
                rest = entry.path if folder == "./" else entry.path[len(folder) :]
                found.setdefault(f"{path}/{rest}", entry)
        return found

    def to_json(self) -> bytes:
        """Canonical bytes; their sha256 is the snapshot's digest. File names that are no UTF-8 survive as their bytes.

        What an entry leaves at its default is not written.
        """
        body = {"files": [_plain(entry) for entry in self.files], "folders": self.folders, "links": self.links}
        text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
        return text.encode(errors="surrogateescape")

    @staticmethod
    def from_json(data: bytes) -> Manifest:
        """The inverse of `to_json`."""
        body = json.loads(data.decode(errors="surrogateescape"))
        return Manifest(
            files=tuple(Entry(**entry) for entry in body["files"]),
            links=tuple((path, target) for path, target in body.get("links", ())),
            folders=tuple(body.get("folders", ())),
        )


def _leads(path: str, target: str) -> str:
    """Where a link of the project leads within it."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), target))


def _plain(entry: Entry) -> dict[str, str | int]:
    """By hand, for a project may have ten thousand files: `asdict` takes eight times as long."""
    body: dict[str, str | int] = {"path": entry.path, "size": entry.size}
    if entry.executable:
        body["executable"] = True
    if entry.sha256:
        body["sha256"] = entry.sha256
    else:
        body |= {
            "source": entry.source,
            "mtime_ns": entry.mtime_ns,
            "ctime_ns": entry.ctime_ns,
            "inode": entry.inode,
        }
    return body


def digest_of(data: bytes) -> str:
    """The name of the snapshot whose manifest has these bytes."""
    return hashlib.sha256(data).hexdigest()
