"""Labels of data flow with it: what was made from `phi` is `phi`, until somebody takes the label off that content.

A launch has those of its project, its step and its inputs, and those of every artifact that it reads; all that it
leaves has them. They are in no reuse key: a result that is reused has its own and those of who reuses it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from groundplane.model.errors import Invalid, NotFound
from groundplane.model.labels import is_label
from groundplane.model.pipelines import SourceKind, Step
from groundplane.services import gate, visibility
from groundplane.services.access import Actor
from groundplane.services.plans import RunPlan
from groundplane.services.platform import Platform
from groundplane.store import labels, tasks

NONE: frozenset[str] = frozenset()
Made = Mapping[str, frozenset[str]]


def labels_of(plan: RunPlan, step: Step, made: Made | None = None) -> frozenset[str]:
    """All labels of a launch of the step that its submission can know: those of project, step and inputs, and what
    flows from earlier steps by the pipeline's graph. made: what steps have left already (`made_in`)."""
    return of_steps(plan, made)[step.name]


def of_steps(plan: RunPlan, made: Made | None = None) -> dict[str, frozenset[str]]:
    """The same of every step."""
    found: dict[str, frozenset[str]] = {}
    for step in plan.pipeline.steps:  # in order: what it reads of comes first
        own = {*plan.labels, *step.labels}
        for read in step.inputs:
            own.update(read.labels)
        for source in _flows_from(step):
            own |= found[source]
        found[step.name] = (made or {}).get(step.name, frozenset(own)).union(plan.labels)
    return found


def of_task(plan: RunPlan, step: Step, read: str | None) -> frozenset[str]:
    """What a task has that has been prepared. read: its inputs as JSON, of which each names its labels."""
    own = frozenset((*step.labels, *plan.labels))
    if read is None or '"labels"' not in read:
        return own
    return own.union(*(entry.get("labels", ()) for entry in json.loads(read)))


def made_in(connection: Connection, run_id: int, plan: RunPlan) -> Made:
    """Step -> the labels of what it left, of the steps of a run that have succeeded as a whole."""
    whole: dict[int, bool] = {}
    positions: dict[int, int] = {}
    for row in tasks.of_run(connection, run_id):
        positions[row.id] = row.position
        whole[row.position] = whole.get(row.position, True) and row.state == "succeeded"
    found = {position: NONE for position, done in whole.items() if done}
    for task_id, of_artifact in labels.made(connection, run_id):
        position = positions[task_id]
        if position in found:
            found[position] |= of_artifact
    return {plan.step(position).name: of_step for position, of_step in found.items()}


def attach(connection: Connection, project: str, made: Sequence[tuple[str, frozenset[str]]]) -> list[str]:
    """The column of each artifact. made: its content, and the labels of what it was made from."""
    labelled = {sha256 for sha256, of_artifact in made if of_artifact}
    if not labelled:
        return ["[]"] * len(made)
    off = labels.taken_off(connection, project, labelled)
    return [labels.text(label for label in of_artifact if (sha256, label) not in off) for sha256, of_artifact in made]


def check(words: Iterable[str]) -> None:
    """Raises Invalid for what is no label."""
    for word in words:
        if not is_label(word):
            raise Invalid(f"{word!r} is no label", hint="small letters, digits, `_` and `-`, like phi")


def set_project(platform: Platform, actor: Actor, project: str, words: Sequence[str]) -> None:
    """All labels of a project that somebody made: all of its runs have them from now on. Raises NotFound."""
    on = visibility.of_project(platform, "project", project)
    gate.require(platform, actor, "project.set", replace(on, labels=NONE))
    check(words)
    with gate.change(platform, actor, "project.set", project, on, labels=sorted(set(words))) as connection:
        if not labels.set_project(connection, project, words):
            raise NotFound(f"there is no project {project!r}", hint=f"ground projects create {project} --team TEAM")


def _flows_from(step: Step) -> list[str]:
    """The steps of whose outputs it gets anything: a fan-out's items are their names."""
    sources: list[Any] = [read.source for read in step.inputs]
    if step.for_each is not None and step.for_each.source is not None:
        sources.append(step.for_each.source)
    return list(dict.fromkeys(source.step for source in sources if source.kind is SourceKind.STEP))
