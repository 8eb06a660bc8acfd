"""Makes an attempt's working copy: the snapshot, then its inputs, each an own and writable copy."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from groundplane.agent import linux, overlay
from groundplane.agent.places import Places, delete_tree
from groundplane.agent.snapshots import SMALL_BYTES, SMALL_FILES, Snapshot, content
from groundplane.model.quantities import format_size
from groundplane.model.reasons import Fault, Reason
from groundplane.spi import layout
from groundplane.spi.launch import Launch, PrivateFile, StageIn

_COPY_LIMIT = 2 * 1024**3
_LINK_FROM = 64 * 1024

Signature = tuple[int, int, int, int]
"""Size, mtime, inode and ctime of a file, as it was put there."""


class Unfit(Exception):
    """The launch cannot be staged; the reason is the user's."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.message)
        self.reason = reason


@dataclass(slots=True)
class Staged:
    """How the working copy was made. placed: what lies in it from the start; in_place: path -> (file, stat)."""

    mode: str
    placed: dict[str, Signature] = field(default_factory=dict[str, Signature])
    in_place: dict[str, tuple[str, Signature]] = field(default_factory=dict[str, tuple[str, Signature]])
    links: frozenset[str] = frozenset()


def signature(status: os.stat_result) -> Signature:
    """What tells that a file was written since."""
    return status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns


