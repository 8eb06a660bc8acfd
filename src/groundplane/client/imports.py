"""Compiled Kubeflow pipelines as Groundplane projects: written where somebody wants them, or kept to be run."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from groundplane.client import launcher
from groundplane.client.targets import text_of
from groundplane.kubeflow import ir
from groundplane.kubeflow.importing import Imported, imported
from groundplane.model.errors import Invalid
from groundplane.model.version import VERSION


def written(file: Path, folder: Path) -> Imported:
    """Writes the pipeline in `file` into `folder`. Raises Invalid for what cannot be kept, and a folder in use."""
    if not file.is_file():
        raise Invalid(f"there is no file {str(file)!r}", hint="it is what `kfp dsl compile` wrote")
    found = imported(ir.read(text_of(file), str(file)))
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise Invalid(f"{folder} is there already, and is not empty", hint="name a new folder")
        _write(found, folder)
    except OSError as error:
        raise Invalid(f"{folder} cannot be written: {error.strerror}", hint="name another folder with -o") from None
    return found


def kept(file: Path, name: str, given: Mapping[str, str], *, images: bool) -> tuple[Path, Imported]:
    """The pipeline in `file` as a project below the home's folder, the same for the same content. name: as typed.
    given: parameters. images: whether the steps run in their components' images. Raises Invalid for one that is
    missing, and for a value that is not of its KFP type."""
    text = text_of(file)
    found = imported(ir.read(text, name), images=images)
    if missing := [each for each in found.required if each not in given]:
        raise Invalid(
            f"the pipeline {found.name!r} needs a value for {', '.join(missing)}",
            hint=" ".join(f"-p {each}=…" for each in missing),
        )
    found.check(given)
    key = hashlib.sha256(f"{VERSION} {images} {text}".encode()).hexdigest()[:16]
    folder = launcher.home_folder() / "imported" / key / found.name
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".new-"))
        try:
            _write(found, fresh)
            os.replace(fresh, folder)  # noqa: PTH105 - one step, whoever else does the same
        except OSError:
            if not folder.is_dir():
                raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return folder, found


def _write(found: Imported, folder: Path) -> None:
    for name, text in found.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
