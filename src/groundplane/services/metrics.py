"""A run's metrics: the numbers of its `metrics.json` outputs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from groundplane.spi import layout

_LARGEST = 1024 * 1024


@dataclass(frozen=True, slots=True)
class MetricsFile:
    """A task's metrics.json, or another file like it. many: whether the task is one of a fan-out's."""

    task: str
    name: str
    sha256: str
    many: bool


def merged(home: Path, known: Mapping[str, Any], files: Iterable[MetricsFile]) -> dict[str, Any]:
    """`known` and what is in the files. Nested names are joined by dots. A fan-out's have the task's name in front;
    of others, a name that is there already gets it too, and where that is taken, its file's."""
    result = dict(known)
    for file in files:
        for name, value in read(layout.blob(home, file.sha256)).items():
            forms = (name, f"{file.task}.{name}", f"{file.task}/{file.name}.{name}")[file.many :]
            result[next((form for form in forms if form not in result), forms[-1])] = value
    return result


def in_order(name: str) -> list[str | int]:
    """The key by which `score[9].auc` comes before `score[10].auc`."""
    return [int(part) if index % 2 else part for index, part in enumerate(re.split(r"(\d+)", name))]


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
