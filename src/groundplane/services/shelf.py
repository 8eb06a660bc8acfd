"""Where built images lie, and who builds them."""

from __future__ import annotations

import os
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from groundplane.model.errors import NotFound
from groundplane.model.locks import Lock
from groundplane.spi import wire
from groundplane.spi.images import Builder, Image

if TYPE_CHECKING:
    from groundplane.images.downloads import Downloads
    from groundplane.images.store import ImageStore

BUILDERS = ("debian", "docker")


@cache
def store(home: Path) -> ImageStore:
    """The home's images."""
    from groundplane.images.store import ImageStore

    return ImageStore(home / "images")


def built(home: Path, lock: Lock) -> Image | None:
    """The lock's image, when it is here. One that came out otherwise than locked is none."""
    found = store(home).find(lock.recipe)
    return found if found is not None and found.is_of(lock) else None


def resolved(home: Path, definition: str) -> Lock | None:
    """The lock of an environment that no ground.lock holds, as this home resolved it first."""
    path = _resolved(home, definition)
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return _read(path, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=64)
def _read(path: Path, *_: int) -> Lock:
    """Decoded once: a lock has hundreds of packages."""
    return wire.decode(Lock, wire.parse(path.read_bytes()))


def keep_resolved(home: Path, lock: Lock) -> None:
    """From now on this is what the definition means here."""
    store(home).put(_resolved(home, lock.definition), wire.encode(lock))


def forget_resolved(home: Path, definition: str) -> None:
    """It is resolved anew when it is next needed."""
    _resolved(home, definition).unlink(missing_ok=True)


def downloads(home: Path, *, stranger: bool = False) -> Downloads:
    """The home's files of packages. stranger: as of `builder`."""
    from groundplane.images.downloads import Downloads
    from groundplane.services.downloads import opened_for_strangers

    return Downloads(home / "images" / "downloads", opened_for_strangers if stranger else None)


def _resolved(home: Path, definition: str) -> Path:
    return home / "images" / "resolved" / f"{definition}.json"


def builder(home: Path, name: str, folder: Path | None = None, *, stranger: bool = False) -> Builder:
    """Who builds and resolves. folder: the project's, for Dockerfiles. stranger: whether it is for somebody whose host
    this is not. Raises NotFound for an unknown one."""
    if name == "debian":
        from groundplane.images.debian import DebianBuilder

        return DebianBuilder(store(home), downloads(home, stranger=stranger))
    if name == "docker":
        from groundplane.images.docker import DockerBuilder
        from groundplane.oci import address

        return DockerBuilder(store(home), address.from_environment(os.environ), folder)
    raise NotFound(f"there is no image builder {name!r}", hint=f"there are: {', '.join(BUILDERS)}")
