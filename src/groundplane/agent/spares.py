"""Folders of ended attempts that the work left as they were, for the next attempt on the same snapshot.

Making and deleting an attempt's folders and files costs more than starting its process; a rename costs a tenth.
Only a copy of which every file is proved to be untouched (size, mtime, inode, ctime) is used again.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

from groundplane.agent.attempts import Attempt
from groundplane.agent.places import TEMPORARY, Places
from groundplane.agent.snapshots import Snapshot
from groundplane.agent.staging import Signature, signature

_KEPT = 16
_EXTRA = 32


@dataclass(frozen=True, slots=True)
class _Spare:
    name: str
    placed: dict[str, Signature]


class Spares:
    """On the loop's thread only. A spare still has the name of its former attempt.

    discard: called with the name of a spare whose place another snapshot's takes.
    """

    def __init__(self, places: Places, discard: Callable[[str], None]) -> None:
        self._places = places
        self._discard = discard
        self._by_snapshot: dict[str, list[_Spare]] = {}  # the snapshot that was needed last stands last
        self._names: set[str] = set()
        self._moved: set[str] = set()

    def take(self, digest: str, attempt: str) -> dict[str, Signature] | None:
        """Gives the attempt a spare's folders; what lies in them, or None when there is no spare."""
        spares = self._by_snapshot.get(digest)
        if not spares:
            return None
        spare = spares.pop()
        if not spares:
            del self._by_snapshot[digest]
        self._names.discard(spare.name)
        self._moved.add(spare.name)
        try:
            os.rename(self._places.attempt(spare.name), self._places.attempt(attempt))
        except FileNotFoundError:
            return None  # somebody has tidied up
        return spare.placed

    def is_there(self, attempt: str) -> bool:
        """Whether an ended attempt still has folders of its own; asked once, at its cleanup."""
        if attempt in self._moved:
            self._moved.discard(attempt)
            return False
        return attempt not in self._names

    def offer(self, attempt: Attempt, snapshot: Snapshot) -> None:
        """Keeps an ended attempt's folders when they are as the next one needs them."""
        staged = attempt.staged
        if staged is None or staged.mode != "copy" or snapshot.contents is None:
            return
        if attempt.launch.proxy or attempt.launch.confined or attempt.launch.private:
            return  # what a container, a stranger's work or a secret was in is nobody else's
        spares = self._by_snapshot.pop(snapshot.digest, [])
        if spares:
            self._by_snapshot[snapshot.digest] = spares
        if len(self._names) >= _KEPT and not self._make_room(snapshot.digest):
            return
        try:
            placed = self._restored(attempt, snapshot, staged.placed)
        except OSError:
            return  # the work has changed something that we may not; cleanup deletes it
        if placed is not None:
            self._by_snapshot.setdefault(snapshot.digest, []).append(_Spare(attempt.name, placed))
            self._names.add(attempt.name)

    def _make_room(self, digest: str) -> bool:
        """Lets go of a spare of the snapshot that was needed longest ago, if that is another one."""
        oldest = next(iter(self._by_snapshot))
        if oldest == digest:
            return False
        spares = self._by_snapshot[oldest]
        spare = spares.pop()
        if not spares:
            del self._by_snapshot[oldest]
        self._names.discard(spare.name)
        self._discard(spare.name)
        return True

    def _restored(
        self, attempt: Attempt, snapshot: Snapshot, staged: dict[str, Signature]
    ) -> dict[str, Signature] | None:
        support, tree = self._places.support(attempt.name), self._places.tree(attempt.name)
        for entry in os.scandir(support):
            if entry.name != TEMPORARY:
                os.unlink(entry.path)
        temporary = self._places.temporary(attempt.name)
        if not _is_private(temporary) or os.listdir(temporary):
            return None
        wanted = {entry.path for entry in snapshot.manifest.files}
        inputs = attempt.inputs
        placed: dict[str, Signature] = {}
        extra: list[str] = []
        for folder in ("", *snapshot.folders):
            if not _is_private(f"{tree}/{folder}"):
                return None
            for entry in os.scandir(f"{tree}/{folder}" if folder else tree):
                name = f"{folder}/{entry.name}" if folder else entry.name
                if name in wanted:
                    found = signature(entry.stat(follow_symlinks=False))
                    if found != staged.get(name) or name in inputs:
                        return None
                    placed[name] = found
                elif name in snapshot.links:
                    if os.readlink(entry.path) != snapshot.targets[name]:
                        return None
                elif not entry.is_dir(follow_symlinks=False):
                    extra.append(entry.path)
                elif name not in snapshot.folder_set:
                    return None
        if len(placed) != len(wanted) or len(extra) > _EXTRA:
            return None
        for path in extra:
            os.unlink(path)
        return placed


def _is_private(folder: str) -> bool:
    status = os.lstat(folder)
    return stat.S_ISDIR(status.st_mode) and status.st_mode & 0o700 == 0o700 and status.st_uid == os.geteuid()
