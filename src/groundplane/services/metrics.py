"""A run's metrics: the numbers of its `metrics.json` outputs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from groundplane.spi import layout

_LARGEST = 1024 * 1024


def merged(home: Path, known: Mapping[str, Any], found: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """`known` and the files (task, sha256). Nested names are joined by dots; a name that another
    task gave already is told apart by the task's name in front."""
    result = dict(known)
    for task, sha256 in found:
        for name, value in read(layout.blob(home, sha256)).items():
            result[name if name not in result else f"{task}.{name}"] = value
    return result


def read(path: Path) -> dict[str, Any]:
    """The file's scalars by name. A file that is no JSON object, or over 1 MiB, holds none."""
    try:
        if path.stat().st_size > _LARGEST:
            return {}
        body = json.loads(path.read_bytes(), parse_constant=lambda _: None)
    except (ValueError, OSError):
        return {}
    return _flat(cast("dict[str, Any]", body), "") if isinstance(body, dict) else {}


def _flat(body: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in body.items():
        if isinstance(value, dict):
            found.update(_flat(value, f"{prefix}{name}."))  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(value, list) and len(value) == 1 and not isinstance(value[0], (dict, list)):  # pyright: ignore[reportUnknownArgumentType]
            found[prefix + name] = value[0]  # R's jsonlite writes a number as an array of one
        elif not isinstance(value, list):
            found[prefix + name] = value
    return found
