"""Which repository of a registry has got which blob from here: another one there can take it over without an upload."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from groundplane.spi import files


class Pushes:
    """A note, not a truth: registries throw away what they like."""

    def __init__(self, folder: Path, registry: str) -> None:
        self._path = folder / "pushes" / f"{hashlib.sha256(registry.encode()).hexdigest()[:16]}.json"

    def repository(self, digest: str) -> str:
        """One that has the blob; "" where none is known."""
        return self._read().get(digest, "")

    def note(self, repository: str, digests: Iterable[str]) -> None:
        """They are there now."""
        known = {**self._read(), **dict.fromkeys(digests, repository)}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        files.write(self._path, json.dumps(known, sort_keys=True).encode())

    def _read(self) -> dict[str, str]:
        try:
            return json.loads(self._path.read_text())
        except (FileNotFoundError, ValueError):
            return {}


def note_image(folder: Path, manifest: str, reference: str) -> None:
    """The image with that manifest was pushed as `reference`, which has its digest."""
    path = folder / "pushes" / "images" / manifest
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, reference.encode())


def pushed_as(folder: Path, manifest: str) -> str:
    """Where the image was pushed last, with its digest; "" for nowhere."""
    try:
        return (folder / "pushes" / "images" / manifest).read_text()
    except FileNotFoundError:
        return ""
