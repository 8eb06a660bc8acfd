"""Images of others that a backend pulls by itself: asked for at their registry, pinned by digest, and named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from groundplane.model.environments import Environment
from groundplane.model.locks import Lock, Upstream
from groundplane.oci import reference
from groundplane.services import environments
from groundplane.spi.driver import Driver, PullsImages

BUILDER = "registry"
"""What such a lock says of its builder: nothing is built, probed or kept here."""


def lock(driver: PullsImages, environment: Environment, definition: str, folder: Path) -> Lock:
    """What the environment's image is in its registry now. Raises NotFound `image_missing`."""
    recipe = environments.recipe(environment, folder)
    return Lock(
        name=environment.name,
        definition=definition,
        toolchain=recipe.toolchain,
        engine=recipe.engine,
        version="",
        program="",
        builder=BUILDER,
        upstream=Upstream(environment.image, driver.digest_of(environment.image)),
    )


def name(driver: Driver, lock: Lock) -> str:
    """By which the backend pulls the lock's image; "" where it does not, or where no registry is known to have it."""
    upstream = lock.upstream
    if not isinstance(driver, PullsImages) or upstream is None or upstream.dockerfile:
        return ""
    if not upstream.digest and lock.builder != BUILDER:  # only an engine had it
        return ""
    named = reference.parse(upstream.reference).full
    return str(replace(named, tag="", digest=upstream.digest) if upstream.digest else named)


def floats(lock: Lock) -> bool:
    """Whether nobody could say which image it is: its tag may mean another one tomorrow."""
    return lock.builder == BUILDER and lock.upstream is not None and not lock.upstream.digest


def warning(lock: Lock) -> str:
    """Of one that floats, for whoever runs something in it."""
    image = lock.upstream.reference if lock.upstream else ""
    return (
        f"environment {lock.name!r}: the registry of {image} could not be asked which image that is: nodes pull what "
        "it means when a task starts, and no task's result is used again"
    )


def fits(lock: Lock, driver: Driver) -> bool:
    """Whether the lock is of use to the backend: what nobody has built must be pulled."""
    return lock.builder != BUILDER or isinstance(driver, PullsImages)
