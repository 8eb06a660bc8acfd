"""The attempts' folders: deleted when they are cleaned up, or when a new agent finds them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from groundplane.agent import linux
from groundplane.spi import layout

TEMPORARY = "tmp"


class Places:
    """`spi.layout`'s paths of attempts as text: what costs nothing a thousand times a second."""

    def __init__(self, home: Path) -> None:
        probe = str(layout.attempt(home, "x"))
        self._work = probe[:-1]
        self._tree = str(layout.tree(home, "x"))[len(probe) :]
        self._support = str(layout.support(home, "x"))[len(probe) :]

    def attempt(self, name: str) -> str:
        return self._work + name

    def tree(self, name: str) -> str:
        return self._work + name + self._tree

    def support(self, name: str) -> str:
        return self._work + name + self._support

    def temporary(self, name: str) -> str:
        """The work's TMPDIR."""
        return f"{self._work}{name}{self._support}/{TEMPORARY}"


def remove_attempt(places: Places, attempt: str) -> None:
    """Unmounts and deletes an attempt's folder; nothing happens when there is none."""
    folder = places.attempt(attempt)
    if os.path.isdir(f"{folder}/upper"):
        try:
            linux.unmount(places.tree(attempt))
        except OSError:
            pass  # it was not mounted
    delete_tree(folder)


def delete_tree(folder: str) -> None:
    """Deletes a folder with all that is in it, also what was made read-only. Raises OSError."""
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    except PermissionError:
        os.chmod(folder, 0o700)
        entries = list(os.scandir(folder))
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            delete_tree(entry.path)
        else:
            try:
                os.unlink(entry.path)
            except PermissionError:
                os.chmod(folder, 0o700)
                os.unlink(entry.path)
            except FileNotFoundError:
                continue
    try:
        os.rmdir(folder)
    except PermissionError:
        os.chmod(os.path.dirname(folder), 0o700)
        os.rmdir(folder)


def unmount_all(home: Path) -> None:
    """Unmounts every working copy: what counts has been collected from them."""
    for point in linux.mounts_below(str(layout.attempt(home, "x").parent)):
        try:
            linux.unmount(point)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT):  # a thread that deletes them was faster
                raise


def set_aside(home: Path, keep: frozenset[str]) -> list[str]:
    """Unmounts what a former agent left below `work` and renames it, so that its names are free; the renamed
    folders are returned, to be deleted at leisure. `keep`: attempts that run on."""
    work = layout.attempt(home, "x").parent
    if not work.is_dir():
        return []
    kept = {str(work.resolve() / name) for name in keep}
    for point in linux.mounts_below(str(work)):
        if not any(point.startswith(folder + "/") for folder in kept):
            linux.unmount(point)
    aside: list[str] = []
    for folder in work.iterdir():
        if folder.name in keep:
            continue
        target = folder
        if not folder.name.startswith(".old-"):
            target = work / f".old-{os.urandom(6).hex()}"
            folder.rename(target)
        aside.append(str(target))
    return aside
