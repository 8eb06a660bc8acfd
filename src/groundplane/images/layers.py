"""What one root file system has beyond another, as an OCI layer. Both are uncompressed tars."""

from __future__ import annotations

import hashlib
import posixpath
import tarfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20
_SKIPPED = ("dev",)
_WHITEOUT = ".wh."
_XATTR = "SCHILY.xattr."


def difference(base: Path, full: Path, target: Path) -> None:
    """Writes a tar with the entries of `full` that `base` lacks or has otherwise, their parent folders, and whiteouts
    for what `full` lacks; sorted, so that equal contents are equal bytes. A hard link becomes the file that it names:
    the name may be in the base alone."""
    before = {name: mark for name, mark, _ in _entries(base)}
    with tarfile.open(full, "r:") as source:
        members: dict[str, tarfile.TarInfo] = {}
        changed: set[str] = set()
        for name, mark, member in _read(source):
            members[name] = member
            if before.get(name) != mark:
                changed.add(name)
        gone = {name for name in before if name not in members}
        whiteouts = {name for name in gone if posixpath.dirname(name) not in gone}
        parents = {parent for name in changed | whiteouts for parent in _parents(name) if parent in members}
        with tarfile.open(target, "w", format=tarfile.PAX_FORMAT, errorlevel=2) as out:
            for name in sorted(changed | parents | whiteouts, key=_bytes):
                if name in whiteouts:
                    out.addfile(_whiteout(name, members))
                else:
                    _copy(source, members, name, out)


def tree(folder: Path, target: Path, epoch: int, below: Collection[str] = ()) -> None:
    """Writes a tar of all that is in the folder, as root's and of one time: equal contents are equal bytes. below:
    folders that lie in the layers below already, which keep their own owner and mode."""
    names = sorted((path.relative_to(folder).as_posix() for path in folder.rglob("*")), key=_bytes)
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT, errorlevel=2) as out:
        for name in names:
            path = folder / name
            found = tarfile.TarInfo(name)
            found.mtime = epoch
            if path.is_symlink():
                found.type, found.linkname, found.mode = tarfile.SYMTYPE, str(path.readlink()), 0o777
                out.addfile(found)
            elif path.is_dir():
                if name not in below:
                    found.name, found.type, found.mode = f"{name}/", tarfile.DIRTYPE, 0o755
                    out.addfile(found)
            else:
                status = path.stat()
                found.size, found.mode = status.st_size, 0o755 if status.st_mode & 0o100 else 0o644
                with path.open("rb") as file:
                    out.addfile(found, file)


def _entries(path: Path) -> Iterator[tuple[str, Any, tarfile.TarInfo]]:
    with tarfile.open(path, "r:") as source:
        yield from _read(source)


def _read(source: tarfile.TarFile) -> Iterator[tuple[str, Any, tarfile.TarInfo]]:
    """(normalised name, all that tells it from another, its entry)."""
    contents: dict[str, str] = {}
    for member in source:
        name = _normal(member.name)
        if not name or name.split("/", 1)[0] in _SKIPPED:
            continue
        content = ""
        if member.isreg():
            content = contents[name] = _hash(source, member)
        elif member.islnk():
            content = contents.get(_normal(member.linkname), "")
        kind = tarfile.REGTYPE if member.isfile() or member.islnk() else member.type
        link = member.linkname if member.issym() else ""
        extra = tuple(sorted((k, v) for k, v in member.pax_headers.items() if k.startswith(_XATTR)))
        device = (member.devmajor, member.devminor) if member.ischr() or member.isblk() else ()
        yield name, (kind, member.mode, member.uid, member.gid, int(member.mtime), link, content, extra, device), member


def _copy(source: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str, out: tarfile.TarFile) -> None:
    member = members[name]
    found = tarfile.TarInfo(name + ("/" if member.isdir() else ""))
    found.mode, found.uid, found.gid, found.mtime = member.mode, member.uid, member.gid, int(member.mtime)
    found.type, found.linkname = member.type, member.linkname
    found.devmajor, found.devminor = member.devmajor, member.devminor
    found.pax_headers = {k: v for k, v in sorted(member.pax_headers.items()) if k.startswith(_XATTR)}
    content = member
    while content.islnk():
        content = members[_normal(content.linkname)]
    if not content.isreg():
        out.addfile(found)
        return
    found.type, found.linkname, found.size = tarfile.REGTYPE, "", content.size
    out.addfile(found, source.extractfile(content))


def _whiteout(name: str, members: dict[str, tarfile.TarInfo]) -> tarfile.TarInfo:
    found = tarfile.TarInfo(posixpath.join(posixpath.dirname(name), _WHITEOUT + posixpath.basename(name)))
    parent = members.get(posixpath.dirname(name))
    found.mtime = int(parent.mtime) if parent else 0
    return found


def _hash(source: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    digest = hashlib.sha256()
    file = source.extractfile(member)
    while file is not None and (block := file.read(_CHUNK)):
        digest.update(block)
    return digest.hexdigest()


def _parents(name: str) -> Iterator[str]:
    while name := posixpath.dirname(name):
        yield name


def _normal(name: str) -> str:
    found = posixpath.normpath(name).lstrip("/")
    return "" if found == "." else found


def _bytes(name: str) -> bytes:
    return name.encode(errors="surrogateescape")