class Stager:
    """Stages for one home. From any thread. alone: the home is one attempt's own, so that no copy is too large."""

    def __init__(self, home: Path, *, alone: bool = False) -> None:
        self._home = home
        self._places = Places(home)
        self._blobs = str(home) + "/blobs/"
        self._reflinks: bool | None = None
        self._alone = alone
        self._overlays = not alone and os.geteuid() == 0
        self._copies: str | None = None

    @property
    def copies(self) -> str:
        """How working copies of large projects are made here: `reflinked`, `overlaid` or `copied`."""
        if self._copies is None:
            cheap = self._overlays and overlay.works(self._home)
            self._copies = "reflinked" if self._can_reflink() else "overlaid" if cheap else "copied"
        return self._copies

    def is_small(self, launch: Launch, snapshot: Snapshot) -> bool:
        """Whether a plain copy will do, and so quickly that the loop may do it itself."""
        if snapshot.contents is None or len(snapshot.contents) + len(launch.inputs) > SMALL_FILES:
            return False
        return snapshot.size + _inputs_size(launch) <= SMALL_BYTES

    def stage(self, launch: Launch, snapshot: Snapshot, spare: dict[str, Signature] | None = None) -> Staged:
        """Makes the attempt's folders and its working copy but for inputs to be converted.

        spare: what lies in the folders that a former attempt on the same snapshot left untouched; None: there are
        none yet. Raises Unfit, or OSError (a full disk, a blob that is gone).
        """
        for each in launch.inputs:
            _check(each.path, snapshot)
        for each in launch.private:
            _check(each.path, snapshot)
        support, tree = self._places.support(launch.attempt), self._places.tree(launch.attempt)
        if spare is None:
            os.makedirs(self._places.temporary(launch.attempt))
            os.mkdir(tree)
        for name, text in launch.command.files.items():
            _write(_within(support, name), text.encode(errors="surrogateescape"), 0o755)
        staged: Staged | None = None
        if spare is not None:
            staged = Staged("copy", dict(spare))
            self._place_inputs(launch, tree, staged)
        elif self.is_small(launch, snapshot):
            staged = self._copied_small(launch, snapshot, tree)
        if staged is None and self._can_reflink():
            staged = self._copied(launch, snapshot, tree, "reflink")
        if staged is None:
            staged = self._overlaid(launch, snapshot)
        if staged is None:
            if not self._alone:
                _check_size(launch, snapshot)
            staged = self._copied(launch, snapshot, tree, "copy")
        staged.links = snapshot.links
        for entry in snapshot.in_place:
            staged.in_place[entry.path] = (entry.source, (entry.size, entry.mtime_ns, entry.inode, entry.ctime_ns))
        for each in launch.inputs:
            if each.source and not each.source.startswith(self._blobs):
                staged.in_place[each.path] = (each.source, signature(os.stat(each.source)))
        private = [_place_private(support if each.beside else tree, each) for each in launch.private]
        if launch.owner is not None:
            _give_all(launch, tree, support, staged)
            for path, each in zip(private, launch.private, strict=True):
                os.chmod(path, each.mode)  # what is given away may be written, and most of these must not
        return staged

    def _copied_small(self, launch: Launch, snapshot: Snapshot, tree: str) -> Staged:
        staged = Staged("copy")
        prefix = tree + "/"
        for folder in snapshot.folders:
            os.mkdir(prefix + folder)
        contents = snapshot.contents or {}
        for entry in snapshot.manifest.files:
            mode = 0o755 if entry.executable else 0o644
            staged.placed[entry.path] = _write(prefix + entry.path, contents[entry.path], mode)
        for name, points_to in snapshot.manifest.links:
            os.symlink(points_to, prefix + name)
        self._place_inputs(launch, tree, staged)
        return staged

    def _copied(self, launch: Launch, snapshot: Snapshot, tree: str, mode: str) -> Staged:
        staged = Staged(mode)
        for folder in snapshot.folders:
            os.mkdir(f"{tree}/{folder}")
        for entry in snapshot.manifest.files:
            target = f"{tree}/{entry.path}"
            self._copy(str(content(self._home, entry)), target, 0o755 if entry.executable else 0o644)
            staged.placed[entry.path] = signature(os.lstat(target))
        for name, points_to in snapshot.manifest.links:
            os.symlink(points_to, f"{tree}/{name}")
        self._place_inputs(launch, tree, staged)
        return staged

    def _overlaid(self, launch: Launch, snapshot: Snapshot) -> Staged | None:
        """None where the kernel or the user's rights do not allow it."""
        if not self._overlays:
            return None
        where = overlay.folders(self._home, launch.attempt)
        staged = Staged("overlay")
        try:
            lowers = [overlay.layer(self._home, snapshot)] if snapshot.digest else []
            for folder in (where.upper, where.work, where.inputs):
                os.mkdir(folder)
            sources = [each.source for each in launch.inputs if self._in_place(each)]
            root = overlay.data_root([entry.source for entry in snapshot.in_place] or sources)
            below = {each.path for each in launch.inputs if self._put_below(each, where.inputs, root)}
            overlay.mount(where, [where.inputs, *lowers], root, metadata_alone=launch.owner is not None)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            for folder in (where.upper, where.work, where.inputs):
                delete_tree(folder)
            return None
        self._place_inputs(launch, where.tree, staged, skip=below)
        return staged

    def _in_place(self, each: StageIn) -> bool:
        return bool(each.source) and not each.source_name and not each.source.startswith(self._blobs)

    def _put_below(self, each: StageIn, layer: str, root: str) -> bool:
        """Whether a large input could be shown from below instead of being copied."""
        if not each.source or each.source_name:
            return False
        size = os.stat(each.source).st_size
        if size < _LINK_FROM:
            return False
        target = Path(layer, each.path)
        if not self._in_place(each):
            target.parent.mkdir(parents=True, exist_ok=True)
            overlay.link_or_copy(Path(each.source), target)
            return True
        if not root or os.path.commonpath((root, each.source)) != root:
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        overlay.stub(target, each.source, root, size, 0o644)
        return True

    def _place_inputs(
        self, launch: Launch, tree: str, staged: Staged, skip: frozenset[str] | set[str] = frozenset()
    ) -> None:
        for each in launch.inputs:
            if each.path in skip:
                continue
            target = prepare_place(tree, each.path)
            if each.source_name:
                continue  # a converter writes it later
            if each.source:
                self._copy(each.source, target, 0o644)
            else:
                _write(target, (each.text or "").encode(errors="surrogateescape"), 0o644)
            staged.placed[each.path] = signature(os.lstat(target))

    def _can_reflink(self) -> bool:
        if self._reflinks is None:
            self._reflinks = _try_reflink(layout.incoming(self._home))
        return self._reflinks

    def _copy(self, source: str, target: str, mode: int) -> None:
        with open(source, "rb", buffering=0) as reading:
            fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            try:
                if self._reflinks:
                    try:
                        linux.clone_file(fd, reading.fileno())
                        return
                    except OSError:
                        os.ftruncate(fd, 0)  # another file system: copied
                while os.sendfile(fd, reading.fileno(), None, 1 << 24):
                    pass
            except OSError as error:
                error.filename = target
                raise
            finally:
                os.close(fd)


