"""pydantic's errors in the words of `ground.toml`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from groundplane.services.spec.format import (
    EnvironmentTable,
    GpuTable,
    GroundFile,
    InputTable,
    PipelineTable,
    ProjectTable,
    ResourcesTable,
    StepTable,
)
from groundplane.services.spec.problems import Problems, listed, meant

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_KINDS = {
    "string_type": "a text in quotes",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "list_type": 'an array, like ["a", "b"]',
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}
_BOUNDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than": lambda bound: f"must be more than {bound['gt']:g}",
    "greater_than_equal": lambda bound: f"must be at least {bound['ge']}",
    "less_than_equal": lambda bound: f"must be at most {bound['le']}",
}
_PATTERNS = {"cuda": 'is no CUDA version; write it like "12.4"'}
_MISSING = {
    "project": ("has no [project]", 'begin the file with [project] and name = "…"'),
    "name": ("has no `name`", 'add name = "…"'),
    "steps": ("has no steps", 'add one: [pipelines.NAME.steps.first] with run = "script.py"'),
}


def tell(error: ValidationError, problems: Problems) -> None:
    """Adds each of pydantic's errors with its place in the file."""
    for entry in error.errors(include_url=False):
        # pydantic says that it was about a key by a last part of `[key]`.
        place = [str(part) for part in entry["loc"] if part != "[key]"]
        kind, given, bound = entry["type"], entry["input"], entry.get("ctx", {})
        if kind == "extra_forbidden":
            _unknown(problems, place)
        elif kind == "missing":
            message, hint = _MISSING.get(place[-1], (f"has no `{place[-1]}`", ""))
            problems.add(_path(place[:-1]), message, hint)
        elif kind == "value_error":
            problems.add(_path(place), str(bound["error"]))
        elif kind in ("too_short", "string_too_short"):
            problems.add(_path(place), "is empty", _MISSING["steps"][1] if place[-1] == "steps" else "")
        elif kind in _KINDS:
            problems.add(_path(place), f"{_shown(given)} is not {_KINDS[kind]}")
        elif kind == "string_pattern_mismatch":
            problems.add(_path(place), f"{given!r} {_PATTERNS[place[-1]]}")
        elif kind in _BOUNDS:
            problems.add(_path(place), f"{given!r} {_BOUNDS[kind](bound)}")
        else:
            problems.add(_path(place), entry["msg"])


def _unknown(problems: Problems, place: Sequence[str]) -> None:
    *parents, key = place
    known = [field.alias or name for name, field in _table(parents).model_fields.items()]
    if _table(parents) is StepTable and key in ResourcesTable.model_fields:
        problems.add(
            _path(parents), f"unknown key {key!r}; it belongs into `resources`", f"resources = {{ {key} = … }}"
        )
    elif _table(parents) is ResourcesTable and key in StepTable.model_fields:
        problems.add(_path(parents), f"unknown key {key!r}; it belongs to the step itself")
    else:
        problems.add(
            _path(parents), f"unknown key {key!r}{meant(key, known)}", f"known keys: {listed(known, limit=20)}"
        )


def _table(place: Sequence[str]) -> type[BaseModel]:
    """The table that lies at that place of the file."""
    if not place:
        return GroundFile
    if place[0] == "project":
        return ProjectTable
    if place[0] == "environments":
        return EnvironmentTable if len(place) == 2 else GpuTable
    if len(place) == 6 and place[4] == "inputs":
        return InputTable
    return {2: PipelineTable, 4: StepTable}.get(len(place), ResourcesTable)


def _path(place: Sequence[str]) -> str:
    """`pipelines.analysis.steps.model`, quoted where TOML would quote."""
    return ".".join(part if _BARE.fullmatch(part) else f'"{part}"' for part in place)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "a table"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
