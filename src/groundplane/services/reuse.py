"""Whether a task's work was done before: the reuse key names everything that could change its outputs."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from groundplane.data.formats import CONVERTER_VERSION
from groundplane.model.canonical import canonical
from groundplane.model.pipelines import SourceKind, Step
from groundplane.services.plans import PlannedEngine, RunPlan
from groundplane.services.variables import Variables, home_key
from groundplane.spi import layout
from groundplane.spi.snapshots import Manifest
from groundplane.store import documents, tasks

_SCHEMA = 1
_OURS = ("ground.toml", "ground.lock", ".groundignore")


def eligible(step: Step, plan: RunPlan) -> bool:
    """Only a pipeline's step with declared outputs is reused; never a lone script, nor where the backend runs the
    pipeline whole, with a cache of its own, nor what has connections or scopes: what it reads there nobody sees."""
    return bool(step.outputs) and not plan.lone and not plan.whole and not step.connections and not step.scopes


def components(
    home: Path,
    plan: RunPlan,
    step: Step,
    inputs: Mapping[str, str],
    found: Variables,
) -> dict[str, Any]:
    """The parts of the key by name. inputs: name -> sha256 of what is read there."""
    engine: PlannedEngine = plan.engines[step.name]
    return {
        "schema": _SCHEMA,
        "toolchain": engine.toolchain,
        "command": list(step.command),
        "arguments": list(step.arguments),
        "script": [step.script or "", engine.script_sha256],
        "project files": _other_files(home, plan, step),
        "inputs": dict(inputs),
        "parameters": dict(step.parameters),
        "environment": {
            name: hmac.new(home_key(home), f"{name}={value}".encode(), "sha256").hexdigest()
            for name, value in {**step.environment, **found.given}.items()
        },
        **({"secrets": dict(step.secrets)} if step.secrets else {}),
        "engine": [engine.name, engine.path, engine.version],
        "libraries": engine.libraries,
        "outputs": list(step.outputs or ()),
        "converter": CONVERTER_VERSION,
        "architecture": _architecture(),
    }


def key_of(connection: Connection, parts: Mapping[str, Any]) -> str:
    """The key: sha256 of the parts as RFC 8785 JSON, which is stored under it for `differences`."""
    return documents.put(connection, canonical(parts))


def explain(connection: Connection, plan: RunPlan, team: str, task_name: str, parts: Mapping[str, Any]) -> str:
    """What `ground plan` says: `would be reused`, `no earlier run`, or `changed: script, inputs`."""
    key = hashlib.sha256(canonical(parts)).hexdigest()
    if tasks.reusable(connection, key, team) is not None:
        return "would be reused"
    last = tasks.last_success(connection, team, plan.pipeline.project, plan.pipeline.name, task_name)
    body = documents.get(connection, last.reuse_key) if last is not None else None
    if body is None:
        return "no earlier run"
    before = json.loads(body.decode(errors="surrogatepass"))
    return "changed: " + ", ".join(name for name in parts if before.get(name) != json.loads(json.dumps(parts[name])))


def _other_files(home: Path, plan: RunPlan, step: Step) -> str:
    """Digest of every project file but the steps' scripts and the files that this run's steps name as inputs."""
    named = {other.script.removeprefix("./") for other in plan.pipeline.steps if other.script}
    folders: list[str] = []
    for other in plan.pipeline.steps:
        for read in other.inputs:
            if read.source.kind is SourceKind.PROJECT:
                (folders.append if read.source.path.endswith("/") else named.add)(read.source.path)
    return _digest_of_others(home, plan.snapshot, frozenset(named), tuple(folders))


@lru_cache(maxsize=64)
def _digest_of_others(home: Path, snapshot: str, named: frozenset[str], folders: tuple[str, ...]) -> str:
    manifest = Manifest.from_json(layout.manifest(home, snapshot).read_bytes())
    digest = hashlib.sha256()
    for entry in manifest.files:
        if entry.path in named or entry.path.startswith(folders) or entry.path in _OURS:
            continue  # what of ground.toml matters to the step is in the key by itself
        content = entry.sha256 or f"{entry.size} {entry.mtime_ns} {entry.ctime_ns} {entry.inode}"
        digest.update(f"{entry.path}\0{entry.executable}\0{content}\n".encode(errors="surrogateescape"))
    for path, target in manifest.links:
        digest.update(f"{path}\0{target}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


@lru_cache(maxsize=1)
def _architecture() -> str:
    import platform

    return platform.machine()
