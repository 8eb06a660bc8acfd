"""A pipeline compiled for another system: planned like a run, with images that its cluster can pull."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from groundplane.kubeflow import compiling as kubeflow
from groundplane.kubeflow.refusals import refused
from groundplane.model import documents
from groundplane.model.errors import Invalid
from groundplane.model.pipelines import Pipeline
from groundplane.services import gate, parts, placing, planning, spec, visibility
from groundplane.services.access import Actor
from groundplane.services.platform import Platform
from groundplane.services.spec.problems import listed

TARGETS = ("kubeflow",)


def compile_(platform: Platform, actor: Actor, request: documents.RunRequest, target: str) -> dict[str, Any]:
    """`text`: the file for that system. Raises Invalid for what it cannot hold, by step and name."""
    if target not in TARGETS:
        raise Invalid(f"nothing is compiled for {target!r}", hint=f"there is: --to {listed(TARGETS)}")
    if request.spec is None:
        raise parts.alone(request)
    project = spec.parse(request.spec)
    gate.require(platform, actor, "pipeline.compile", visibility.of_project(platform, "pipeline", project.name))
    chosen = spec.pipeline(project, request.pipeline)
    taken = planning.snapshot(platform, Path(request.folder))
    names = {name: entry.sha256 for name, entry in taken.manifest.reachable().items()}
    pipeline = spec.resolve(chosen, taken.names(), request.parameters)
    _refuse_labels(pipeline, planning.project_labels(platform, project.name, project.labels))
    places = placing.Places(platform, request, project, names)
    pipeline, made, files = parts.of(platform, request, places, pipeline, names, taken.manifest)
    return {"pipeline": pipeline.name, "text": kubeflow.compiled(pipeline, made, files)}


def _refuse_labels(pipeline: Pipeline, project: Iterable[str]) -> None:
    for step in pipeline.steps:
        if words := sorted({*project, *step.labels, *(word for entry in step.inputs for word in entry.labels)}):
            raise refused(
                step.name,
                f"the labels {', '.join(words)}: nobody would know there what was made from that data",
                "let it run from here: --on a backend of yours",
            )
