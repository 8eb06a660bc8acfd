"""Images from Debian's packages: no registry, no Docker, and no network when there is a pool."""

from __future__ import annotations

import hashlib
import platform
import re
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import quote

from groundplane.images import apt as archives
from groundplane.images import turns
from groundplane.images.apt import Apt
from groundplane.images.downloads import Downloads, Gone, put_into_pool
from groundplane.images.rootfs import HOME, USER, Rootfs
from groundplane.images.store import ImageStore, own_reference
from groundplane.model.errors import Invalid, Unavailable
from groundplane.model.locks import Base, Deb, Lock
from groundplane.spi.images import Image, Layer, Progress, Recipe

_RELEASED = {"bullseye": 1628899200, "bookworm": 1686355200, "trixie": 1754697600}
_EPOCH = 1754697600
"""Seconds: no file of an image is younger than its suite's release (others': trixie's). A date of today would make the
same packages another image every day."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class _Made:
    layers: tuple[Layer, ...]
    program: str
    probe: str


class DebianBuilder:
    """See `spi.images.Builder`."""

    name = "debian"

    def __init__(self, store: ImageStore, downloads: Downloads) -> None:
        self._store = store
        self._downloads = downloads

    def lock(self, recipe: Recipe, progress: Progress) -> Lock:
        """Resolves against the mirrors as they are now, builds, and probes the engine in what was built."""
        _check_languages(recipe)
        architecture = _architecture()
        environment = recipe.environment
        with self._store.scratch() as scratch:
            apt = Apt(scratch / "apt", recipe.suite, architecture)
            progress(f"fetching the indices of {recipe.suite}")
            apt.update()
            essential = apt.resolve(())
            names = {(deb.name, deb.architecture) for deb in essential}
            more = [deb for deb in apt.resolve(recipe.debs) if (deb.name, deb.architecture) not in names]
            self._keep_indices(apt, recipe.suite)
        base = Base(recipe.suite, architecture, _RELEASED.get(recipe.suite, _EPOCH), tuple(essential))
        made = Lock(
            name=environment.name,
            definition=environment.definition,
            toolchain=recipe.toolchain,
            engine=recipe.engine,
            version="",
            program="",
            builder=self.name,
            base=base,
            packages=tuple(more),
        )
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
        image = self._image(lock, (), (), pool, progress, probed=(lock.program, lock.probe))
        made = tuple(layer.diff for layer in image.layers)
        if lock.layers and made != lock.layers:
            self._store.remove(image.recipe)
            pairs = zip(made, lock.layers, strict=False)
            number = next((n for n, (is_, was) in enumerate(pairs) if is_ != was), min(len(made), len(lock.layers)))
            raise Unavailable(
                f"layer {number} of {lock.name} came out other than locked: {_nth(made, number)} is not "
                f"{_nth(lock.layers, number)}",
                hint=f"another mmdebstrap or dpkg may be why; `ground env lock {lock.name}` takes what this one makes",
                code="image_build_failed",
            )
        return image

    def pool(self, lock: Lock, folder: Path, progress: Progress) -> int:
        """Every .deb of it."""
        files = self._fetched(lock, _debs(lock), None, progress)
        for deb, path in files.values():
            put_into_pool(path, folder, deb.path.rpartition("/")[2], deb.sha256)
        return len(files)

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
        found = self._store.find(lock.recipe)
        if found is not None:
            return found
        if turns.busy(self._store.folder, lock.recipe):
            progress("waiting for another build of the same image")
        with turns.alone(self._store.folder, lock.recipe):
            found = self._store.find(lock.recipe)
            if found is not None:
                return found
            assert lock.base is not None  # noqa: S101
            with self._store.scratch() as scratch:
                made = self._layers(lock, lock.base, programs, probe, pool, scratch, progress)
            program, output = probed or (made.program, made.probe)
            progress("writing the image")
            return self._store.add_image(
                recipe=lock.recipe,
                builder=self.name,
                reference=own_reference(lock.engine or lock.name, lock.recipe),
                layers=made.layers,
                config=_config(),
                epoch=lock.base.epoch,
                built_at=time.time_ns() // 1000,
                probe=output,
                program=program,
                architecture=lock.base.architecture,
            )

    def _layers(
        self,
        lock: Lock,
        base: Base,
        programs: Sequence[str],
        probe: Sequence[str],
        pool: Path | None,
        scratch: Path,
        progress: Progress,
    ) -> _Made:
        from groundplane.images import layers

        rootfs = Rootfs(scratch, base.suite, base.epoch, progress)
        below, base_tar = self._base(lock, base, rootfs, pool, scratch, progress)
        more = self._fetched(lock, lock.packages, pool, progress)
        found, program, output = [below], "", ""
        if more:
            progress(f"installing {len(more)} packages")
            full, changed = scratch / "full.tar", scratch / "packages.tar"
            program, output = rootfs.extended(base_tar, more, full, programs, probe)
            progress("comparing with the base")
            layers.difference(base_tar, full, changed)
            full.unlink()
            found.append(self._store.add_layer(changed))
            changed.unlink()
        elif programs and probe:
            program, output = rootfs.probed(base_tar, programs, probe)
        return _Made(tuple(found), program, output)

    def _base(
        self, lock: Lock, base: Base, rootfs: Rootfs, pool: Path | None, scratch: Path, progress: Progress
    ) -> tuple[Layer, Path]:
        """The suite's layer and its tar: built once for all environments that stand on the same packages."""
        key = hashlib.sha256(repr(asdict(base)).encode()).hexdigest()
        tar = scratch / "base.tar"
        with turns.alone(self._store.folder, f"base-{key}"):
            known = self._store.base(key)
            if known is not None:
                self._store.unpack(known, tar)
                return known, tar
            debs = self._fetched(lock, base.packages, pool, progress)
            progress(f"building the base of {base.suite}")
            rootfs.base(debs, tar)
            layer = self._store.add_layer(tar)
            self._store.keep_base(key, layer)
            return layer, tar

    def _fetched(
        self, lock: Lock, debs: Iterable[Deb], pool: Path | None, progress: Progress
    ) -> dict[str, tuple[Deb, Path]]:
        """sha256 -> the package and its file."""
        wanted = list(debs)

        def fetch(deb: Deb) -> tuple[Deb, Path]:
            root = archives.mirror(deb.archive) or archives.mirror("debian")
            urls = [f"{root}/{quote(deb.path)}"]
            name = deb.path.rpartition("/")[2]
            return deb, self._downloads.get(
                name=name, sha256=deb.sha256, size=deb.size, urls=urls, pool=pool, progress=progress
            )

        try:
            with ThreadPoolExecutor(_AT_ONCE) as threads:
                return {deb.sha256: (deb, path) for deb, path in threads.map(fetch, wanted)}
        except Gone as gone:
            raise self._moved_on(lock, gone) from gone

    def _moved_on(self, lock: Lock, gone: Gone) -> Unavailable:
        """The same with what the suite has now instead."""
        suite = lock.base.suite if lock.base else ""
        deb = next((each for each in _debs(lock) if each.path.rpartition("/")[2] in gone.message), None)
        if deb is None:
            return gone
        try:
            with self._store.scratch() as scratch:
                apt = Apt(scratch / "apt", suite, deb.architecture if deb.architecture != "all" else _architecture())
                apt.update()
                now = apt.version(deb.name)
        except Unavailable:
            now = ""
        said = f"{suite} has {now} now" if now else f"{suite} has none now"
        return Unavailable(
            f"{deb.name} {deb.version} is gone from the mirror of {suite}: {said}",
            hint=f"a pool made by `ground env pool {lock.name} -o DIR` would have kept it (build with --offline DIR); "
            f"`ground env lock {lock.name}` moves on",
            code="package_gone",
        )

    def _keep_indices(self, apt: Apt, suite: str) -> None:
        from groundplane.images import outdated

        for archive, name in (("debian", suite), ("debian-security", f"{suite}-security")):
            if text := apt.index(archive):
                outdated.keep_index(self._store.folder, name, text)


def _debs(lock: Lock) -> tuple[Deb, ...]:
    return (*(lock.base.packages if lock.base else ()), *lock.packages)


def _check_languages(recipe: Recipe) -> None:
    """Raises Invalid where an image would lack what the project asks for."""
    own = [
        name for name in ("pylock.toml", "uv.lock", "renv.lock") if recipe.folder and (recipe.folder / name).is_file()
    ]
    counts = {"python": own[:1] if "renv.lock" not in own[:1] else [], "r": ["renv.lock"] if "renv.lock" in own else []}
    found = [*recipe.python, *counts.get(recipe.toolchain, [])]
    if found:
        raise Invalid(
            f"environment {recipe.environment.name!r} needs {', '.join(found)}, which cannot be put into an image yet",
            hint='system_packages = ["python3-pandas", …] are those of the Debian suite, and so are R\'s `packages`',
            code="not_built_yet",
        )


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
