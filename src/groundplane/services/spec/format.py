"""The file format of `ground.toml`, as pydantic models: what each key may hold, and the JSON Schema for editors.

These models know one value at a time. What values mean together (sources, cycles, conversions) is in declare.py
and resolve.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from groundplane.model import environment
from groundplane.model.errors import Invalid
from groundplane.model.parameters import parameter_text
from groundplane.model.quantities import parse_duration, parse_size

_NAME_PATTERN = r"^(?!latest$)[A-Za-z0-9][A-Za-z0-9_-]{0,99}$"
_NAME = re.compile(_NAME_PATTERN)
_LONGEST = 366 * 86400.0  # seconds
_MOST = 2**53


def _named(what: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if isinstance(value, str) and not _NAME.fullmatch(value):
            raise ValueError(
                f"'latest' stands for the newest run and is no name for a {what}"
                if value == "latest"
                else f"{value!r} is no name for a {what}: use letters a-z, digits, `_` and `-`, at most 100"
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


def _variables(value: Any) -> Any:
    if isinstance(value, dict):
        for name in value:  # pyright: ignore[reportUnknownVariableType]
            if not environment.is_name(str(name)):  # pyright: ignore[reportUnknownArgumentType]
                raise ValueError(f"{name!r} is no name for an environment variable")
            if str(name).startswith(environment.OWN):  # pyright: ignore[reportUnknownArgumentType]
                raise ValueError(f"{name!r}: names that begin with GROUND_ are the platform's own")
    return value  # pyright: ignore[reportUnknownVariableType]


_SCALAR: dict[str, Any] = {"type": ["string", "number", "boolean"]}

Text = Annotated[str, BeforeValidator(_text)]
PipelineName = Annotated[str, BeforeValidator(_named("pipeline"))]
StepName = Annotated[str, BeforeValidator(_named("step"))]
ProjectName = Annotated[
    str, BeforeValidator(_named("project")), WithJsonSchema({"type": "string", "pattern": _NAME_PATTERN})
]
Parameter = Annotated[str, BeforeValidator(_parameter), WithJsonSchema(_SCALAR)]
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


class _Table(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, defer_build=True, allow_inf_nan=False, use_attribute_docstrings=False
    )


class ResourcesTable(_Table):
    """What one task of the step may use. What is left out is not limited."""

    model_config = ConfigDict(title="Resources")

    cpus: float | None = Field(
        None, gt=0, le=100_000, title="CPUs", description="Number of CPUs; may be a fraction.", examples=[1, 0.5]
    )
    memory: Size | None = Field(
        None, title="Memory", description='A size such as "1GiB", or a number of bytes.', examples=["1GiB", "512MiB"]
    )
    gpus: int = Field(0, ge=0, le=10_000, title="GPUs", description="Number of whole devices.", examples=[0, 1])


class StepTable(_Table):
    """One step: a script (`run`) or a program (`command`), what it reads and what it leaves."""

    model_config = ConfigDict(
        title="Step",
        json_schema_extra={
            "oneOf": [
                {"required": ["run"], "not": {"required": ["command"]}},
                {"required": ["command"], "not": {"required": ["run"]}},
            ]
        },
    )

    run: Text | None = Field(
        None,
        min_length=1,
        title="Script",
        description="Path of a script in the project, of any toolchain.",
        examples=["clean.py", "model.R", "tables.sps"],
    )
    command: list[Text] | None = Field(
        None,
        min_length=1,
        title="Command",
        description="A program and its arguments, instead of `run`. No shell is involved.",
        examples=[["./tool", "--x"]],
    )
    toolchain: Text | None = Field(
        None,
        min_length=1,
        title="Toolchain",
        description="What the script is written in, where its ending does not tell.",
        examples=["python", "r", "matlab", "spss", "sas", "shell", "notebook"],
    )
    args: list[Text] = Field(
        default_factory=list[str],
        title="Arguments",
        description="Reach the script's argv as they are, after the parameters.",
        examples=[["--verbose"]],
    )
    inputs: dict[str, Text] = Field(
        default_factory=dict[str, str],
        title="Inputs",
        description=(
            "Path that the step reads = where it comes from: STEP/NAME of another step's output, else a path in the "
            "project, else a URL. Tables are converted by the two endings. A path that ends in `/` is a folder."
        ),
        examples=[{"clean.csv": "clean/clean.parquet"}, {"scores/": "score/score.csv"}],
    )
    outputs: list[Text] = Field(
        default_factory=list[str],
        title="Outputs",
        description="What the step leaves: files, globs, folders (`plots/`). One that is missing is a failure.",
        examples=[["coef.csv", "parts/*.csv", "plots/", "metrics.json"]],
    )
    params: dict[str, Parameter] = Field(
        default_factory=dict[str, str],
        title="Parameters",
        description="Parameters of this step; they win over the pipeline's, and `-p` wins over both.",
        examples=[{"family": "binomial"}],
    )
    resources: ResourcesTable | None = Field(None, title="Resources")
    retries: int = Field(
        0, ge=0, le=100, title="Retries", description="How often a failed task is tried again.", examples=[1]
    )
    timeout: Duration | None = Field(
        None,
        title="Timeout",
        description='Longest time of one attempt: "10m", "1h30m", or a number of seconds.',
        examples=["10m", "2h", 90],
    )
    for_each: dict[str, Any] | None = Field(
        None,
        title="Fan-out",
        description=(
            "One task for each file that matches a glob, or for each value of a list; `{name}` stands for it in "
            "inputs, args, command, params and env."
        ),
        examples=[{"part": "clean/parts/*.csv"}, {"region": ["north", "south"]}],
        json_schema_extra={
            "minProperties": 1,
            "maxProperties": 2,
            "properties": {
                "max_parallel": {
                    "type": "integer",
                    "minimum": 1,
                    "title": "Tasks at a time",
                    "description": "The same as the step's `max_parallel`.",
                }
            },
            "patternProperties": {
                "^(?!max_parallel$)[A-Za-z_][A-Za-z0-9_]*$": {
                    "anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "items": _SCALAR}]
                }
            },
            "additionalProperties": False,
        },
    )
    max_parallel: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        title="Tasks at a time",
        description="How many tasks of this fan-out may run at once. Without it, as many as fit.",
        examples=[4],
    )
    after: list[Text] = Field(
        default_factory=list[str],
        title="After",
        description="Steps that must have succeeded first: order without data.",
        examples=[["model"]],
    )
    rerun: bool = Field(
        True,
        title="Rerun",
        description="false: never start it again by itself once it may have begun, not even when it was lost.",
    )
    env: Annotated[dict[str, Text], BeforeValidator(_variables)] = Field(
        default_factory=dict[str, str],
        title="Environment variables",
        description="Set for this step. Not the place for secrets: the file is kept with each run.",
        examples=[{"OMP_NUM_THREADS": "1"}],
        json_schema_extra={"propertyNames": {"pattern": r"^(?!GROUND_)[A-Za-z_][A-Za-z0-9_]*$"}},
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> StepTable:
        if (self.run is None) == (self.command is None):
            said = "both `run` and `command`" if self.run is not None else "neither `run` nor `command`"
            raise ValueError(f'has {said}; say run = "script.py" or command = ["program", "argument"]')
        return self


class PipelineTable(_Table):
    """Steps and what flows between them."""

    model_config = ConfigDict(title="Pipeline")

    params: dict[str, Parameter] = Field(
        default_factory=dict[str, str],
        title="Parameters",
        description="Parameters of every step; `ground run -p NAME=VALUE` overrides.",
        examples=[{"alpha": 0.05}],
    )
    steps: dict[StepName, StepTable] = Field(
        min_length=1,
        title="Steps",
        description="The steps by name: letters a-z, digits, `_` and `-`.",
        json_schema_extra={"propertyNames": {"pattern": _NAME_PATTERN}},
    )


class ProjectTable(_Table):
    """What the project is called."""

    model_config = ConfigDict(title="Project")

    name: ProjectName = Field(
        title="Name", description="The project's name: letters a-z, digits, `_` and `-`.", examples=["trial"]
    )
    description: Text = Field("", title="Description", description="What it is about, for people.")


class GroundFile(_Table):
    """A Groundplane project: its name and its pipelines."""

    model_config = ConfigDict(title="ground.toml")

    project: ProjectTable = Field(title="Project")
    pipelines: dict[PipelineName, PipelineTable] = Field(
        default_factory=dict[str, PipelineTable],
        title="Pipelines",
        description="The pipelines by name: letters a-z, digits, `_` and `-`.",
        json_schema_extra={"propertyNames": {"pattern": _NAME_PATTERN}},
    )


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of `ground.toml`, for editors and `ground schema`."""
    body = _without_null(GroundFile.model_json_schema())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **body}


def _without_null(part: Any) -> Any:
    """TOML has no null: a key that may be left out is only not required."""
    if isinstance(part, list):
        return [_without_null(entry) for entry in part if entry != {"type": "null"}]  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(part, dict):
        return part
    body: dict[str, Any] = {
        key: _without_null(value)
        for key, value in part.items()  # pyright: ignore[reportUnknownVariableType]
        if not (key == "default" and value is None)
    }
    choices = body.get("anyOf")
    if isinstance(choices, list) and len(choices) == 1:  # pyright: ignore[reportUnknownArgumentType]
        del body["anyOf"]
        body = {**choices[0], **body}
    return body
