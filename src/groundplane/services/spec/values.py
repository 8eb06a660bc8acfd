"""What single keys of `ground.toml` may hold: names, texts, sizes, durations, variables."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema

from groundplane.model import environment
from groundplane.model.errors import Invalid
from groundplane.model.labels import PATTERN, is_label
from groundplane.model.parameters import parameter_text
from groundplane.model.quantities import parse_duration, parse_size

NAME_PATTERN = r"^(?!latest$)[A-Za-z0-9][A-Za-z0-9_-]{0,99}$"
NAME = re.compile(NAME_PATTERN)
_LONGEST = 366 * 86400.0  # seconds
_MOST = 2**53


def named(what: str) -> Callable[[Any], Any]:
    what = f"{'an' if what[0] in 'aeiou' else 'a'} {what}"

    def check(value: Any) -> Any:
        if isinstance(value, str) and not NAME.fullmatch(value):
            raise ValueError(
                f"'latest' stands for the newest run and is no name for {what}"
                if value == "latest"
                else f"{value!r} is no name for {what}: use letters a-z, digits, `_` and `-`, at most 100"
            )
        return value

    return check


def _text(value: Any) -> Any:
    if isinstance(value, str) and "\0" in value:
        raise ValueError("holds a NUL character, which no program can be given")
    return value


def _parameter(value: Any) -> str:
    try:
        text = parameter_text("", value)
    except Invalid:
        kind = "an array" if isinstance(value, list) else "a table"
        raise ValueError(f"is {kind}; a parameter is one text, number or true/false") from None
    return _text(text)


def _size(value: Any) -> int:
    size = 0
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        with suppress(Invalid):
            size = parse_size(value)
    if not 1 <= size < _MOST:
        raise ValueError(f'{value!r} is not a size; write it like "512MiB" or "2GiB", or as a number of bytes')
    return size


def _duration(value: Any) -> float:
    seconds = 0.0
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        with suppress(Invalid):
            seconds = parse_duration(value)
    if not 0 < seconds <= _LONGEST:
        raise ValueError(f'{value!r} is not a duration up to 366 days; write it like "30s", "10m" or "2h"')
    return seconds


def _label(value: Any) -> Any:
    if isinstance(value, str) and not is_label(value):
        raise ValueError(f"{value!r} is no label: use letters a-z, digits, `_` and `-`, like phi")
    return value


def variables(value: Any) -> Any:
    """Refuses names that the work could not get."""
    if isinstance(value, dict):
        for name in value:  # pyright: ignore[reportUnknownVariableType]
            if not environment.is_name(str(name)):  # pyright: ignore[reportUnknownArgumentType]
                raise ValueError(f"{name!r} is no name for an environment variable")
            if str(name).startswith(environment.OWN):  # pyright: ignore[reportUnknownArgumentType]
                raise ValueError(f"{name!r}: names that begin with GROUND_ are the platform's own")
    return value  # pyright: ignore[reportUnknownVariableType]


SCALAR: dict[str, Any] = {"type": ["string", "number", "boolean"]}

Text = Annotated[str, BeforeValidator(_text)]
PipelineName = Annotated[str, BeforeValidator(named("pipeline"))]
StepName = Annotated[str, BeforeValidator(named("step"))]
EnvironmentName = Annotated[str, BeforeValidator(named("environment"))]
ProjectName = Annotated[
    str, BeforeValidator(named("project")), WithJsonSchema({"type": "string", "pattern": NAME_PATTERN})
]
Parameter = Annotated[str, BeforeValidator(_parameter), WithJsonSchema(SCALAR)]
Label = Annotated[str, BeforeValidator(_label), WithJsonSchema({"type": "string", "pattern": PATTERN})]
Size = Annotated[
    int,
    BeforeValidator(_size),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*[A-Za-z]*\s*$"},
                {"type": "integer", "minimum": 1},
            ]
        }
    ),
]
Duration = Annotated[
    float,
    BeforeValidator(_duration),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^(\s*\d+(\.\d+)?\s*[A-Za-z]*\s*)+$"},
                {"type": "number", "exclusiveMinimum": 0},
            ]
        }
    ),
]


class Table(BaseModel):
    """One table of the file: keys that nobody knows are refused."""

    model_config = ConfigDict(
        extra="forbid", strict=True, defer_build=True, allow_inf_nan=False, use_attribute_docstrings=False
    )
