"""Snapshots as the agent needs them: parsed once, small ones with their content."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path, PurePosixPath

from groundplane.spi import layout
from groundplane.spi.snapshots import Entry, Manifest

SMALL_FILES = 32
SMALL_BYTES = 1024 * 1024
_KEPT = 16


class Snapshot:
    """A manifest and what follows from it. contents: of a small one, by path; else None."""

    def __init__(self, home: Path, digest: str, manifest: Manifest) -> None:
        self.digest = digest
        self.manifest = manifest
        self.size = sum(entry.size for entry in manifest.files)
        self.in_place = tuple(entry for entry in manifest.files if entry.source)
        self.targets = dict(manifest.links)
        self.links = frozenset(self.targets)
        names = [entry.path for entry in manifest.files] + [path for path, _ in manifest.links]
        parents = {str(parent) for name in names for parent in PurePosixPath(name).parents}
        parents.update(str(p) for folder in manifest.folders for p in (folder, *PurePosixPath(folder).parents))
        self.folder_set = frozenset(parents - {"."})
        self.folders = sorted(self.folder_set)
        self.contents: dict[str, bytes] | None = None
        if len(manifest.files) <= SMALL_FILES and self.size <= SMALL_BYTES:
            self.contents = {entry.path: content(home, entry).read_bytes() for entry in manifest.files}


def content(home: Path, entry: Entry) -> Path:
    """Where an entry's bytes are."""
    return Path(entry.source) if entry.source else layout.blob(home, entry.sha256)


class Snapshots:
    """The snapshots used last. From any thread."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._known: OrderedDict[str, Snapshot] = OrderedDict()

    def known(self, digest: str) -> Snapshot | None:
        """Without reading anything."""
        return self._known.get(digest)

    def is_quick(self, digest: str) -> bool:
        """Whether reading it takes no longer than the loop may stand still."""
        try:
            return os.stat(layout.manifest(self._home, digest)).st_size < 16 * 1024
        except OSError:
            return True

    def load(self, digest: str) -> Snapshot:
        """Raises OSError naming the file that is missing. "" is the empty snapshot."""
        found = self._known.get(digest)
        if found is None:
            data = layout.manifest(self._home, digest).read_bytes() if digest else b""
            found = Snapshot(self._home, digest, Manifest.from_json(data) if data else Manifest(()))
            self._known[digest] = found
            while len(self._known) > _KEPT:
                try:
                    self._known.popitem(last=False)
                except KeyError:
                    break
        return found
