"""The Debian packages of a lock: fetched, and what to say of one that is gone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from groundplane.images import apt as archives
from groundplane.images.apt import Apt
from groundplane.images.downloads import Downloads, Gone, Wanted
from groundplane.images.store import ImageStore
from groundplane.model.errors import Unavailable
from groundplane.model.locks import Base, Deb, Lock
from groundplane.spi.images import Progress


def of(lock: Lock) -> tuple[Deb, ...]:
    """All that its build needs."""
    return (*in_image(lock), *(lock.native.tools if lock.native else ()))


def in_image(lock: Lock) -> tuple[Deb, ...]:
    """All that its image has."""
    return (*(lock.base.packages if lock.base else ()), *lock.packages)


class Debs:
    """Their files, from what is here, a pool or a mirror."""

    def __init__(self, store: ImageStore, downloads: Downloads) -> None:
        self._store = store
        self._downloads = downloads

    def fetched(
        self, lock: Lock, debs: Iterable[Deb], pool: Path | None, progress: Progress
    ) -> dict[str, tuple[Deb, Path]]:
        """sha256 -> the package and its file."""
        wanted = list(debs)
        try:
            paths = self._downloads.get_all([_wanted(deb) for deb in wanted], pool, progress)
        except Gone as gone:
            raise self._moved_on(lock, gone) from gone
        return {deb.sha256: (deb, path) for deb, path in zip(wanted, paths, strict=True)}

    def _moved_on(self, lock: Lock, gone: Gone) -> Unavailable:
        """The same with what the suite has now instead."""
        deb = next((each for each in of(lock) if _name(each) in gone.message), None)
        if deb is None or lock.base is None:
            return gone
        suite = lock.base.suite
        now = self._now(lock.base, deb)
        said = f"{suite} has {now} now" if now else f"{suite} has none now"
        return Unavailable(
            f"{deb.name} {deb.version} is gone from the mirror of {suite}: {said}",
            hint=f"a pool made by `ground env pool {lock.name} -o DIR` would have kept it (build with --offline DIR); "
            f"`ground env lock {lock.name}` moves on",
            code="package_gone",
        )

    def _now(self, base: Base, deb: Deb) -> str:
        try:
            with self._store.scratch() as scratch:
                apt = Apt(scratch / "apt", base.suite, base.architecture)
                apt.update()
                return apt.version(deb.name)
        except Unavailable:
            return ""


def _name(deb: Deb) -> str:
    return deb.path.rpartition("/")[2]


def _wanted(deb: Deb) -> Wanted:
    root = archives.mirror(deb.archive) or archives.mirror("debian")
    return Wanted(_name(deb), deb.sha256, deb.size, (f"{root}/{quote(deb.path)}",))
