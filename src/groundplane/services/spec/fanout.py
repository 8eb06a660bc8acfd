"""A fan-out's tasks, and where many files go in a working copy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

from groundplane.model.globs import fixed_folder, matches
from groundplane.model.pipelines import Input, SourceKind, Step

INDEX = ".index.json"
"""Beside a fan-out's joined files: which came from which item."""


def items(step: Step, names: Iterable[str]) -> tuple[str, ...]:
    """The items of a fan-out, one task each: its values as written, else the matching names, sorted.

    names: the outputs of `step.for_each.source.step`, or the project's files, as the source's kind says.
    """
    fan = step.for_each
    if fan is None:
        raise ValueError(f"step {step.name!r} is no fan-out")
    if fan.values is not None or fan.source is None:
        return fan.values or ()
    pattern = fan.source.path
    return tuple(sorted(name for name in set(names) if matches(pattern, name)))


def fill(step: Step, item: str) -> Step:
    """The step of one task: `{variable}` replaced by the item wherever it may stand.

    A value from a list is the parameter of that name too. A step that is no fan-out comes back as it is.
    """
    fan = step.for_each
    if fan is None:
        return step
    token = f"{{{fan.variable}}}"
    parameters = {
        name: value.replace(token, item) if name in fan.filled else value for name, value in step.parameters.items()
    }
    if fan.values is not None:
        parameters[fan.variable] = item
    return replace(
        step,
        inputs=tuple(
            replace(entry, source=replace(entry.source, path=entry.source.path.replace(token, item)))
            if token in entry.source.path
            else entry
            for entry in step.inputs
        ),
        command=tuple(part.replace(token, item) for part in step.command),
        arguments=tuple(part.replace(token, item) for part in step.arguments),
        environment={name: value.replace(token, item) for name, value in step.environment.items()},
        parameters=parameters,
    )


def placed(entry: Input, names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Where an input's files go: (path in the working copy, name within its source), sorted.

    names: the outputs of the source's step, or the project's files. A folder keeps what lies below the source's
    fixed part: `"parts/" = "clean/parts/**"` puts `parts/a/b.csv` at `parts/a/b.csv`. Not for the outputs of a
    fan-out: see `joined`.
    """
    path = entry.source.path
    if not entry.name.endswith("/") or entry.source.kind in (SourceKind.URL, SourceKind.QUERY):
        return ((entry.name, path),)
    pattern = path + "**" if path.endswith("/") else path
    if path.endswith("/"):  # a folder of the project: hidden files too
        found = [name for name in set(names) if name.startswith(path) and not name.endswith("/")]
    else:
        found = [name for name in set(names) if matches(pattern, name)]
    start = len(fixed_folder(pattern))
    return tuple((entry.name + name[start:], name) for name in sorted(found))


def joined(entry: Input, tasks: Sequence[tuple[str, Sequence[str]]]) -> tuple[list[tuple[str, int, str]], str]:
    """How a fan-out's outputs join in the folder `entry.name`.

    tasks: each task's item and the names of its outputs, in the tasks' order. Returns (path in the working copy,
    task's index, output's name) for each file that `entry.source.path` names, `scores/00-score.csv` with the index
    padded to the widest, and the text of `.index.json`: a list of {index, item, file}.
    """
    pattern, width = entry.source.path, len(str(max(len(tasks) - 1, 0)))
    start = len(fixed_folder(pattern))
    found: list[tuple[str, int, str]] = []
    index: list[dict[str, object]] = []
    for number, (item, outputs) in enumerate(tasks):
        for output in sorted(name for name in outputs if matches(pattern, name)):
            file = f"{number:0{width}d}-{output[start:]}"
            found.append((entry.name + file, number, output))
            index.append({"index": number, "item": item, "file": file})
    return found, json.dumps(index, ensure_ascii=False, indent=1) + "\n"
