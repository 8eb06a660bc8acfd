"""Artifacts as files of the user's: whole or not at all, and never outside the folder that was named."""

from __future__ import annotations

import os
import sys
from pathlib import Path, PurePosixPath

from groundplane.client import Client
from groundplane.model.documents import ArtifactDocument
from groundplane.model.errors import Invalid


def check_folder(folder: Path) -> None:
    """Raises Invalid when --out names what is no folder, or none that can be written: before anything starts."""
    if folder.exists() and not folder.is_dir():
        raise Invalid(f"--out {folder} is not a folder", hint="name a folder; it is made when there is none")
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise Invalid(f"--out {folder} cannot be written in {there}", hint="name a folder that you can write")


def deliver(client: Client, run_id: str, folder: Path, *, lone: bool) -> list[Path]:
    """Puts a run's artifacts into the folder: a lone script's at their names, a pipeline's at TASK/NAME."""
    written: list[Path] = []
    for artifact in client.artifacts(run_id):
        path = place(folder, artifact.output if lone else artifact.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_inside(folder, path)
        fetch(client, run_id, artifact, path)
        written.append(path)
    return written


def place(folder: Path, name: str) -> Path:
    """Where an artifact of that name goes. Raises Invalid for a name that would leave the folder."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts:
        raise Invalid(f"the artifact {name!r} would leave {folder}", hint="fetch it alone: ground artifacts get … -o")
    return folder.joinpath(*parts)


def _check_inside(folder: Path, path: Path) -> None:
    """A link among the folders on the way must not lead out."""
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise Invalid(f"{path.parent} is a link out of {folder}", hint="remove the link, or choose another --out")


def fetch(client: Client, run_id: str, artifact: ArtifactDocument, path: Path) -> None:
    """Writes one artifact beside its place, checks it, and renames it into it."""
    if path.is_dir():
        raise Invalid(f"{path} is a folder", hint="name a file, or remove the folder")
    temporary = path.with_name(f".ground-{os.getpid()}.part")  # its own name might leave no room for an ending
    try:
        with temporary.open("wb") as file:
            for piece in client.download(run_id, artifact.name):
                file.write(piece)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def print_content(client: Client, run_id: str, name: str) -> None:
    """Writes one artifact to standard output."""
    for piece in client.download(run_id, name):
        sys.stdout.buffer.write(piece)
