"""What a step is written in."""

from __future__ import annotations

from collections.abc import Mapping

from groundplane.model.errors import Invalid
from groundplane.model.pipelines import Step
from groundplane.services.platform import Platform
from groundplane.spi import layout
from groundplane.spi.toolchain import Toolchain
from groundplane.toolchains import registry

HEAD_BYTES = 4096


def written_in(
    platform: Platform, step: Step, names: Mapping[str, str], wanted: str | None
) -> tuple[Toolchain, str | None, str, bytes]:
    """The step's toolchain, the engine that was asked for by name, its script's sha256 and first kilobytes."""
    if step.script is None:
        return registry.get("command"), None, "", b""
    path = step.script.removeprefix("./")
    sha256 = names[path]
    if not sha256:
        raise Invalid(f"{step.script} is too large to be a script", hint="is it the right file?")
    content = layout.blob(platform.home, sha256).read_bytes()
    head = content[:HEAD_BYTES]
    toolchain, engine = _chosen(wanted) if wanted else (registry.detect(path, head), None)
    toolchain.check(step.script, content)
    return toolchain, engine, sha256, head


def _chosen(name: str) -> tuple[Toolchain, str | None]:
    """A toolchain by its own name, or by that of one of its engines, which is then the one."""
    if name in registry.names():
        return registry.get(name), None
    for known in registry.names():
        if any(engine.name == name for engine in registry.get(known).engines):
            return registry.get(known), name
    return registry.get(name), None
