"""The toolchains: what each is, whether the caller has it, and how it comes to be here."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from groundplane.model.documents import Context, EngineDocument, ToolchainDocument
from groundplane.model.errors import NotFound
from groundplane.services import engines, gate
from groundplane.services.access import PLATFORM, Actor
from groundplane.services.objects import Resource
from groundplane.services.platform import Platform
from groundplane.toolchains import catalog, registry, versions
from groundplane.toolchains import install as installation
from groundplane.toolchains.catalog import KnownEngine

_HIDDEN = ("command",)  # a way to start, not a language


def listing(platform: Platform, actor: Actor, context: Context) -> list[ToolchainDocument]:
    """Every toolchain with the engines that the caller's PATH has."""
    gate.require(platform, actor, "toolchain.see", Resource("toolchain"))
    return [_document(platform, name, context) for name in registry.names() if name not in _HIDDEN]


def show(platform: Platform, actor: Actor, name: str, context: Context) -> dict[str, Any]:
    """One toolchain with what the catalogue knows: versions, where each may come from, until when it is supported."""
    gate.require(platform, actor, "toolchain.see", Resource("toolchain", name))
    document = _document(platform, name, context)
    shown = asdict(document)
    try:
        entry = catalog.entry(name)
    except NotFound:  # a plugin's
        return {**shown, "summary": "", "catalogue": []}
    return {**shown, "summary": entry.summary, "catalogue": [known(engine) for engine in entry.engines]}


def known(engine: KnownEngine) -> dict[str, Any]:
    """What the catalogue knows of it. support_ends: the last day, by the version's suite or its makers."""
    rows: list[dict[str, Any]] = []
    for each in engine.versions:
        ends = versions.support_end(each)
        rows.append({**asdict(each), "support_ends": ends.isoformat() if ends else ""})
    return {**asdict(engine), "versions": rows}


def install(platform: Platform, actor: Actor, name: str) -> Iterator[str]:
    """Installs a toolchain's open engine; yields progress. Raises Unavailable that says what to do where it cannot.

    It is carried through, and its outcome noted, even when nobody reads its progress any more.
    """
    gate.require(platform, actor, "toolchain.install", Resource("toolchain", name))
    plan = installation.plan(name, platform.home)
    with gate.change(platform, actor, "toolchain.install", plan.engine, commands=len(plan.commands)):
        pass
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    failed: list[Exception] = []

    def work() -> None:
        try:
            installation.execute(plan, lines.put)
        except Exception as error:  # noqa: BLE001  raised again by who reads the progress
            failed.append(error)
        finally:
            outcome = str(failed[0]) if failed else "installed"
            with gate.change(platform, PLATFORM, "toolchain.installed", plan.engine, outcome=outcome):
                lines.put(None)

    threading.Thread(target=work, name=f"install-{name}").start()
    while (line := lines.get()) is not None:
        yield line
    if failed:
        raise failed[0]


def _document(platform: Platform, name: str, context: Context) -> ToolchainDocument:
    toolchain = registry.get(name)
    found: list[EngineDocument] = []
    for spec in toolchain.engines:
        here = engines.find(platform, [spec], context, libraries=False)
        path, version = (here.path, here.version) if here else (None, None)
        found.append(EngineDocument(spec.name, path, version, spec.tested, spec.note))
    try:
        title = catalog.entry(name).title
    except NotFound:  # a plugin's
        title = name
    return ToolchainDocument(
        name=name,
        title=title,
        available=any(engine.path for engine in found),
        suffixes=toolchain.suffixes,
        engines=tuple(found),
    )
