"""Built images: listed with what each costs and who uses it, and thrown away."""

from __future__ import annotations

import logging
from typing import Any

from groundplane.model.errors import Invalid, NotFound, Unavailable
from groundplane.services import bringing, gate, plans, shelf
from groundplane.services.access import Actor
from groundplane.services.platform import Platform, iso
from groundplane.spi.images import Image
from groundplane.store import runs

log = logging.getLogger(__name__)


def listing(platform: Platform) -> list[dict[str, Any]]:
    """Newest first. own_bytes: what its removal would free; shared_bytes: of layers that others have too."""
    store = shelf.store(platform.home)
    used = _used(platform)
    costs = store.costs()
    found = sorted(store.images(), key=lambda image: -image.built_at)
    return [_row(image, costs[image.recipe], used.get(image.recipe, [])) for image in found]


def show(platform: Platform, name: str) -> dict[str, Any]:
    """One image; name: its reference, or the beginning of its digest or recipe."""
    image = _find(platform, name)
    store = shelf.store(platform.home)
    row = _row(image, store.costs()[image.recipe], _used(platform).get(image.recipe, []))
    layers = [
        {"diff": f"sha256:{each.diff}", "digest": f"sha256:{each.digest}", "size": each.size} for each in image.layers
    ]
    return {**row, "config": f"sha256:{image.config}", "layers": layers, "labels": dict(image.labels)}


def prune(platform: Platform, actor: Actor, *, everything: bool) -> dict[str, Any]:
    """Removes the images that no open run uses and that no run of the last 30 days has used; everything: also those
    of recent runs. Layers and downloads that nothing needs any more go with them."""
    store = shelf.store(platform.home)
    used = _used(platform, open_only=everything)
    removed: list[str] = []
    with gate.change(platform, actor, "image.prune", "images", everything=everything):
        for image in store.images():
            if image.recipe not in used:
                store.remove(image.recipe)
                removed.append(image.reference)
                _drop(platform, image)
    freed = store.collect()
    if everything:
        from groundplane.images.downloads import Downloads

        freed += Downloads(platform.home / "images" / "downloads").clear()
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


def _find(platform: Platform, name: str) -> Image:
    bare = name.removeprefix("sha256:")
    found = [
        image
        for image in shelf.store(platform.home).images()
        if name in (image.reference, image.reference.partition(":")[0], image.reference.removeprefix("groundplane/"))
        or name == image.reference.partition(":")[0].removeprefix("groundplane/")
        or (len(bare) >= 6 and (image.manifest.startswith(bare) or image.recipe.startswith(bare)))
    ]
    if not found:
        raise NotFound(f"there is no image {name!r}", hint="`ground images list` shows them")
    if len(found) > 1:
        names = ", ".join(sorted(image.reference for image in found))
        raise Invalid(f"{len(found)} images are meant by {name!r}", hint=f"say which: {names}")
    return found[0]


_RECENT = 30 * 86400 * 1_000_000


def _used(platform: Platform, *, open_only: bool = False) -> dict[str, list[dict[str, str]]]:
    """recipe -> the projects and environments whose recent (or open) runs ran in it."""
    from groundplane.services.platform import now

    found: dict[str, list[dict[str, str]]] = {}
    with platform.database.read() as connection:
        rows = runs.plans_in_use(connection, None if open_only else now() - _RECENT)
        for project, digest in rows:
            plan = plans.load(connection, digest)
            for placed in plan.placements.values():
                if placed.lock:
                    lock = plans.load_lock(connection, placed.lock)
                    entry = {"project": project, "environment": placed.environment}
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
