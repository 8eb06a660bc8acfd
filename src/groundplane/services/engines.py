"""Which program runs a step: found on the caller's PATH, asked for its version once."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from groundplane.model.documents import Context
from groundplane.services.platform import Platform
from groundplane.spi.toolchain import EngineSpec
from groundplane.store import caches

_PROBE_SECONDS = 60
_SHOWS_LIBRARIES = ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME", "R_LIBS", "R_LIBS_USER", "R_LIBS_SITE")


@dataclass(frozen=True, slots=True)
class Found:
    """An engine of the caller: where it is, what version it says, its library folders."""

    spec: EngineSpec
    path: str
    version: str
    libraries: tuple[str, ...]


def search_path(home: Path, context: Context) -> str:
    """The caller's PATH, absolute, then the engines that Groundplane installed for itself."""
    folders = context.variables.get("PATH", os.defpath).split(os.pathsep)
    absolute = [os.path.join(context.folder, folder) for folder in folders if folder]  # noqa: PTH118
    own = sorted(str(path) for path in (home / "engines").glob("*/bin"))
    return os.pathsep.join([*absolute, *own])


def find(platform: Platform, specs: Sequence[EngineSpec], context: Context, *, libraries: bool = True) -> Found | None:
    """The first of these engines that the caller has, with its version; None when there is none.

    libraries: whether its library folders are asked for too.
    """
    path = search_path(platform.home, context)
    for spec in specs:
        for program in spec.programs:
            located = shutil.which(program, path=path)
            if located and not _is_on(path, program):  # a script's `#!`: it may do anything with `--version`
                return Found(spec, located, "", ())
            if located:
                version, folders = _probe(platform, spec, located, context, libraries=libraries)
                return Found(spec, located, version, folders)
    return None


def _is_on(path: str, program: str) -> bool:
    """Whether the program is looked up on PATH, or lies in one of its folders."""
    return "/" not in program or os.path.dirname(program) in path.split(os.pathsep)  # noqa: PTH120


def fingerprint(folders: tuple[str, ...]) -> str:
    """Names and times of what lies in the library folders: differs when a package came, went or changed."""
    digest = hashlib.sha256()
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                rows = sorted((entry.name, _package_time(entry)) for entry in entries)
        except OSError as error:
            rows = [(error.strerror or "unreadable", 0)]
        for name, mtime in rows:
            if name != "__pycache__":
                digest.update(f"{folder}\0{name}\0{mtime}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _package_time(entry: os.DirEntry[str]) -> int:
    """When it was last written. A Python package's own folder changes when its first import leaves `__pycache__`."""
    if entry.is_dir(follow_symlinks=False):
        try:
            return os.stat(f"{entry.path}/__init__.py").st_mtime_ns  # noqa: PTH116
        except OSError:
            pass
    return entry.stat(follow_symlinks=False).st_mtime_ns


def _probe(
    platform: Platform, spec: EngineSpec, path: str, context: Context, *, libraries: bool
) -> tuple[str, tuple[str, ...]]:
    """(version, library folders), from the cache while the program is the same file in the same setting."""
    wanted = spec.libraries if libraries else ()
    if not spec.probe and not wanted:
        return "", ()
    key = _probe_key(spec.name, spec.probe, wanted, path, context.variables)
    with platform.database.read() as connection:
        known = caches.probe(connection, key)
    if known is None:
        environment = {**context.variables, "LC_ALL": "C.UTF-8"}
        match = re.search(spec.version, _ask([path, *spec.probe], environment, context.folder)) if spec.probe else None
        folders = _ask([path, *wanted], environment, context.folder).splitlines() if wanted else []
        known = (match[1] if match else "", json.dumps([line.strip() for line in folders if line.strip()]))
        if match:  # a program that would not say may say it next time
            with platform.database.write() as connection:
                caches.put_probe(connection, key, *known)
    return known[0], tuple(json.loads(known[1]))


def _probe_key(
    name: str, probe: tuple[str, ...], libraries: tuple[str, ...], path: str, variables: Mapping[str, str]
) -> str:
    status = os.stat(path)  # noqa: PTH116
    real = os.path.realpath(path)
    parts = [name, path, real, status.st_size, status.st_mtime_ns, status.st_ino, probe, libraries]
    parts += [variables.get(setting, "") for setting in _SHOWS_LIBRARIES]
    parts.append(_changed(Path(path).parent.parent / "pyvenv.cfg"))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _changed(path: Path) -> int:
    """A virtual environment's python is a link to one shared file: its configuration tells it apart."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _ask(argv: list[str], environment: Mapping[str, str], folder: str) -> str:
    """What the program prints, on either stream; "" when it cannot be asked."""
    try:
        done = subprocess.run(
            argv,
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace")
