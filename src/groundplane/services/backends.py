"""Where work can run: what is there by itself, what somebody added, and whether it can take work now."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from groundplane.drivers import registry
from groundplane.model.documents import BackendDocument, GarbageDocument
from groundplane.model.errors import Conflict, GroundError, Invalid, NotFound
from groundplane.services import gate, plans
from groundplane.services.access import Actor
from groundplane.services.notices import WORK
from groundplane.services.objects import Resource
from groundplane.services.platform import Platform, Unloaded, now
from groundplane.spi.driver import CanCollectGarbage, Driver, KeepsSecrets
from groundplane.store import attempts, backends, runs

log = logging.getLogger(__name__)

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def listing(platform: Platform, actor: Actor) -> list[BackendDocument]:
    """Every configured backend with its health."""
    return [check(platform, actor, name) for name in (*platform.drivers, *platform.unloaded)]


def check(platform: Platform, actor: Actor, name: str) -> BackendDocument:
    """One backend's health. Raises NotFound for an unknown one."""
    gate.require(platform, actor, "backend.see", Resource("backend", name))
    with platform.database.read() as connection:
        row = backends.get(connection, name)
    said = {"region": row.region, "encrypted": row.encrypted} if row is not None else {}
    return replace(_healthy(platform, name), **said)


def _healthy(platform: Platform, name: str) -> BackendDocument:
    kind = platform.unloaded[name].driver if name in platform.unloaded else _kind(platform.driver(name))
    try:
        health = platform.driver(name).check()
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


def _kind(driver: Driver) -> str:
    return type(driver).__name__.removesuffix("Driver").lower()


def load(platform: Platform) -> None:
    """Makes drivers of the backends that were added, here or by another control plane. One for which that fails is
    noted, and concerns nobody else."""
    with platform.database.read() as connection:
        rows = backends.listing(connection)
    made: dict[str, Driver] = {}
    unloaded: dict[str, Unloaded] = {}
    for row in rows:
        if row.name in platform.drivers:
            continue
        try:
            made[row.name] = registry.make(row.driver, platform.home, row.name, json.loads(row.options))
        except GroundError as error:
            unloaded[row.name] = Unloaded(row.driver, error)
            if row.name not in platform.unloaded:
                log.warning("backend cannot be used backend=%s error=%s", row.name, error.message)
    platform.unloaded = unloaded
    if made:
        platform.drivers = {**platform.drivers, **made}
        platform.notifier.notify(WORK, local=True)


def add(
    platform: Platform,
    actor: Actor,
    name: str,
    driver: str,
    options: Mapping[str, str],
    *,
    region: str = "",
    encrypted: bool = False,
) -> BackendDocument:
    """A backend of that name; the same again changes nothing. region, encrypted: what policies are told of it.

    Raises Invalid, and Conflict for a name that is taken.
    """
    gate.require(platform, actor, "backend.add", Resource("backend", name))
    if not _NAME.fullmatch(name):
        raise Invalid(f"{name!r} is no name for a backend", hint="small letters, digits, `-` and `_`")
    made = registry.make(driver, platform.home, name, options)
    public = made.public(options) if isinstance(made, KeepsSecrets) else options
    text = json.dumps(dict(public), sort_keys=True)
    facts: dict[str, Any] = {"driver": driver, "options": sorted(options), "region": region, "encrypted": encrypted}
    with gate.change(platform, actor, "backend.add", name, **facts) as connection:
        known = backends.get(connection, name)
        before = known and (known.driver, known.options, known.region, known.encrypted)
        same = before == (driver, text, region, encrypted)
        if not same and (known is not None or name in platform.drivers):
            raise _taken(name)
        if known is None:
            backends.add(connection, name, driver, text, now(), region=region, encrypted=encrypted)
        if isinstance(made, KeepsSecrets):
            made.keep(platform.home, name, options)
    if name not in platform.drivers or isinstance(made, KeepsSecrets):
        platform.drivers = {**platform.drivers, name: made}
        platform.unloaded = {known: lost for known, lost in platform.unloaded.items() if known != name}
        platform.notifier.notify(WORK)
    return check(platform, actor, name)


def remove(platform: Platform, actor: Actor, name: str) -> None:
    """Forgets a backend that somebody added. Raises Conflict while an open run needs it."""
    with gate.change(platform, actor, "backend.remove", name) as connection:
        if backends.get(connection, name) is None:
            by_itself = name in platform.drivers
            raise NotFound(
                f"backend {name!r} was not added by anybody" if by_itself else f"there is no backend {name!r}",
                hint="it is there by itself" if by_itself else "`ground backends list` shows them",
            )
        used = [row for row in runs.plans_in_use(connection, None) if name in plans.load(connection, row.plan).backends]
        if used:
            raise Conflict(
                f"{len(used)} runs that have not ended need backend {name!r}",
                hint="`ground runs list` shows them: wait for them, or cancel them",
            )
        backends.remove(connection, name)
    driver = platform.drivers.get(name)
    if isinstance(driver, KeepsSecrets):
        driver.forget(platform.home, name)
    elif name in platform.unloaded:
        log.warning("what its driver kept in the home, if anything, stays there backend=%s", name)
    platform.unloaded = {known: lost for known, lost in platform.unloaded.items() if known != name}
    platform.drivers = {known: driver for known, driver in platform.drivers.items() if known != name}


def collect_garbage(platform: Platform, actor: Actor, name: str | None) -> list[GarbageDocument]:
    """What lay there of this control plane that no open attempt needs, and is deleted now. name: None for all backends,
    where one that fails keeps no other from being tidied. Raises NotFound for an unknown one, Invalid for one that
    keeps nothing, and what its driver does."""
    with gate.change(platform, actor, "backend.gc", name or ""):
        pass  # who did it is an event before it is done
    if name is not None:
        driver = platform.driver(name)
        if not isinstance(driver, CanCollectGarbage):
            raise Invalid(f"nothing is left behind on backend {name!r}", hint="it cleans up after each task")
        return [GarbageDocument(name, tuple(driver.collect_garbage(partial(_needed, platform))))]
    found: list[GarbageDocument] = []
    for each in (*platform.drivers, *platform.unloaded):
        try:
            driver = platform.driver(each)
            if isinstance(driver, CanCollectGarbage):
                found.append(GarbageDocument(each, tuple(driver.collect_garbage(partial(_needed, platform)))))
        except GroundError as error:
            found.append(GarbageDocument(each, (), error.message, error.hint))
    return found


def _needed(platform: Platform) -> set[str]:
    """Those of other backends too: several may be of one cluster."""
    with platform.database.read() as connection:
        return attempts.open_ids(connection)


def _taken(name: str) -> Conflict:
    return Conflict(f"there is a backend {name!r} already", hint=f"ground backends rm {name}, or another name")
