"""A working copy as an overlay: the snapshot below, read-only; what the work writes above.

The lower layer is made once a snapshot: hard links to the blobs (an overlay never writes below), copies of
executables (a blob has no such bit), and for files used in place a sparse stub that names the real file in a
data-only layer, so that gigabytes beside a script cost nothing and the user's file is never written.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from groundplane.agent import linux
from groundplane.agent.places import delete_tree
from groundplane.agent.snapshots import Snapshot, content
from groundplane.spi import layout

METACOPY = "trusted.overlay.metacopy"
REDIRECT = "trusted.overlay.redirect"
_building = threading.Lock()


@dataclass(frozen=True, slots=True)
class Folders:
    """upper: what the work writes. work: the kernel's own. inputs: an attempt's own lower layer."""

    tree: str
    upper: str
    work: str
    inputs: str


def folders(home: Path, attempt: str) -> Folders:
    """The folders of one attempt's overlay."""
    base = str(layout.attempt(home, attempt))
    return Folders(str(layout.tree(home, attempt)), f"{base}/upper", f"{base}/overlay", f"{base}/inputs")


def data_root(sources: Iterable[str]) -> str:
    """The deepest folder that holds all the files; "" without any."""
    parents = [os.path.dirname(source) for source in sources]
    return os.path.commonpath(parents) if parents else ""


def layer(home: Path, snapshot: Snapshot) -> str:
    """The snapshot's lower layer, built when it is not there yet. Raises OSError where stubs cannot be made."""
    target = layout.layer(home, snapshot.digest)
    with _building:
        if target.is_dir():
            return str(target)
        fresh = target.with_name(f"{snapshot.digest}.{os.urandom(4).hex()}")
        fresh.mkdir(parents=True)
        try:
            _fill(home, snapshot, fresh)
            fresh.rename(target)
        except OSError:
            delete_tree(str(fresh))
            raise
    return str(target)


def _fill(home: Path, snapshot: Snapshot, target: Path) -> None:
    for folder in snapshot.folders:
        (target / folder).mkdir()
    root = data_root(entry.source for entry in snapshot.in_place)
    for entry in snapshot.manifest.files:
        path = target / entry.path
        if entry.source:
            stub(path, entry.source, root, entry.size, 0o755 if entry.executable else 0o644)
        elif entry.executable:
            copy(content(home, entry), path)
            path.chmod(0o755)
        else:
            link_or_copy(content(home, entry), path)
    for name, points_to in snapshot.manifest.links:
        (target / name).symlink_to(points_to)


def copy(source: Path, target: Path) -> None:
    """The content only."""
    with source.open("rb") as reading, target.open("xb") as writing:
        while os.sendfile(writing.fileno(), reading.fileno(), None, 1 << 24):
            pass


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link, or a copy where the file has too many links already or lies elsewhere."""
    try:
        os.link(source, target)
    except OSError:
        copy(source, target)


def stub(path: Path, source: str, root: str, size: int, mode: int) -> None:
    """A sparse file that an overlay shows as `source`, found below the data-only layer `root`."""
    with path.open("wb") as file:
        file.truncate(size)
        os.fchmod(file.fileno(), mode)
        status = os.stat(source)
        os.utime(file.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
    os.setxattr(path, METACOPY, b"")
    os.setxattr(path, REDIRECT, b"/" + os.fsencode(os.path.relpath(source, root)))


def mount(where: Folders, lowers: Sequence[str], data: str, *, metadata_alone: bool = False) -> None:
    """Mounts the tree. `data`: the data-only layer that stubs point into, or "". metadata_alone: a new owner or mode
    does not copy the file's content. Raises OSError."""
    with ExitStack() as stack:

        def reachable(folder: str) -> str:
            # No escaping: a path in mount options may hold neither comma nor colon, a descriptor's never does.
            fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            return f"/proc/self/fd/{fd}"

        below = ":".join(map(reachable, lowers)) + (f"::{reachable(data)}" if data else "")
        options = f"lowerdir={below},upperdir={reachable(where.upper)},workdir={reachable(where.work)}"
        if data:
            options += ",metacopy=on,redirect_dir=on"
        elif metadata_alone:
            options += ",metacopy=on"
        try:
            linux.mount(where.tree, "overlay", options + ",volatile")
        except OSError:
            linux.mount(where.tree, "overlay", options)


def works(home: Path) -> bool:
    """Whether this kernel lets this user mount one that shows a file of elsewhere."""
    base = layout.attempt(home, f"probe.{os.urandom(4).hex()}")
    where = Folders(f"{base}/tree", f"{base}/upper", f"{base}/overlay", f"{base}/inputs")
    data = f"{base}/data"
    try:
        for folder in (where.tree, where.upper, where.work, where.inputs, data):
            os.makedirs(folder)
        source = Path(data, "file")
        source.write_bytes(b"shown")
        stub(Path(where.inputs, "file"), str(source), data, 5, 0o644)
        mount(where, [where.inputs], data)
        try:
            return Path(where.tree, "file").read_bytes() == b"shown"
        finally:
            unmount(where.tree)
    except OSError:
        return False
    finally:
        delete_tree(str(base))


def unmount(tree: str) -> None:
    """Raises OSError when it is not mounted."""
    linux.unmount(tree)


def only_metadata(path: str) -> bool:
    """Whether a file in the upper folder holds no data of its own."""
    try:
        os.getxattr(path, METACOPY)
    except OSError:
        return False
    return True


def renamed(path: str) -> bool:
    """Whether a file or folder in the upper folder shows one of below that has another name there."""
    try:
        os.getxattr(path, REDIRECT)
    except OSError:
        return False
    return True
