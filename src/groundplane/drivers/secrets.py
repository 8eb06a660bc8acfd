"""Secrets among a backend's options: the database holds none, they lie in the home, for its owner alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from groundplane.model.errors import Unavailable
from groundplane.spi import files


def keep(home: Path, name: str, secrets: Mapping[str, str]) -> None:
    """Puts the backend's into a file of mode 0600."""
    path = _path(home, name)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.write(path, json.dumps(dict(secrets)).encode(), mode=0o600, durable=True)


def read(home: Path, name: str) -> dict[str, str]:
    """The backend's. Raises Unavailable where the home does not have them, or has them damaged."""
    path = _path(home, name)
    try:
        found = json.loads(path.read_bytes())
        return {str(key): str(value) for key, value in found.items()}
    except FileNotFoundError:
        said = "is not there"
    except (OSError, ValueError, AttributeError) as error:
        said = f"is damaged: {error}"
    raise unreadable(home, name, said)


def unreadable(home: Path, name: str, said: str) -> Unavailable:
    """The error for credentials that are not here, or are damaged."""
    return Unavailable(
        f"the credentials of backend {name!r} cannot be read: {_path(home, name)} {said}",
        hint=f"`ground backends add {name}` with the options it was added with gives them again; runs go on then",
        code="backend_unavailable",
    )


def forget(home: Path, name: str) -> None:
    """The backend's are gone."""
    _path(home, name).unlink(missing_ok=True)


def _path(home: Path, name: str) -> Path:
    return home / "backends" / f"{name}.json"
