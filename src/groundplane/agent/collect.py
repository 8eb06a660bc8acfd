"""After the work: leftovers deleted, outputs found, hashed and put into the store."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from groundplane.agent import overlay
from groundplane.agent.blobs import Intake
from groundplane.agent.staging import Staged, remove_private, signature
from groundplane.model import caches
from groundplane.model.artifacts import Output
from groundplane.model.globs import fixed_folder, is_glob, matches
from groundplane.model.reasons import Reason
from groundplane.spi import layout
from groundplane.spi.launch import Launch

_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


@dataclass(frozen=True, slots=True)
class Collected:
    """What the attempt left: see Observation. notes: lines for its log about what was not kept."""

    outputs: tuple[Output, ...] = ()
    missing: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    report: str = ""
    reason: Reason | None = None
    notes: tuple[str, ...] = ()


def is_trivial(launch: Launch, staged: Staged) -> bool:
    """Whether there is nothing to collect at all."""
    command = launch.command
    if launch.private:
        return False
    declared = launch.outputs is None or launch.outputs
    return not (declared or staged.in_place or command.leftovers or command.collect or command.report)


def collect(home: Path, launch: Launch, staged: Staged, succeeded: bool) -> Collected:
    """Outputs are hashed and kept only when the work `succeeded`; `missing` is always told. Raises OSError."""
    remove_private(home, launch)
    copy = _Copy(home, launch, staged)
    support = layout.support(home, launch.attempt)
    for pattern in launch.command.leftovers:
        for name in list(copy.matching(pattern)):
            os.unlink(copy.at(name))
    for source, name in launch.command.collect.items():
        if _is_own_file(support / source) and copy.takes(name):
            _move(support / source, Path(copy.at(name)))
    report = _tail_of(support / launch.command.report) if launch.command.report else ""
    if launch.outputs is None:
        names, missing = copy.everything_new(), []
    else:
        names, missing = copy.declared(launch.outputs)
    outputs: list[Output] = []
    reason = None
    if succeeded and names:
        intake = Intake(home)
        try:
            for name in sorted(names):
                path, movable = copy.content_of(name)
                digest, size = intake.add(path, movable)
                outputs.append(Output(name, size, digest))
            intake.settle()
        finally:
            intake.drop()
    if succeeded and missing:
        reason = copy.reason_for(missing)
    changed = [name for name, (source, was) in staged.in_place.items() if _differs(source, was)]
    notes = copy.notes() if succeeded and reason is None else ()
    return Collected(tuple(outputs), tuple(missing), tuple(changed), report, reason, notes)


class _Copy:
    """The working copy after the work."""

    def __init__(self, home: Path, launch: Launch, staged: Staged) -> None:
        self._tree = str(layout.tree(home, launch.attempt))
        self._real = os.path.realpath(self._tree)
        self._upper = overlay.folders(home, launch.attempt).upper if staged.mode == "overlay" else ""
        self._staged = staged
        self._inputs = {each.path for each in launch.inputs}
        self._leading_out: dict[str, str] = {}  # links that the work made: name -> target

    def at(self, name: str) -> str:
        return f"{self._tree}/{name}"

    def declared(self, wanted: tuple[str, ...]) -> tuple[list[str], list[str]]:
        """The files that declared names and globs mean, and the declared ones that mean none.

        A file of the project that the work did not write is no output; an input may be.
        """
        names: dict[str, None] = {}
        missing: list[str] = []
        for pattern in wanted:
            found = [name for name in self.matching(pattern) if name in self._inputs or self._written(name)]
            names.update(dict.fromkeys(found))
            if not found:
                missing.append(pattern)
        return list(names), missing

    def everything_new(self) -> list[str]:
        """Every file created or changed; hidden ones, caches and environments left out."""
        return [name for name in self._walk("", all_of_it=False) if self._is_file(name) and self._written(name)]

    def matching(self, pattern: str) -> Iterator[str]:
        """Regular files (or links to one in the working copy). A folder's name means all that is in it."""
        plain = pattern.removeprefix("./").rstrip("/")
        if not plain or plain.startswith("/") or ".." in plain.split("/"):
            return
        if self._is_file(plain):
            yield plain
        elif self._is_inside(plain):
            yield from filter(self._is_file, self._walk(plain))
        start = fixed_folder(plain).rstrip("/")
        if is_glob(plain) and (not start or self._is_inside(start)):
            for name in self._walk(start):
                if name != plain and matches(plain, name) and self._is_file(name):
                    yield name

    def content_of(self, name: str) -> tuple[str, bool]:
        """Where the bytes are, and whether that file may be moved away."""
        path = self.at(name)
        if os.path.islink(path):
            return os.path.realpath(path), False
        if not self._upper:
            return path, name not in self._inputs or self._written(name)
        own = f"{self._upper}/{name}"
        if os.path.isfile(own) and not overlay.only_metadata(own):
            return own, True
        return path, False

    def takes(self, name: str) -> bool:
        """Whether a file may be put there: no link that the work made leads the way out of the working copy."""
        parent = os.path.realpath(os.path.dirname(self.at(name)))
        return f"{parent}/".startswith(f"{self._real}/")

    def reason_for(self, missing: list[str]) -> Reason | None:
        """The one that links explain; None when what is missing was simply not written."""
        for pattern in missing:
            plain = pattern.removeprefix("./").rstrip("/")
            for name, target in self._leading_out.items():
                if matches(plain, name) or f"{plain}/".startswith(f"{name}/") or name.startswith(f"{plain}/"):
                    return Reason(
                        "missing_output",
                        f"{pattern!r} is not in the working copy: {_told(name, target)}",
                        "write the file itself there, or copy it in at the end",
                    )
        return None

    def notes(self) -> tuple[str, ...]:
        """One line for each link that was passed over."""
        return tuple(
            f"not kept of the working copy: {_told(name, target)}" for name, target in sorted(self._leading_out.items())
        )

    def _walk(self, folder: str, all_of_it: bool = True) -> Iterator[str]:
        """What lies below a folder and is none; when not `all_of_it` without what is hidden or made again by tools."""
        try:
            entries = sorted(os.scandir(self.at(folder) if folder else self._tree), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        if not all_of_it and folder and caches.is_environment([entry.name for entry in entries]):
            return
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if not all_of_it and (entry.name.startswith(".") or caches.is_cache(name)):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(name, all_of_it)
            else:
                yield name

    def _is_file(self, name: str) -> bool:
        return self._is_inside(name) and stat.S_ISREG(os.stat(self.at(name)).st_mode)

    def _is_inside(self, name: str) -> bool:
        """Whether it is there and, links followed, in the working copy; a link that leads out is noted."""
        try:
            real = os.path.realpath(self.at(name), strict=True)
        except OSError as error:
            if error.errno in _NOT_THERE:
                return False
            raise
        if real.startswith(self._real + "/"):
            return True
        self._note_link(name)
        return False

    def _note_link(self, name: str) -> None:
        parts = name.split("/")
        for count in range(1, len(parts) + 1):
            link = "/".join(parts[:count])
            if os.path.islink(self.at(link)):
                self._leading_out[link] = os.readlink(self.at(link))
                return

    def _written(self, name: str) -> bool:
        """Whether the file was created or changed since it was staged."""
        try:
            now = os.lstat(self.at(name))
        except FileNotFoundError:
            return False
        if stat.S_ISLNK(now.st_mode):
            return name not in self._staged.links
        before = self._staged.placed.get(name)
        if before is not None:
            return before != signature(now)
        if not self._upper:
            return True
        own = f"{self._upper}/{name}"
        if os.path.isfile(own) and not overlay.only_metadata(own):
            return True
        return self._renamed(name)

    def _renamed(self, name: str) -> bool:
        """Whether the file, or a folder that it lies in, is shown from below under another name than it has there."""
        parts = name.split("/")
        return any(overlay.renamed(f"{self._upper}/{'/'.join(parts[:n])}") for n in range(1, len(parts) + 1))


def _differs(source: str, was: tuple[int, int, int, int]) -> bool:
    try:
        return signature(os.stat(source)) != was
    except OSError:
        return True


def _is_own_file(path: Path) -> bool:
    """A regular file, not a link in its place: the work could have it lead to what only the agent may read."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _tail_of(path: Path) -> str:
    if not _is_own_file(path):
        return ""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 65536))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.rename(target)
    except OSError:  # an overlay is another file system
        target.unlink(missing_ok=True)  # or a link in its place would be followed
        target.write_bytes(source.read_bytes())
        source.unlink()


def _told(name: str, target: str) -> str:
    return f"{name!r} is a link that leads out of it, to {target!r}"
