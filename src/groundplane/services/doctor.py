"""What the platform finds about this machine."""

from __future__ import annotations

import shutil
import sys

from groundplane.model.documents import BackendDocument, Context, Finding
from groundplane.model.errors import GroundError
from groundplane.model.quantities import format_size
from groundplane.services import backends, gate, toolchains
from groundplane.services.access import Actor
from groundplane.services.audit import health
from groundplane.services.objects import Resource
from groundplane.services.platform import Platform


def examine(platform: Platform, actor: Actor, context: Context) -> list[Finding]:
    """One finding a subject; nothing is changed."""
    gate.require(platform, actor, "doctor.see", Resource("doctor"))
    found = [Finding("python", "ok", f"Python {sys.version.split()[0]}, Groundplane {platform.version}")]
    try:
        platform.require_space()
        free = format_size(shutil.disk_usage(platform.home).free)
        found.append(Finding("home", "ok", f"{platform.home}, {free} free"))
        if platform.home.stat().st_mode & 0o077:
            text = f"other users can look into {platform.home}, where runs, logs and artifacts are"
            found.append(Finding("home", "warning", text, f"chmod 700 {platform.home}"))
    except GroundError as error:
        found.append(Finding("home", "error", error.message, error.hint))
    found.append(Finding("database", "ok", platform.database.shown_url))
    found.append(health.finding(platform))
    for backend in backends.listing(platform, actor):
        # Work runs here without an engine of containers; whoever has added a backend will want to know.
        level = "ok" if backend.ok else "warning" if backend.name == "docker" else "error"
        found.append(Finding(f"backend {backend.name}", level, backend.message, backend.hint))
        for name, fact in backend.facts.items():
            hint = _weakness(name, fact)
            found.append(Finding(f"{backend.name} {name}", "warning" if hint else "ok", fact, hint))
        found += _gpus(backend)
    for toolchain in toolchains.listing(platform, actor, context):
        here = [f"{engine.name} {engine.version or '(version unknown)'}" for engine in toolchain.engines if engine.path]
        if here:
            found.append(Finding(f"toolchain {toolchain.name}", "ok", ", ".join(here)))
        elif toolchain.engines:
            names = ", ".join(engine.name for engine in toolchain.engines)
            found.append(
                Finding(
                    f"toolchain {toolchain.name}",
                    "warning",
                    f"none of {names} is on your PATH",
                    f"ground toolchains install {toolchain.name}",
                )
            )
    return found


def _weakness(name: str, fact: str) -> str:
    """What to do about a backend's fact; "" when it is good as it is."""
    if name == "limits" and "not enforced" in fact:
        return "run as root, or have a cgroup delegated to you, and limits are enforced"
    return "`nvidia-smi` says whether the driver works" if name == "gpus" else ""


def _gpus(backend: BackendDocument) -> list[Finding]:
    """One a device, and what is there but does not tell."""
    if backend.devices is None:
        return []
    driver = backend.devices.shown
    found = [
        Finding(f"{backend.name} GPU {device.index}", "ok", f"{device.described}, {driver}")
        for device in backend.devices.devices
    ]
    hint = "`nvidia-smi` and the kernel's log say more; a reset or a reboot brings a lost device back"
    return found + [Finding(f"{backend.name} GPUs", "warning", text, hint) for text in backend.devices.unread]
