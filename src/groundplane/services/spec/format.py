"""The file format of `ground.toml`, as pydantic models: its tables, and the JSON Schema for editors.

These models know one value at a time. What values mean together (sources, cycles, conversions) is in declare.py
and resolve.py.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from groundplane.model.labels import KNOWN
from groundplane.services.spec.values import (
    NAME_PATTERN,
    SCALAR,
    Duration,
    EnvironmentName,
    Label,
    Parameter,
    PipelineName,
    ProjectName,
    Size,
    StepName,
    Table,
    Text,
    variables,
)

_LABELS: list[Any] = [["phi"], list(KNOWN)]


class InputTable(Table):
    """Where a path that a step reads comes from, and what is said of that data."""

    model_config = ConfigDict(title="Input")

    source: Text = Field(alias="from", title="Source", description="Where it comes from.", examples=["data/visits.csv"])
    labels: list[Label] = Field(
        default_factory=list[str],
        title="Labels",
        description="What this data is, such as `phi`: whatever is made from it is, too.",
        examples=_LABELS,
    )


def _input(value: Any) -> Any:
    if isinstance(value, (str, dict)):
        return {"from": value} if isinstance(value, str) else value  # pyright: ignore[reportUnknownVariableType]
    raise ValueError(f"{value!r} is not a text in quotes, nor a table that begins with `from`")


class _TextToo:
    """In the schema: a text is the table with `from` alone."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, handler(core)]}


class ResourcesTable(Table):
    """What one task of the step may use. What is left out is not limited."""

    model_config = ConfigDict(title="Resources")

    cpus: float | None = Field(
        None, gt=0, le=100_000, title="CPUs", description="Number of CPUs; may be a fraction.", examples=[1, 0.5]
    )
    memory: Size | None = Field(
        None, title="Memory", description='A size such as "1GiB", or a number of bytes.', examples=["1GiB", "512MiB"]
    )
    gpus: int | None = Field(
        None,
        ge=0,
        le=10_000,
        title="GPUs",
        description="Number of whole devices; the environment's `gpu.count` where it is not said.",
        examples=[0, 1],
    )
    nodes: int | None = Field(
        None,
        ge=1,
        le=10_000,
        title="Nodes",
        description="How many nodes run the step at once and find each other as torchrun does; all else is of each.",
        examples=[2, 4],
    )


class GpuTable(Table):
    """What kind of GPU the work needs. Compared with the image's CUDA libraries and the host before anything starts."""

    model_config = ConfigDict(title="GPU")

    count: int = Field(
        0,
        ge=0,
        le=10_000,
        title="Devices",
        description="How many, where the step's resources do not say.",
        examples=[1],
    )
    memory: Size | None = Field(
        None, title="Memory", description='What each device must have at least, such as "16GiB".', examples=["16GiB"]
    )
    cuda: Annotated[str, Field(pattern=r"^\d+(\.\d+)?$")] | None = Field(
        None, title="CUDA", description="The least CUDA version that the driver must support.", examples=["12.4"]
    )


class EnvironmentTable(Table):
    """A toolchain in a version with its packages, or an image that somebody else made."""

    model_config = ConfigDict(
        title="Environment",
        json_schema_extra={
            "oneOf": [
                {"required": ["toolchain"], "not": {"anyOf": [{"required": ["image"]}, {"required": ["from"]}]}},
                {"required": ["image"], "not": {"anyOf": [{"required": ["toolchain"]}, {"required": ["from"]}]}},
                {"required": ["from"], "not": {"anyOf": [{"required": ["toolchain"]}, {"required": ["image"]}]}},
            ]
        },
    )

    toolchain: Text | None = Field(
        None,
        min_length=1,
        title="Toolchain",
        description="A toolchain or engine, with `@` and the beginning of a version.",
        examples=["r@4.5", "python@3.13", "octave@9", "pspp@2.0", "matlab@R2024b"],
    )
    packages: list[Text] = Field(
        default_factory=list[str],
        title="Packages",
        description="The language's own packages: Python's by uv, R's and Octave's as the Debian suite has them.",
        examples=[["pandas>=2", "pyarrow"], ["jsonlite", "survival"]],
    )
    system_packages: list[Text] = Field(
        default_factory=list[str],
        title="System packages",
        description="Packages of the Debian suite.",
        examples=[["libgdal32", "curl"]],
    )
    gpu: GpuTable | None = Field(None, title="GPU")
    engine: Text | None = Field(
        None,
        min_length=1,
        title="Engine",
        description="Which engine of the toolchain, where its name does not tell.",
        examples=["octave", "pspp"],
    )
    image: Text | None = Field(
        None,
        min_length=1,
        title="Image",
        description="An image that somebody else made, as Docker names it.",
        examples=["rocker/r-ver:4.4.2", "mathworks/matlab:r2024b"],
    )
    dockerfile: Text | None = Field(
        None,
        alias="from",
        min_length=1,
        title="Dockerfile",
        description="A Dockerfile of the project; its folder is the build's context.",
        examples=["Dockerfile", "docker/Dockerfile"],
    )

    @model_validator(mode="after")
    def _one_of_three(self) -> EnvironmentTable:
        said = [f"`{name}`" for name, value in self._bases().items() if value is not None]
        if len(said) != 1:
            told = " and ".join(said) if said else "none of `toolchain`, `image` and `from`"
            raise ValueError(f'has {told}; say one of toolchain = "r@4.5", image = "…", from = "Dockerfile"')
        if self.toolchain is None and (self.packages or self.system_packages):
            raise ValueError(f"has packages beside {said[0]}; an image has what it has: build on it with a Dockerfile")
        return self

    def _bases(self) -> dict[str, str | None]:
        return {"toolchain": self.toolchain, "image": self.image, "from": self.dockerfile}


