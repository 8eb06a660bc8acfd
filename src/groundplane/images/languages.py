"""A language's own packages: locked beside Debian's, fetched, and installed as a layer above theirs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from groundplane.images import debs, layers, lockrules, renv, uv, wheels
from groundplane.images.downloads import Downloads, Gone, Wanted
from groundplane.images.rootfs import Rootfs
from groundplane.model.errors import GroundError, Invalid, Unavailable
from groundplane.model.locks import Base, Deb, File, Lock, Native
from groundplane.spi.images import Progress, Recipe

# Folders that Debian's own packages have already: their owners and modes are not ours to set.
_BELOW = frozenset({"usr", *(f"usr/local{name}" for name in ("", "/bin", "/etc", "/include", "/lib", "/share"))})


def native(recipe: Recipe, lock: Lock, downloads: Downloads, scratch: Path, progress: Progress) -> Native | None:
    """What the recipe asks for beyond Debian's packages, which `lock` has already; None for nothing. Its `tools` are
    not told yet."""
    if recipe.toolchain == "r":
        return _renv(recipe, lock, downloads, progress) if recipe.native else None
    if recipe.toolchain not in ("python", "notebook") or not (recipe.native or recipe.python):
        return None
    return _pylock(recipe, lock, downloads, scratch, progress)


def fetched(lock: Lock, downloads: Downloads, pool: Path | None, scratch: Path, progress: Progress) -> list[Path]:
    """The files of its packages, in their order. Where they lie is the index's to say: the lock's addresses are asked
    after those that it has now."""
    if lock.native is None:
        return []
    files = lock.native.files
    absent = [file for file in files if not downloads.has(file.sha256, file.size)]
    near: Mapping[str, Sequence[str]] = {}
    if absent and pool is None:
        near = _addresses(lock, lock.native, absent, scratch, progress)
    wanted = [
        Wanted(file.file, file.sha256, file.size, tuple(near.get(file.sha256, ())), (file.url,)) for file in files
    ]
    return downloads.get_all(wanted, pool, progress)


def layer(
    lock: Lock,
    rootfs: Rootfs,
    below: Sequence[Path],
    files: Sequence[Path],
    tools: Mapping[str, tuple[Deb, Path]],
    target: Path,
    progress: Progress,
) -> None:
    """Writes the layer (a tar) of the language's packages. below: the layers that it stands on."""
    if lock.native is None or lock.base is None:
        raise ValueError(f"{lock.name} has no packages of a language")
    named = {file.file: path for file, path in zip(lock.native.files, files, strict=True)}
    progress(f"installing {len(named)} packages of {'R' if lock.native.kind == 'renv' else 'Python'}")
    if lock.native.kind == "renv":
        script = renv.install_script(lock.native.files, lock.base.epoch)
        rootfs.filled(below, tools, renv.FOLDER, named, script)
        place = renv.FOLDER
    else:
        python = _target(lock)
        place = wheels.places(python)["purelib"]
        folder = rootfs.tree.with_name("wheels")
        folder.mkdir()
        for name, path in named.items():  # what a wheel is, its name says
            (folder / name).symlink_to(path.absolute())
        wheels.unpack([folder / name for name in sorted(named)], python, rootfs.tree)
        rootfs.filled(below, {}, place, {}, wheels.compile_script(python))
    parents = {parent.as_posix() for parent in Path(place.lstrip("/")).parents}
    layers.tree(rootfs.tree, target, lock.base.epoch, below=_BELOW | parents | {place.lstrip("/")})


def outdated(lock: Lock, downloads: Downloads, scratch: Path, progress: Progress) -> list[tuple[str, str, str]]:
    """(package, its locked version, the newest one that its index has now), where they differ. What an index does not
    know is left out; an index that cannot be read is told."""
    if lock.native is None or not lock.native.files:
        return []
    files = lock.native.files
    try:
        if lock.native.kind == "renv":
            latest = renv.latest(lock.native.text, downloads)
            return [(f.name, f.version, v) for f in files if renv.newer(v := latest.get(f.name, f.version), f.version)]
        newest = uv.newest([file.name for file in files], _target(lock), scratch)
        return [(f.name, f.version, v) for f in files if wheels.newer(v := newest.get(f.name, f.version), f.version)]
    except Unavailable as error:
        progress(f"{lock.name}: {error.message}")
        return []


