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
from groundplane.model.pipelines import SourceKind, Step
from groundplane.services.plans import PlannedEngine, RunPlan
from groundplane.services.variables import Variables, home_key
from groundplane.spi import layout
from groundplane.spi.snapshots import Manifest
from groundplane.store import documents, tasks

_SCHEMA = 1
_SAFE_INTEGER = 2**53
_OURS = ("ground.toml", "ground.lock", ".groundignore")


def eligible(step: Step, plan: RunPlan) -> bool:
    """Only a pipeline's step with declared outputs is reused; never a lone script, nor where the backend runs the
    pipeline whole, with a cache of its own."""
    return bool(step.outputs) and not plan.lone and not plan.whole


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
        "engine": [engine.name, engine.path, engine.version],
        "libraries": engine.libraries,
        "outputs": list(step.outputs or ()),
        "converter": CONVERTER_VERSION,
        "architecture": _architecture(),
    }


def key_of(connection: Connection, parts: Mapping[str, Any]) -> str:
    """The key: sha256 of the parts as RFC 8785 JSON, which is stored under it for `differences`."""
    return documents.put(connection, canonical(parts))


def canonical(parts: Any) -> bytes:
    """RFC 8785 for what occurs here: text, whole numbers, lists, objects with text keys."""
    _check(parts)
    return json.dumps(_sorted(parts), separators=(",", ":"), ensure_ascii=False).encode(errors="surrogatepass")


def explain(connection: Connection, plan: RunPlan, task_name: str, parts: Mapping[str, Any]) -> str:
    """What `ground plan` says: `would be reused`, `no earlier run`, or `changed: script, inputs`."""
    key = hashlib.sha256(canonical(parts)).hexdigest()
    if tasks.reusable(connection, key) is not None:
        return "would be reused"
    last = tasks.last_success(connection, plan.pipeline.project, plan.pipeline.name, task_name)
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


def _check(value: Any) -> None:
    if isinstance(value, float) or (isinstance(value, int) and abs(value) > _SAFE_INTEGER):
        raise TypeError(f"{value!r} has no place in a reuse key: write numbers as text")
    if isinstance(value, Mapping):
        for part in value.values():  # pyright: ignore[reportUnknownVariableType]
            _check(part)
    elif isinstance(value, list):
        for part in value:  # pyright: ignore[reportUnknownVariableType]
            _check(part)


def _sorted(value: Any) -> Any:
    """Objects with their keys in the order of UTF-16 code units, as the RFC wants it."""
    if isinstance(value, Mapping):
        names: list[str] = sorted(value, key=lambda name: str(name).encode("utf-16-be", errors="surrogatepass"))  # pyright: ignore[reportUnknownArgumentType, reportUnknownLambdaType]
        return {name: _sorted(value[name]) for name in names}
    if isinstance(value, list):
        return [_sorted(part) for part in value]  # pyright: ignore[reportUnknownVariableType]
    return value
