"""Images from Debian's packages: no registry, no Docker, and no network when there is a pool."""

from __future__ import annotations

import hashlib
import platform
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from groundplane.images import debs, languages, layers, outdated, turns
from groundplane.images.apt import Apt
from groundplane.images.debs import Debs
from groundplane.images.disk import told_when_full
from groundplane.images.downloads import Downloads, put_into_pool
from groundplane.images.rootfs import HOME, USER, Rootfs
from groundplane.images.store import ImageStore, Stage, own_reference
from groundplane.model.errors import Unavailable
from groundplane.model.locks import Base, Deb, Lock, Native
from groundplane.spi.images import Image, Layer, Progress, Recipe

_RELEASED = {"bullseye": 1628899200, "bookworm": 1686355200, "trixie": 1754697600}
_EPOCH = 1754697600
"""Seconds: no file of an image is younger than its suite's release (others': trixie's). A date of today would make the
same packages another image every day."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class DebianBuilder:
    """See `spi.images.Builder`."""

    name = "debian"

    def __init__(self, store: ImageStore, downloads: Downloads) -> None:
        self._store = store
        self._downloads = downloads
        # Packages that run scripts of their own as root come from the mirror: nothing that another address gave counts.
        self._debs = Debs(store, downloads.apart(self.name))

    def lock(self, recipe: Recipe, progress: Progress) -> Lock:
        """Resolves against the mirrors as they are now, builds, and probes the engine in what was built."""
        with told_when_full(self._store.folder):
            made = self._resolved(recipe, progress)
        known = self._store.find(made.recipe)
        if known is not None and recipe.probe and not known.program:  # of a stranger's lock: nobody has asked it
            self._store.remove(known.recipe)
        image = self._image(made, recipe.programs, recipe.probe, None, progress)
        found = re.search(recipe.version, image.probe) if recipe.version and image.probe else None
        return replace(
            made,
            version=found[1] if found else "",
            program=image.program,
            layers=tuple(layer.diff for layer in image.layers),
            probe=image.probe,
        )

    def build(self, lock: Lock, progress: Progress, pool: Path | None = None) -> Image:
        """From the locked files alone. Raises Unavailable `image_build_failed` where other bytes come out."""
        known = self._store.find(lock.recipe)
        if known is not None and not known.is_of(lock):  # of another lock, by other tools: the lock counts
            self._store.remove(known.recipe)
        # What a stranger's lock says of the image would be all others' lock of it, too.
        probed = ("", "") if self._downloads.stranger else (lock.program, lock.probe)
        image = self._image(lock, (), (), pool, progress, probed=probed)
        if not image.is_of(lock):
            self._store.remove(image.recipe)
            made = tuple(layer.diff for layer in image.layers)
            pairs = zip(made, lock.layers, strict=False)
            number = next((n for n, (is_, was) in enumerate(pairs) if is_ != was), min(len(made), len(lock.layers)))
            raise Unavailable(
                f"layer {number} of {lock.name} came out other than locked: {_nth(made, number)} is not "
                f"{_nth(lock.layers, number)}",
                hint=f"another mmdebstrap or dpkg may be why; `ground env lock {lock.name}` takes what this one makes",
                code="image_build_failed",
            )
        return image

    def pool(self, lock: Lock, folder: Path, progress: Progress) -> set[str]:
        """Every .deb of it, and every file of its language's packages."""
        files = self._debs.fetched(lock, debs.of(lock), None, progress)
        for deb, path in files.values():
            put_into_pool(path, folder, deb.path.rpartition("/")[2], deb.sha256)
        with self._store.scratch() as scratch:
            paths = languages.fetched(lock, self._downloads, None, scratch, progress)
        for file, path in zip(lock.native.files if lock.native else (), paths, strict=True):
            put_into_pool(path, folder, file.file, file.sha256)
        return {*files, *(file.sha256 for file in (lock.native.files if lock.native else ()))}

    # --- resolving --------------------------------------------------------------------------------------------------

    def _resolved(self, recipe: Recipe, progress: Progress) -> Lock:
        """The lock but for what only its image tells."""
        architecture = _architecture()
        with self._store.scratch() as scratch:
            apt = Apt(scratch / "apt", recipe.suite, architecture)
            progress(f"fetching the indices of {recipe.suite}")
            apt.update()
            essential = apt.resolve(())
            made = Lock(
                name=recipe.environment.name,
                definition=recipe.environment.definition,
                toolchain=recipe.toolchain,
                engine=recipe.engine,
                version="",
                program="",
                builder=self.name,
                base=Base(recipe.suite, architecture, _RELEASED.get(recipe.suite, _EPOCH), tuple(essential)),
                packages=_beyond(apt.resolve(recipe.debs), essential),
            )
            outdated.keep_indices(self._store, apt, recipe.suite)
            native = languages.native(recipe, made, self._downloads, scratch, progress)
            if native is not None and (names := languages.tools(native, self._downloads)):
                native = replace(native, tools=_beyond(apt.resolve((*recipe.debs, *names)), debs.in_image(made)))
        return replace(made, native=native)

    # --- making -----------------------------------------------------------------------------------------------------

    def _image(
        self,
        lock: Lock,
        programs: Sequence[str],
        probe: Sequence[str],
        pool: Path | None,
        progress: Progress,
        probed: tuple[str, str] | None = None,
    ) -> Image:
        known = self._store.find(lock.recipe)
        if known is not None:
            return known
        with turns.alone(self._store.folder, lock.recipe, progress):
            known = self._store.find(lock.recipe)
            if known is not None:
                return known
            assert lock.base is not None  # noqa: S101
            with told_when_full(self._store.folder), self._store.scratch() as scratch:
                rootfs = Rootfs(scratch, lock.base.suite, lock.base.epoch, progress, confined=self._downloads.stranger)
                made = self._stage(lock, lock.base, rootfs, programs, probe, pool, scratch, progress)
                found = made.layers
                if lock.native is not None and lock.native.files:
                    found = (*found, self._language(lock, lock.native, rootfs, found, pool, scratch, progress))
            program, output = probed or (made.program, made.probe)
            progress("writing the image")
            return self._store.add_image(
                recipe=lock.recipe,
                builder=self.name,
                reference=own_reference(lock.engine or lock.name, lock.recipe),
                layers=found,
                config=_config(),
                epoch=lock.base.epoch,
                built_at=time.time_ns() // 1000,
                probe=output,
                program=program,
                architecture=lock.base.architecture,
            )

    def _stage(
        self,
        lock: Lock,
        base: Base,
        rootfs: Rootfs,
        programs: Sequence[str],
        probe: Sequence[str],
        pool: Path | None,
        scratch: Path,
        progress: Progress,
    ) -> Stage:
        """The layers of Debian's packages: built once for all environments that have the same ones."""
        if not lock.packages and not probe:
            return self._base(lock, base, rootfs, pool, scratch, progress)
        asked = (*programs, *probe) if probe else ()
        key = _key(base, lock.packages)
        with turns.alone(self._store.folder, f"stage-{key}", progress):
            known = self._store.stage(key)
            if known is not None and asked in ((), known.asked):
                return known
            (below,) = self._base(lock, base, rootfs, pool, scratch, progress).layers
            more = self._debs.fetched(lock, lock.packages, pool, progress)
            tar = self._tar(below, scratch)
            if not more:
                return self._store.keep_stage(key, Stage((below,), asked, *rootfs.probed((tar,), programs, probe)))
            progress(f"installing {len(more)} packages")
            full, changed = scratch / "full.tar", scratch / "packages.tar"
            found = rootfs.extended((tar,), more, full, programs, probe)
            progress("comparing with the base")
            layers.difference(tar, full, changed)
            full.unlink()
            return self._store.keep_stage(key, Stage((below, self._store.add_layer(changed)), asked, *found))

    def _base(
        self, lock: Lock, base: Base, rootfs: Rootfs, pool: Path | None, scratch: Path, progress: Progress
    ) -> Stage:
        """The suite's layer: built once for all environments that stand on the same packages."""
        key = _key(base)
        with turns.alone(self._store.folder, f"base-{key}", progress):
            known = self._store.stage(key)
            if known is not None:
                return known
            files = self._debs.fetched(lock, base.packages, pool, progress)
            progress(f"building the base of {base.suite}")
            tar = scratch / "base.tar"
            rootfs.base(files, tar)
            return self._store.keep_stage(key, Stage((self._store.add_layer(tar),)))

    def _language(
        self,
        lock: Lock,
        native: Native,
        rootfs: Rootfs,
        below: Sequence[Layer],
        pool: Path | None,
        scratch: Path,
        progress: Progress,
    ) -> Layer:
        """The layer of the language's packages: environments with the same Debian packages differ in it alone."""
        files = languages.fetched(lock, self._downloads, pool, scratch, progress)
        tools = self._debs.fetched(lock, native.tools, pool, progress)
        tars = [self._tar(each, scratch) for each in below]
        made = scratch / "language.tar"
        languages.layer(lock, rootfs, tars, files, tools, made, progress)
        return self._store.add_layer(made)

    def _tar(self, layer: Layer, scratch: Path) -> Path:
        """The layer's uncompressed tar."""
        path = scratch / f"{layer.diff}.tar"
        if not path.is_file():
            self._store.unpack(layer, path)
        return path


def _beyond(found: Iterable[Deb], known: Iterable[Deb]) -> tuple[Deb, ...]:
    """Those that are not among the known ones."""
    names = {(deb.name, deb.architecture) for deb in known}
    return tuple(deb for deb in found if (deb.name, deb.architecture) not in names)


def _key(base: Base, *more: object) -> str:
    return hashlib.sha256(repr((asdict(base), *more)).encode()).hexdigest()


def _config() -> dict[str, object]:
    return {
        "User": f"{USER}:{USER}",
        "Env": [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG=C.UTF-8",
            "LC_ALL=C.UTF-8",
            f"HOME={HOME}",
        ],
        "WorkingDir": "/ground/work",
        "Cmd": ["/bin/sh"],
    }


def _architecture() -> str:
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise Unavailable(
            f"images for {machine} cannot be built yet", hint="build on amd64 or arm64", code="no_builder"
        )
    return _ARCHITECTURES[machine]


def _nth(values: Sequence[str], number: int) -> str:
    return f"sha256:{values[number][:16]}…" if number < len(values) else "missing"
