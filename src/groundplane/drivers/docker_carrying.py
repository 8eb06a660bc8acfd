"""The working copy on its way to an engine that does not share this host's files, and back."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from groundplane.model.errors import Unavailable
from groundplane.oci.engine import Engine
from groundplane.oci.pieces import Pieces

_CHUNK = 1 << 20
_SECRET = 0o400
_BEFORE = 946684800
"""2000-01-01: the time of every file that is carried over. What has another one afterwards was written there."""


def carry(engine: Engine, container: str, folders: Mapping[str, str], user: str) -> None:
    """Puts the folders of this host into the container, which has not started. folders: path there -> folder here.

    Each is sent by its name into the folder above it: an engine gives no owner to the folder that it puts things into.
    All is writable there (what an overlay shows from below are the store's files, which are not) but secrets.
    """
    owner, _, group = user.partition(":")
    for there, here in folders.items():
        above, name = os.path.split(there)
        for mode, parts in (("u+rwX", ["."]), (f"{_SECRET:o}", _secrets(here))):
            if not parts:
                continue
            argv = [
                "tar", "-C", here, f"--mtime=@{_BEFORE}", f"--owner={owner}", f"--group={group}", f"--mode={mode}",
                f"--transform=flags=rh;s,^\\.,{name},", "-cf", "-", "--", *parts,
            ]  # fmt: skip
            for _ in engine.stream("PUT", f"/containers/{container}/archive", {"path": above}, _output(argv)):
                pass  # it answers with nothing


def _secrets(here: str) -> list[str]:
    """What the agent has put there as a `PrivateFile` that is not writable: nothing else has that mode."""
    found = [Path(folder, name) for folder, _, files in os.walk(here) for name in files]
    private = [path for path in found if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) == _SECRET]
    return [f"./{path.relative_to(here)}" for path in private]


def fetch(engine: Engine, container: str, folders: Mapping[str, str]) -> None:
    """Brings back what was written, and deletes here what was deleted there. The container has ended."""
    import tarfile

    for there, here in folders.items():
        kept = {"."}
        pieces = engine.stream("GET", f"/containers/{container}/archive", {"path": f"{there}/."})
        with tarfile.open(fileobj=Pieces(pieces), mode="r|") as source:
            for member in source:
                name = os.path.normpath(member.name)
                kept.add(name)
                if member.isfile() and member.mtime == _BEFORE:
                    continue
                try:
                    source.extract(member, here, filter="data")
                except (tarfile.FilterError, FileExistsError) as error:
                    sys.stderr.write(f"groundplane: not brought back: {name}: {error}\n")
        _delete_others(here, kept)


def _delete_others(here: str, kept: set[str]) -> None:
    for folder, folders, files in os.walk(here, topdown=False):
        for path in (Path(folder, name) for name in (*files, *folders)):
            if str(path.relative_to(here)) in kept:
                continue
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()


def _output(argv: list[str]) -> Iterator[bytes]:
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None  # noqa: S101
        while piece := process.stdout.read(_CHUNK):
            yield piece
        said = process.stderr.read().decode(errors="replace").strip()
    if process.returncode:
        raise Unavailable(f"the working copy could not be carried to the engine: {said}")