def prepare_place(tree: str, path: str) -> str:
    """The absolute path of an input, its parent folders made and what lay there removed."""
    target = f"{tree}/{path}"
    parent = os.path.dirname(target)
    if parent != tree:
        os.makedirs(parent, exist_ok=True)
    try:
        os.unlink(target)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        raise Unfit(
            Reason("start_failed", f"input {path} is a folder in the project", "give the input another name")
        ) from None
    return target


def _place_private(folder: str, each: PrivateFile) -> str:
    target = prepare_place(folder, each.path)
    _write(target, each.text.encode(errors="surrogateescape"), each.mode)
    return target


def remove_private(home: Path, launch: Launch) -> None:
    """Deletes the secrets that the work was given as files: nothing of its tree is left. Idempotent; raises OSError."""
    for each in launch.private:
        top = (layout.support if each.beside else layout.tree)(home, launch.attempt)
        real, parent = os.path.realpath(top), os.path.realpath((top / each.path).parent)
        if parent != real and not parent.startswith(f"{real}/"):
            continue  # the work has put a link there that leads out: what lies behind it is not ours
        try:
            os.unlink(f"{parent}/{os.path.basename(each.path)}")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except IsADirectoryError:
            continue  # the work has put a folder in its place


def _check(path: str, snapshot: Snapshot) -> None:
    """An input may not leave the working copy, not even through a link."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path or path.endswith("/"):
        raise Unfit(
            Reason("start_failed", f"input {path!r} is not a path in the working copy", "write a relative path")
        )
    for count in range(1, len(parts)):
        parent = "/".join(parts[:count])
        if parent in snapshot.links:
            raise Unfit(
                Reason("start_failed", f"input {path!r} lies behind the link {parent}", "name the folder itself")
            )


def _check_size(launch: Launch, snapshot: Snapshot) -> None:
    size = snapshot.size + _inputs_size(launch)
    if size <= _COPY_LIMIT:
        return
    largest = sorted(snapshot.manifest.files, key=lambda entry: entry.size, reverse=True)[:3]
    names = ", ".join(f"{entry.path} ({format_size(entry.size)})" for entry in largest)
    raise Unfit(
        Reason(
            "start_failed",
            f"the working copy would take {format_size(size)}, and this host can neither reflink nor overlay: {names}",
            "keep large files out of the project folder, or list them in .groundignore",
        )
    )


def _inputs_size(launch: Launch) -> int:
    total = 0
    for each in launch.inputs:
        if each.source and not each.source_name:
            total += os.stat(each.source).st_size
        else:
            total += len(each.text or "")
    return total


def give(launch: Launch, path: str) -> None:
    """Makes the file or folder the launch's owner's, where this agent may. Raises OSError."""
    if launch.owner is not None and os.geteuid() == 0:
        os.lchown(path, launch.owner, launch.owner)


def _give_all(launch: Launch, tree: str, support: str, staged: Staged) -> None:
    if os.geteuid() != 0:
        return
    for top in (tree, support):
        give(launch, top)
        for folder, folders, files in os.walk(top):
            for name in (*folders, *files):
                give(launch, f"{folder}/{name}")
            if staged.mode == "overlay":  # what it shows from below are the store's files, which only root may write
                for name in files:
                    _make_writable(f"{folder}/{name}")
    for name in staged.placed:
        staged.placed[name] = signature(os.lstat(f"{tree}/{name}"))


def _make_writable(path: str) -> None:
    mode = os.lstat(path).st_mode
    if stat.S_ISREG(mode) and not mode & stat.S_IWUSR:
        os.chmod(path, stat.S_IMODE(mode) | stat.S_IWUSR)


def _write(path: str, data: bytes, mode: int) -> Signature:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        return signature(os.fstat(fd))
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)


def _within(folder: str, name: str) -> str:
    path = f"{folder}/{name}"
    if "/" in name:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise Unfit(Reason("start_failed", f"support file {name!r} is not a plain name", fault=Fault.PLATFORM))
        os.makedirs(os.path.dirname(path), exist_ok=True)
    return path


def _try_reflink(folder: Path) -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    name = folder / f"probe-{os.urandom(4).hex()}"
    twin = name.with_suffix(".twin")
    try:
        with name.open("wb") as file:
            file.write(b"x" * 4096)
        with name.open("rb") as source, twin.open("wb") as target:
            linux.clone_file(target.fileno(), source.fileno())
    except OSError:
        return False
    else:
        return True
    finally:
        name.unlink(missing_ok=True)
        twin.unlink(missing_ok=True)
