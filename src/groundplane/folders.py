"""A project folder as it lies there: what is in it, and what is never part of a run."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from groundplane.model import caches
from groundplane.model.errors import Invalid

IGNORE_FILE: Final = ".groundignore"

MOST_FILES: Final = 250_000
_TOLD = 10


@dataclass(slots=True)
class Folder:
    """Names are relative, with `/`; those of bytes that are no UTF-8 carry them by surrogateescape.

    files: name and lstat of each regular file. links: name and target, none leading out of the folder.
    folders: the empty ones. ignored: what stays behind, topmost names only, folders with `/`.
    """

    root: str
    files: list[tuple[str, os.stat_result]] = field(default_factory=list[tuple[str, os.stat_result]])
    links: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    folders: list[str] = field(default_factory=list[str])
    ignored: list[str] = field(default_factory=list[str])


def walk(root: str, skip: str = "") -> Folder:
    """Everything in `root` (a real, absolute path) that belongs to a run, sorted by name.

    skip: the one folder, by its real path, that is left out wherever it lies (GROUND_HOME).
    Raises Invalid that names unreadable folders, links that leave the project, and a folder with too many files.
    """
    found, broken = Folder(root), _Broken()
    ignore = _ignore(root)
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        try:
            with os.scandir(f"{root}/{prefix}") as listing:
                entries = list(listing)
        except OSError as error:
            if not prefix:
                raise Invalid(f"{root!r} cannot be read: {error.strerror}", hint="give the path of a folder") from None
            if not isinstance(error, FileNotFoundError):  # deleted since its parent was listed
                broken.unreadable.append(prefix)
            continue
        if prefix and caches.is_environment([entry.name for entry in entries]):
            found.ignored.append(prefix)
            continue
        if not _sort(found, broken, waiting, prefix, entries, skip, ignore) and prefix:
            found.folders.append(prefix[:-1])
        if len(found.files) > MOST_FILES:
            raise _too_many(found)
    broken.raise_any()
    found.files.sort(key=_name)
    found.links.sort()
    found.folders.sort()
    found.ignored.sort()
    return found


def _name(file: tuple[str, os.stat_result]) -> str:
    return file[0]


def _sort(
    found: Folder,
    broken: _Broken,
    waiting: list[str],
    prefix: str,
    entries: list[os.DirEntry[str]],
    skip: str,
    ignore: Callable[[str], bool] | None,
) -> bool:
    """Puts a folder's entries where they belong; whether any of them is kept."""
    kept = False
    for entry in entries:
        path = prefix + entry.name
        folder = entry.is_dir(follow_symlinks=False)
        if caches.is_cache(path) or (ignore is not None and ignore(path + "/" if folder else path)):
            found.ignored.append(path + "/" if folder else path)
        elif folder:
            kept = True
            if f"{found.root}/{path}" != skip:
                waiting.append(path + "/")
        elif entry.is_symlink():
            kept = True
            target = _target(found.root, path, broken)
            if target is not None:
                found.links.append((path, target))
        else:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(status.st_mode):
                found.files.append((path, status))
                kept = True
            else:
                found.ignored.append(path)
    return kept


def _target(root: str, path: str, broken: _Broken) -> str | None:
    """Where a link leads, such that it leads there in a copy of the folder too; None when it leaves the project."""
    try:
        target = os.readlink(f"{root}/{path}")  # noqa: PTH115 -- thousands of links: no Path objects
    except FileNotFoundError:
        return None
    parent = os.path.dirname(f"{root}/{path}")  # noqa: PTH120
    real = os.path.realpath(os.path.join(parent, target))  # noqa: PTH118
    if real != root and not real.startswith(root + "/"):
        broken.leaving.append((path, target))
        return None
    depth = path.count("/")
    for part in target.split("/"):
        depth += (part not in ("", ".", "..")) - (part == "..")
        if depth < 0 or target.startswith("/"):
            return os.path.relpath(real, parent)  # it comes back by the project's own place, which a copy has not
    return target


def _ignore(root: str) -> Callable[[str], bool] | None:
    """Whether .groundignore keeps a name out (a folder's ends in `/`); None when there is no such file."""
    try:
        with open(f"{root}/{IGNORE_FILE}", encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123
            lines = file.read().splitlines()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Invalid(f"{IGNORE_FILE} cannot be read: {error.strerror}", hint="make it a readable text file") from None
    from pathspec import GitIgnoreSpec

    # A folder that is ignored is not entered. `data/**` is all within `data`, not the folder, as `data/*` is.
    rules = [line[:-1] if line.endswith("/**") and line != "/**" else line for line in lines]
    try:
        return GitIgnoreSpec.from_lines(rules).match_file
    except ValueError as error:
        raise Invalid(f"{IGNORE_FILE}: {error}", hint="it is written as .gitignore is") from None


def _too_many(found: Folder) -> Invalid:
    count: dict[str, int] = {}
    for path, _ in found.files:
        top = path.partition("/")[0] + "/" if "/" in path else path
        count[top] = count.get(top, 0) + 1
    most = sorted(count, key=count.__getitem__, reverse=True)[:3]
    return Invalid(
        f"{found.root!r} has more than {MOST_FILES} files, too many to copy for a run",
        hint=f"run in a smaller folder, or name what is not needed in {IGNORE_FILE}; most are in "
        + ", ".join(f"{top!r}" for top in most),
    )


class _Broken:
    """What cannot be part of a snapshot."""

    def __init__(self) -> None:
        self.unreadable: list[str] = []
        self.leaving: list[tuple[str, str]] = []

    def raise_any(self) -> None:
        """Raises Invalid that names each."""
        if self.unreadable:
            raise unreadable(self.unreadable)
        if self.leaving:
            self.leaving.sort()
            told = ", ".join(f"{path!r} -> {target!r}" for path, target in self.leaving[:_TOLD])
            more = f" and {len(self.leaving) - _TOLD} more" if len(self.leaving) > _TOLD else ""
            raise Invalid(
                f"a link leaves the project: {told}{more}",
                hint=f"put the file itself into the project, or name the link in {IGNORE_FILE}",
                code="link_leaves_project",
            )


def unreadable(names: list[str]) -> Invalid:
    """The error for files or folders that this user may not read."""
    told = ", ".join(repr(name) for name in sorted(names)[:_TOLD])
    more = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    return Invalid(
        f"cannot be read: {told}{more}",
        hint=f"make it readable (chmod u+r), or name it in {IGNORE_FILE}",
        code="unreadable_file",
    )
