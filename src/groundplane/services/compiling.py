"""A pipeline compiled for another system: planned like a run, with images that its cluster can pull."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from groundplane.kubeflow import compiling as kubeflow
from groundplane.model import documents
from groundplane.model.errors import Invalid
from groundplane.services import parts, placing, planning, spec
from groundplane.services.platform import Platform
from groundplane.services.spec.problems import listed

TARGETS = ("kubeflow",)


def compile_(platform: Platform, request: documents.RunRequest, target: str) -> dict[str, Any]:
    """`text`: the file for that system. Raises Invalid for what it cannot hold, by step and name."""
    if target not in TARGETS:
        raise Invalid(f"nothing is compiled for {target!r}", hint=f"there is: --to {listed(TARGETS)}")
    if request.spec is None:
        raise parts.alone(request)
    project = spec.parse(request.spec)
    chosen = spec.pipeline(project, request.pipeline)
    taken = planning.snapshot(platform, Path(request.folder))
    names = {name: entry.sha256 for name, entry in taken.manifest.reachable().items()}
    pipeline = spec.resolve(chosen, taken.names(), request.parameters)
    places = placing.Places(platform, request, project, names)
    pipeline, made, files = parts.of(platform, request, places, pipeline, names, taken.manifest)
    return {"pipeline": pipeline.name, "text": kubeflow.compiled(pipeline, made, files)}
