"""A pipeline: steps and what flows between them. A single script is a pipeline of one step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter

from groundplane.model.errors import Invalid
from groundplane.model.resources import Resources


class SourceKind(StrEnum):
    """Where an input comes from."""

    STEP = "step"  # an earlier step's output: step/NAME
    PROJECT = "project"  # a path in the project folder
    URL = "url"  # fetched before the task starts
    QUERY = "query"  # connection:NAME?sql=…: asked before the task starts


@dataclass(frozen=True, slots=True)
class Source:
    """`clean/clean.parquet` (step), `data/raw.csv` (project), `https://…` (url), `connection:warehouse?sql=select …`
    (query), or `{part}` (the fan-out's item).

    path: the output's name within its step, the path within the project, the URL, or the query as written. It may
    hold `{item}` placeholders of the step's own fan-out, filled when the task is made.
    """

    kind: SourceKind
    path: str
    step: str = ""


@dataclass(frozen=True, slots=True)
class Input:
    """A path that the step reads and where it comes from. `name` ending in `/` is a folder of many. labels: of that
    data (model/labels.py)."""

    name: str
    source: Source
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ForEach:
    """One task an item: `values` as written, or the files that match `source.path` (a glob).

    `{variable}` stands for the item in the sources of inputs, in arguments, command and environment, and in the
    parameters that `filled` names (never in one that was given from outside). A value of `values` is a parameter
    of that name too.
    """

    variable: str
    values: tuple[str, ...] | None = None
    source: Source | None = None
    max_parallel: int | None = None
    filled: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One step as declared. Exactly one of `script` (path in the project, as typed) and `command` is set.

    outputs: names and globs; (): it declares none; None (a lone script): every file that it creates or changes.
    parameters: once the pipeline is resolved, all that the step gets. environment: variables.
    labels: of what it makes, beside those of what it reads. connections: by name.
    secrets: variable, or path in the working copy -> name of a secret. scopes: what its work may do at the control
    plane, for the run's account.
    runs_in: name of an environment. on: a backend. network: whether it may reach one. None: not said.
    """

    name: str
    script: str | None = None
    command: tuple[str, ...] = ()
    toolchain: str | None = None  # None: found by the script's name and first bytes
    arguments: tuple[str, ...] = ()
    inputs: tuple[Input, ...] = ()
    outputs: tuple[str, ...] | None = ()
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    resources: Resources = Resources()
    for_each: ForEach | None = None
    after: tuple[str, ...] = ()
    retries: int = 0
    rerun: bool = True  # False: never started again after it may have begun, not even when the platform lost it
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    runs_in: str | None = None
    on: str | None = None
    network: bool | None = None
    labels: tuple[str, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=dict[str, str])
    connections: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """The steps that must have succeeded first, each once, in a stable order."""
        found = [i.source.step for i in self.inputs if i.source.kind is SourceKind.STEP]
        if self.for_each and self.for_each.source and self.for_each.source.kind is SourceKind.STEP:
            found.append(self.for_each.source.step)
        return tuple(dict.fromkeys([*found, *self.after]))


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Steps in an order in which each comes after what it needs (see `ordered`)."""

    name: str
    project: str
    steps: tuple[Step, ...]
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])

    def step(self, name: str) -> Step:
        """The step of that name; KeyError when there is none."""
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(name)


def ordered(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps, each after those it needs and otherwise as declared. Raises Invalid that shows a cycle."""
    by_name = {step.name: step for step in steps}
    sorter = TopologicalSorter({step.name: step.needs for step in steps})
    try:
        sorter.prepare()
    except CycleError as error:
        raise Invalid(
            f"the steps form a cycle: {' -> '.join(reversed(error.args[1]))}",
            hint="remove one of these inputs or `after` entries",
        ) from None
    position = {step.name: index for index, step in enumerate(steps)}
    found: list[Step] = []
    while sorter.is_active():
        ready = sorted((name for name in sorter.get_ready() if name in by_name), key=position.__getitem__)
        found.extend(by_name[name] for name in ready)
        sorter.done(*ready)
    return tuple(found)
