"""An image in a pool: its blobs by digest, and its manifest by the recipe of its lock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from groundplane.images.downloads import in_pool, put_into_pool
from groundplane.images.store import ImageStore
from groundplane.model.errors import Unavailable
from groundplane.model.locks import Lock
from groundplane.spi.images import Image, Layer


def put(store: ImageStore, image: Image, folder: Path) -> int:
    """Puts the image's files there, beside what is there; how many it has."""
    blobs = {image.config: "config.json"} | {layer.digest: "layer.tar.gz" for layer in image.layers}
    for digest, name in blobs.items():
        put_into_pool(store.blob(digest), folder, name, digest)
    # Last: what has the manifest has all.
    put_into_pool(store.blob(image.manifest), folder, "manifest.json", image.recipe)
    return len(blobs) + 1


def take(store: ImageStore, lock: Lock, image: Image, folder: Path) -> Image:
    """The lock's image, its blobs copied from the pool. image: all that is known but its layers and digests. Raises
    Unavailable `pool_incomplete` where the pool has it not, or other than the lock names it."""
    found = in_pool(folder, lock.recipe)
    if found is None:
        raise _incomplete(f"the pool {folder} has no image for {lock.name}")
    manifest: dict[str, Any] = json.loads(found.read_bytes())
    digests = [str(each["digest"]).removeprefix("sha256:") for each in (manifest["config"], *manifest["layers"])]
    for digest in digests:
        path = in_pool(folder, digest)
        if path is None:
            raise _incomplete(f"the pool {folder} lacks {digest}, a part of {lock.name}")
        if not store.blob(digest).is_file() and store.take_blob(path) != digest:
            raise _incomplete(f"{path} is damaged")
    config = digests[0]
    if lock.upstream is None or config != lock.upstream.config or len(digests) != len(lock.layers) + 1:
        raise _incomplete(f"the pool {folder} has another image for {lock.name} than ground.lock names")
    pairs = zip(lock.layers, manifest["layers"], digests[1:], strict=True)
    layers = tuple(Layer(diff, digest, int(each["size"])) for diff, each, digest in pairs)
    made = store.add_configured(
        Image(lock.recipe, image.builder, image.reference, "", "", layers, image.built_at, image.probe, image.program),
        store.blob(config).read_bytes(),
    )
    if problems := store.check(made):
        store.remove(made.recipe)
        raise _incomplete(f"the pool {folder} has {lock.name} damaged: {problems[0]}")
    return made


def _incomplete(said: str) -> Unavailable:
    return Unavailable(said, hint="where it is built: ground env pool -o POOL", code="pool_incomplete")
