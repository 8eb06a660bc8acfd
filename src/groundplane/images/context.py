"""What a Dockerfile copies from its project: found, told apart from what stays behind, and sent as a tar.

Only what its COPY and ADD name counts, so that an edited script makes no image stale that never had it. Every file is
sent as executable and with one time: modes and times are the checkout's own, and no property of the project.
"""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from groundplane.images import dockerfile
from groundplane.images.dockerfile import Dockerfile
from groundplane.model import caches
from groundplane.model.errors import Invalid

SENT_AS = ".dockerfile.groundplane"
_IGNORE = ".dockerignore"
_LOCK = "ground.lock"  # written by what reads this: a project that copies itself would be stale at once
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Context:
    """files: sha256 of each by its name. links: target of each. folders: all that are below something copied."""

    folder: Path
    dockerfile: Dockerfile
    files: dict[str, str]
    links: dict[str, str]
    folders: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """Of all that the Dockerfile copies."""
        digest = hashlib.sha256()
        for kind, named in (("f", self.files), ("l", self.links), ("d", dict.fromkeys(self.folders, ""))):
            for name in sorted(named):
                digest.update(f"{kind} {named[name]} {name}\0".encode(errors="surrogateescape"))
        return digest.hexdigest()


def read(folder: Path, name: str) -> Context:
    """The Dockerfile of that name and what it copies. Raises Invalid where one of them cannot be read."""
    try:
        text = (folder / name).read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        raise Invalid(f"the project has no file {name!r}", hint='from = "Dockerfile" is a path in it') from None
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{name} cannot be read: {error}", hint="make it a readable text file") from None
    written = dockerfile.read(text)
    found = Context(folder, written, {}, {}, ())
    wanted = None if written.copied is None else [_compiled(source) for source in written.copied]
    if wanted == []:
        return found
    folders: list[str] = []
    for path, entry in _walk(folder, _ignored(folder), ""):
        if wanted is not None and not any(pattern.match(path) for pattern in wanted):
            continue
        if entry.is_symlink():
            found.links[path] = os.readlink(entry.path)  # noqa: PTH115 - one of many
        elif entry.is_dir(follow_symlinks=False):
            folders.append(path)
        elif entry.is_file(follow_symlinks=False):
            found.files[path] = _hash(entry.path, path)
    return Context(folder, written, found.files, found.links, tuple(folders))


def digest(folder: Path, name: str) -> str:
    """sha256 of what the Dockerfile copies; "" where there is no such Dockerfile."""
    return read(folder, name).sha256 if (folder / name).is_file() else ""


def tar(context: Context, text: str, epoch: int) -> Iterator[bytes]:
    """The context as a tar with this Dockerfile in place of the project's. Raises Invalid where a file is not as it
    was any more."""
    # The engine takes out what its ignore file names: neither this Dockerfile nor that file gets into an image.
    yield from _entry(SENT_AS, text.encode(), epoch)
    yield from _entry(_IGNORE, f"{SENT_AS}\n{_IGNORE}\n".encode(), epoch)
    for name in context.folders:
        yield _head(name, epoch, tarfile.DIRTYPE)
    for name, target in context.links.items():
        yield _head(name, epoch, tarfile.SYMTYPE, link=target)
    for name, sha256 in context.files.items():
        found = hashlib.sha256()
        with (context.folder / name).open("rb") as file:
            size = left = os.fstat(file.fileno()).st_size
            yield _head(name, epoch, tarfile.REGTYPE, size=size)
            while left and (block := file.read(min(left, _CHUNK))):
                left -= len(block)
                found.update(block)
                yield block
        if left or found.hexdigest() != sha256:
            raise _changing(name)
        yield bytes(-size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _entry(name: str, body: bytes, epoch: int) -> Iterator[bytes]:
    yield _head(name, epoch, tarfile.REGTYPE, size=len(body))
    yield body + bytes(-len(body) % tarfile.BLOCKSIZE)


def _head(name: str, epoch: int, kind: bytes, *, size: int = 0, link: str = "") -> bytes:
    entry = tarfile.TarInfo(name)
    entry.type, entry.size, entry.linkname, entry.mtime, entry.mode = kind, size, link, epoch, 0o755
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class _Ignore:
    """What .dockerignore says: (whether it drops, pattern); the last one that matches a name, or a folder above it,
    counts."""

    rules: tuple[tuple[bool, re.Pattern[str]], ...] = ()

    def drops(self, path: str) -> bool:
        return next((drops for drops, pattern in reversed(self.rules) if pattern.match(path)), False)

    @property
    def takes_back(self) -> bool:
        """Whether something in a dropped folder may count all the same."""
        return not all(drops for drops, _ in self.rules)


def _walk(root: Path, ignore: _Ignore, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """All that counts, sorted by name."""
    try:
        with os.scandir(root / prefix) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except PermissionError:
        raise _unreadable(prefix) from None
    except FileNotFoundError:
        raise _changing(prefix) from None
    if prefix and caches.is_environment([entry.name for entry in entries]):
        return
    for entry in entries:
        path = f"{prefix}{entry.name}"
        if caches.is_cache(path) or path == _LOCK:
            continue
        dropped = ignore.drops(path)
        if not dropped:
            yield path, entry
        if entry.is_dir(follow_symlinks=False) and (not dropped or ignore.takes_back):
            yield from _walk(root, ignore, f"{path}/")


def _ignored(folder: Path) -> _Ignore:
    try:
        lines = (folder / _IGNORE).read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return _Ignore()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{_IGNORE} cannot be read: {error}", hint="make it a readable text file") from None
    rules: list[tuple[bool, re.Pattern[str]]] = []
    for line in map(str.strip, lines):
        if not line or line.startswith("#"):
            continue
        keeps = line.startswith("!")
        pattern = os.path.normpath("/" + line[keeps:].strip()).lstrip("/")
        rules.append((not keeps, _compiled(pattern)))
    return _Ignore(tuple(rules))


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    """Go's filepath.Match, and `**` as Docker has it; matches what lies below, too. "" and `.`: everything."""
    if pattern in ("", "."):
        return re.compile("")
    parts = re.findall(r"\*\*/?|\*|\?|\[\^?[^\]]+\]|\\?.", pattern, re.DOTALL)
    made = [{"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(part) or _literal(part) for part in parts]
    return re.compile("".join(made) + r"(?:/|\Z)", re.DOTALL)


def _literal(part: str) -> str:
    return part if part.startswith("[") and len(part) > 1 else re.escape(part[-1])


def _hash(path: str, name: str) -> str:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - one of many
            return hashlib.file_digest(file, "sha256").hexdigest()
    except PermissionError:
        raise _unreadable(name) from None
    except FileNotFoundError:
        raise _changing(name) from None


def _unreadable(name: str) -> Invalid:
    hint = f"make it readable (chmod u+r), or name it in {_IGNORE}"
    return Invalid(f"cannot be read: {name!r}", hint=hint, code="unreadable_file")


def _changing(name: str) -> Invalid:
    return Invalid(f"{name!r} changed while it was read", hint="try again", code="input_changes")