def _pylock(recipe: Recipe, lock: Lock, downloads: Downloads, scratch: Path, progress: Progress) -> Native:
    target, folder = _target(lock), recipe.folder or scratch
    wheels.checked(recipe.python, recipe.environment.name)
    if recipe.native == "uv.lock":
        text = uv.exported(folder)
    elif recipe.native:
        text = _text(folder / recipe.native)
    else:
        progress(f"resolving packages for Python {target.python}")
        if downloads.stranger and (own := uv.settings(folder)):
            progress(f"warning: {own} says how uv works, and does not count here: {uv.INDEX}")
        text = uv.resolve(recipe.python, target, scratch if downloads.stranger else folder)
    named = recipe.native or "what uv resolved"
    files = wheels.chosen(text, target, named)
    found = Native("pylock", text, hashlib.sha256(text.encode()).hexdigest(), files)
    lockrules.check_native(found, named)
    paths = fetched(replace(lock, native=found), downloads, None, scratch, progress)
    sized = tuple(replace(file, size=path.stat().st_size) for file, path in zip(files, paths, strict=True))
    return replace(found, files=sized)


def _renv(recipe: Recipe, lock: Lock, downloads: Downloads, progress: Progress) -> Native:
    text = _text((recipe.folder or Path()) / recipe.native)
    version, packages = renv.read(text)
    has = next((each.version for each in debs.in_image(lock) if each.name == "r-base-core"), "")
    if told := renv.differs(version, re.sub(r"-.*", "", has)):
        progress(f"warning: {told}")
    files: list[File] = []
    for package in renv.missing(packages, debs.in_image(lock)):
        name = f"{package.name}_{package.version}.tar.gz"
        try:
            near, named = renv.addresses(package)
            path, url = downloads.discover(name=name, urls=near, named=named, progress=progress)
        except Gone as gone:
            raise Invalid(
                f"renv.lock: no repository has {package.name} {package.version}: {gone.message}",
                hint=f"R.Repositories of renv.lock names them; {renv.OVERRIDE} another one",
                code="unknown_package",
            ) from gone
        files.append(File(package.name, package.version, name, url, path.name, path.stat().st_size))
    made = Native("renv", text, hashlib.sha256(text.encode()).hexdigest(), tuple(files))
    lockrules.check_native(made, recipe.native)
    return made


def tools(found: Native, downloads: Downloads) -> tuple[str, ...]:
    """Debian packages that its sources are compiled with."""
    if found.kind != "renv":
        return ()
    needed = [file for file in found.files if renv.compiles(downloads.path(file.sha256), file.file)]
    return (renv.COMPILERS,) if needed else ()


def _addresses(
    lock: Lock, found: Native, files: Sequence[File], scratch: Path, progress: Progress
) -> Mapping[str, Sequence[str]]:
    if found.kind == "renv":
        return {file.sha256: renv.mirrored(file) for file in files}
    try:
        return {sha256: [url] for sha256, url in uv.addresses(files, _target(lock), scratch).items()}
    except GroundError as error:
        progress(f"the lock's own addresses are taken: {error.message}")
        return {}


def _target(lock: Lock) -> uv.Target:
    base = lock.base or Base("", "", 0)
    return wheels.target(debs.in_image(lock), base.architecture)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode().replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise Invalid(f"{path.name} is not UTF-8 text", hint="write it anew with the tool that made it") from None
    except FileNotFoundError:
        raise Invalid(f"{path.name} is gone", hint="write it anew, or name `packages` in ground.toml") from None
