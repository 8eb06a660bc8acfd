"""Where work can run, and whether it can now."""

from __future__ import annotations

from groundplane.model.documents import BackendDocument
from groundplane.model.errors import GroundError
from groundplane.services.platform import Platform


def listing(platform: Platform) -> list[BackendDocument]:
    """Every configured backend with its health."""
    return [check(platform, name) for name in platform.drivers]


def check(platform: Platform, name: str) -> BackendDocument:
    """One backend's health. Raises NotFound for an unknown one."""
    driver = platform.driver(name)
    kind = type(driver).__name__.removesuffix("Driver").lower()
    try:
        health = driver.check()
    except GroundError as error:
        return BackendDocument(name, kind, False, error.message, error.hint, 0.0, 0, 0, {})
    return BackendDocument(
        name=name,
        driver=kind,
        ok=health.ok,
        message=health.message,
        hint=health.hint,
        cpus=health.cpus,
        memory=health.memory,
        gpus=health.gpus,
        facts=health.facts,
        devices=health.devices,
    )
