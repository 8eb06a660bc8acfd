"""Built images: listed with what each costs and who uses it, and thrown away."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

from groundplane.model.environments import Environment
from groundplane.model.errors import Invalid, NotFound, Unavailable
from groundplane.model.requests import Context, EnvironmentRequest, PushRequest
from groundplane.oci import reference, registry
from groundplane.services import bringing, gate, locking, plans, shelf, spec, visibility
from groundplane.services.access import PLATFORM, Actor
from groundplane.services.objects import Resource
from groundplane.services.platform import Platform, iso
from groundplane.spi.images import Image, Progress
from groundplane.store import runs

log = logging.getLogger(__name__)


def listing(platform: Platform, actor: Actor) -> list[dict[str, Any]]:
    """Newest first, those that the actor may see. own_bytes: what its removal would free; shared_bytes: of layers that
    others have too."""
    used = _used(platform, actor)
    costs = shelf.store(platform.home).costs()
    found = sorted(_seen(platform, actor, used), key=lambda image: -image.built_at)
    return [_row(image, costs[image.recipe], used.get(image.recipe, [])) for image in found]


def show(platform: Platform, actor: Actor, name: str) -> dict[str, Any]:
    """One image; name: its reference, or the beginning of its digest or recipe."""
    used = _used(platform, actor)
    image = _find(_seen(platform, actor, used), name)
    row = _row(image, shelf.store(platform.home).costs()[image.recipe], used.get(image.recipe, []))
    layers = [
        {"diff": f"sha256:{each.diff}", "digest": f"sha256:{each.digest}", "size": each.size} for each in image.layers
    ]
    return {**row, "config": f"sha256:{image.config}", "layers": layers}


def prune(platform: Platform, actor: Actor, *, everything: bool) -> dict[str, Any]:
    """Removes the images that no open run uses and that no run of the last 30 days has used; everything: also those
    of recent runs. Layers and downloads that nothing needs any more go with them."""
    store = shelf.store(platform.home)
    used = _used(platform, PLATFORM, open_only=everything)
    removed: list[str] = []
    with gate.change(platform, actor, "image.prune", "images", everything=everything):
        for image in store.images():
            if image.recipe not in used:
                store.remove(image.recipe)
                removed.append(image.reference)
                if image.ours and not bringing.stages(image):
                    _drop(platform, image)
    freed = store.collect()
    if everything:
        freed += shelf.downloads(platform.home).clear()
    return {"removed": sorted(removed), "freed_bytes": freed}


def _drop(platform: Platform, image: Image) -> None:
    """From the engines that it was brought to; one that is away keeps it until it is pruned there."""
    for name in platform.drivers:
        driver = bringing.driver_of(platform, name)
        try:
            if driver is not None:
                driver.drop(image)
        except Unavailable as error:
            log.warning("image not dropped backend=%s image=%s error=%s", name, image.reference, error.message)


def push(platform: Platform, actor: Actor, request: PushRequest, progress: Progress) -> dict[str, Any]:
    """Puts an image into a registry. name reference digest pushed_bytes skipped_bytes (what the registry had)."""
    from groundplane.images.pushes import Pushes, note_image

    target = reference.parse(request.reference)
    if target.digest:
        raise Invalid(f"{request.reference} has a digest, which the image has itself", hint="write REGISTRY/REPO:TAG")
    on, image = _named(platform, actor, request)
    store = shelf.store(platform.home)
    pushes = Pushes(store.folder, target.registry)
    facts = {"reference": str(target), "digest": f"sha256:{image.manifest}"}
    with gate.change(platform, actor, "image.push", image.reference, on, **facts):
        pass
    done = registry.push(store.blob, image.manifest, target, progress, beside=pushes.repository)
    pushes.note(target.repository, (image.config, *(layer.digest for layer in image.layers)))
    note_image(store.folder, image.manifest, f"{target.name}@{done.digest}")
    return {
        "name": image.reference,
        "reference": done.reference,
        "digest": done.digest,
        "pushed_bytes": done.pushed_bytes,
        "skipped_bytes": done.skipped_bytes,
    }


def _named(platform: Platform, actor: Actor, request: PushRequest) -> tuple[Resource, Image]:
    """An environment's of the project, else the one of that name; and whose it is, as policies see it."""
    project = spec.parse(request.spec) if request.spec else None
    on = visibility.of_project(platform, "image", project.name) if project else Resource("image", request.name)
    gate.require(platform, actor, "image.push", on)
    known: Mapping[str, Environment] = project.environments if project else {}
    if request.name not in known:
        return on, _find(_seen(platform, actor, _used(platform, actor)), request.name)
    asked = locking.read(
        EnvironmentRequest(request.folder, Context(request.folder), request.spec, request.lock, (request.name,))
    )
    lock = asked.lock(known[request.name])
    if lock.attested:
        raise Invalid(
            f"environment {request.name!r} is a licensed engine: there is no image of it",
            hint="install it where it shall run",
        )
    image = shelf.built(platform.home, lock)
    if image is None:
        raise NotFound(
            f"the image of environment {request.name!r} is not built here", hint=f"ground env build {request.name}"
        )
    return on, image


def _seen(platform: Platform, actor: Actor, used: Mapping[str, object]) -> list[Image]:
    """Those of runs that the actor may see; every one for who looks after images."""
    gate.require(platform, actor, "image.see", Resource("image"))
    with platform.database.read() as connection:
        every = gate.decide(platform, connection, actor, "image.prune", Resource("image")).allowed
    return [image for image in shelf.store(platform.home).images() if every or image.recipe in used]


def _find(images: Iterable[Image], name: str) -> Image:
    bare = name.removeprefix("sha256:")
    found = [
        image
        for image in images
        if name.removeprefix("groundplane/") in _called(image.reference.removeprefix("groundplane/"))
        or (len(bare) >= 6 and (image.manifest.startswith(bare) or image.recipe.startswith(bare)))
    ]
    if not found:
        raise NotFound(f"there is no image {name!r}", hint="`ground images list` shows them")
    if len(found) > 1:
        names = ", ".join(sorted(image.reference for image in found))
        raise Invalid(f"{len(found)} images are meant by {name!r}", hint=f"say which: {names}")
    return found[0]


def _called(name: str) -> tuple[str, str]:
    """With and without its tag."""
    return name, re.sub(r":[^:/]*$", "", name)


_RECENT = 30 * 86400 * 1_000_000


def _used(platform: Platform, actor: Actor, *, open_only: bool = False) -> dict[str, list[dict[str, str]]]:
    """recipe -> the projects and environments whose recent (or open) runs ran in it, of those the actor may see."""
    from groundplane.services.platform import now

    found: dict[str, list[dict[str, str]]] = {}
    with platform.database.read() as connection:
        sees = visibility.Sight(platform, connection, actor).sees
        for row in filter(sees, runs.plans_in_use(connection, None if open_only else now() - _RECENT)):
            plan = plans.load(connection, row.plan)
            for placed in plan.placements.values():
                if placed.lock:
                    lock = plans.load_lock(connection, placed.lock)
                    entry = {"project": row.project, "environment": placed.environment}
                    users = found.setdefault(lock.recipe, [])
                    if entry not in users:
                        users.append(entry)
    return found


def _row(image: Image, cost: tuple[int, int], used: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "name": image.reference,
        "digest": f"sha256:{image.manifest}",
        "builder": image.builder,
        "size": image.size,
        "own_bytes": cost[0],
        "shared_bytes": cost[1],
        "built_at": iso(image.built_at),
        "used_by": used,
    }