class StepTable(Table):
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
    inputs: dict[str, Annotated[InputTable, BeforeValidator(_input), _TextToo()]] = Field(
        default_factory=dict[str, InputTable],
        title="Inputs",
        description=(
            "Path that the step reads = where it comes from: STEP/NAME of another step's output, else a path in the "
            "project, else a URL, else a query (`connection:NAME?sql=select …`). Tables are converted by the two "
            "endings. A path that ends in `/` is a folder."
        ),
        examples=[
            {"clean.csv": "clean/clean.parquet"},
            {"scores/": "score/score.csv"},
            {"visits.csv": {"from": "data/visits.csv", "labels": ["phi"]}},
        ],
    )
    labels: list[Label] = Field(
        default_factory=list[str],
        title="Labels",
        description="What the step makes is, beside what that is which it reads.",
        examples=_LABELS,
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
                    "anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "items": SCALAR}]
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
    env: Annotated[dict[str, Text], BeforeValidator(variables)] = Field(
        default_factory=dict[str, str],
        title="Environment variables",
        description="Set for this step. Not the place for secrets: the file is kept with each run.",
        examples=[{"OMP_NUM_THREADS": "1"}],
        json_schema_extra={"propertyNames": {"pattern": r"^(?!GROUND_)[A-Za-z_][A-Za-z0-9_]*$"}},
    )
    secrets: dict[str, Text] = Field(
        default_factory=dict[str, str],
        title="Secrets",
        description="What the step gets (a variable in upper case, or a file's path) = name of a secret.",
        examples=[{"API_TOKEN": "api-token", "key.pem": "tls-key"}],
    )
    connections: list[Text] = Field(
        default_factory=list[str],
        title="Connections",
        description="Databases and buckets that the step is told how to reach (`ground connections add`).",
        examples=[["warehouse"]],
    )
    scopes: list[Text] = Field(
        default_factory=list[str],
        title="Scopes",
        description="What its work may do at the control plane for the run's account: it gets a token while it runs.",
        examples=[["run.submit", "artifact.*"]],
    )
    environment: Text | None = Field(
        None,
        min_length=1,
        title="Environment",
        description="The environment that it runs in, one of [environments].",
        examples=["r45"],
    )
    on: Text | None = Field(
        None, min_length=1, title="Backend", description="Where it runs.", examples=["docker", "local"]
    )
    network: bool | None = Field(
        None,
        title="Network",
        description="Whether it may reach a network. In a container, or where an account runs it beside the control "
        "plane, it may not unless said.",
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> StepTable:
        if (self.run is None) == (self.command is None):
            said = "both `run` and `command`" if self.run is not None else "neither `run` nor `command`"
            raise ValueError(f'has {said}; say run = "script.py" or command = ["program", "argument"]')
        return self


class PipelineTable(Table):
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
        json_schema_extra={"propertyNames": {"pattern": NAME_PATTERN}},
    )


class ProjectTable(Table):
    """What the project is called, and what holds for all of its steps."""

    model_config = ConfigDict(title="Project")

    name: ProjectName = Field(
        title="Name", description="The project's name: letters a-z, digits, `_` and `-`.", examples=["trial"]
    )
    description: Text = Field("", title="Description", description="What it is about, for people.")
    environment: Text | None = Field(
        None,
        min_length=1,
        title="Environment",
        description="The environment of steps that name none.",
        examples=["r45"],
    )
    on: Text | None = Field(
        None, min_length=1, title="Backend", description="Where steps run that do not say it.", examples=["docker"]
    )
    network: bool | None = Field(
        None, title="Network", description="Whether steps that do not say it may reach a network."
    )
    labels: list[Label] = Field(
        default_factory=list[str],
        title="Labels",
        description="What all data of the project is, and so all that is made from it.",
        examples=_LABELS,
    )


class GroundFile(Table):
    """A Groundplane project: its name, its pipelines and the environments that they run in."""

    model_config = ConfigDict(title="ground.toml")

    project: ProjectTable = Field(title="Project")
    pipelines: dict[PipelineName, PipelineTable] = Field(
        default_factory=dict[str, PipelineTable],
        title="Pipelines",
        description="The pipelines by name: letters a-z, digits, `_` and `-`.",
        json_schema_extra={"propertyNames": {"pattern": NAME_PATTERN}},
    )
    environments: dict[EnvironmentName, EnvironmentTable] = Field(
        default_factory=dict[str, EnvironmentTable],
        title="Environments",
        description="The environments by name: letters a-z, digits, `_` and `-`.",
        json_schema_extra={"propertyNames": {"pattern": NAME_PATTERN}},
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
