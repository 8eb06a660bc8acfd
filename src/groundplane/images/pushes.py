"""Which repository of a registry has got which blob from here: another one there can take it over without an upload."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path


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
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(known, sort_keys=True))
        fresh.replace(self._path)

    def _read(self) -> dict[str, str]:
        try:
            return json.loads(self._path.read_text())
        except (FileNotFoundError, ValueError):
            return {}
