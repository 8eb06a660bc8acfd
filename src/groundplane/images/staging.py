"""The image that stages where no agent of this host is beside the work: Debian's Python and this version's agent.

It is named by all that it is made from, which is known without building it: a registry that has the name has the image.
What Debian has newer since then comes with the next version of these files.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from groundplane.images import layers, turns
from groundplane.images.disk import told_when_full
from groundplane.images.rootfs import Rootfs
from groundplane.images.store import ImageStore
from groundplane.model.environments import Environment
from groundplane.model.errors import Unavailable
from groundplane.spi.images import Builder, Image, Layer, Progress, Recipe

BUILDER = "staging"
"""What such an image says of its builder."""
_SUITE = "trixie"
_DEBS = ("ca-certificates", "python3")
_PACKAGE = Path(__file__).parent.parent
_PARTS = ("agent", "model", "spi")
_PLACE = "/usr/lib/python3/dist-packages/groundplane"
# Bytecode that names no time of its source: the image is read-only to work, and each start would compile all again.
_COMPILE = f"PYTHONHASHSEED=0 /usr/bin/python3 -S -m compileall -qq --invalidation-mode unchecked-hash {_PLACE}"
_CONFIG = {
    "User": "65532:65532",
    "Env": [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG=C.UTF-8",
        "PYTHONDONTWRITEBYTECODE=1",
    ],
    "WorkingDir": "/",
}


@cache
def name() -> str:
    """What this process's version of the image is called; nothing is built for it."""
    return _reference(_recipe(files()))


def image(store: ImageStore, builder: Builder, progress: Progress) -> Image:
    """The image of that name: at once when it is here, else built, once for all who ask at once. builder: of Debian's
    packages. Raises Unavailable for a mirror that is out of reach, and where this version's own files are not those
    any more that the process began with."""
    contents = files()
    recipe = _recipe(contents)
    if _reference(recipe) != name():
        raise Unavailable(
            "Groundplane's own files have changed since this control plane began: no staging image can be made of them",
            hint="ground down; the next command begins one of this version",
            code="image_build_failed",
        )
    known = store.find(recipe)
    if known is not None:
        return known
    with turns.alone(store.folder, f"staging-{recipe}", progress):
        return store.find(recipe) or _built(store, builder, recipe, contents, progress)


def files() -> dict[str, bytes]:
    """The package's files that the image has, by their names in it: they need the standard library alone."""
    paths = [_PACKAGE / "__init__.py"]
    for part in _PARTS:
        paths += (_PACKAGE / part).rglob("*.py")
    return {path.relative_to(_PACKAGE).as_posix(): path.read_bytes() for path in sorted(paths)}


def _recipe(contents: Mapping[str, bytes]) -> str:
    """sha256 of all that the image is made from, but for the versions that Debian has on the day."""
    digests = {each: hashlib.sha256(body).hexdigest() for each, body in contents.items()}
    made = [platform.machine(), _SUITE, _DEBS, _PLACE, _COMPILE, _CONFIG, digests]
    return hashlib.sha256(json.dumps(made, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _reference(recipe: str) -> str:
    return f"ground-staging:{recipe[:16]}"


def _built(
    store: ImageStore, builder: Builder, recipe: str, contents: Mapping[str, bytes], progress: Progress
) -> Image:
    lock = builder.lock(Recipe(Environment("staging"), "", "", (), suite=_SUITE, debs=_DEBS), progress)
    base = store.find(lock.recipe)
    if base is None or lock.base is None:
        raise Unavailable("the staging image's base was built, and is not there", hint="try again")
    with told_when_full(store.folder), store.scratch() as scratch:
        progress("adding the agent's files")
        rootfs = Rootfs(scratch, lock.base.suite, lock.base.epoch, progress)
        layer = _own_layer(store, rootfs, base, contents, scratch, lock.base.epoch)
    return store.add_image(
        recipe=recipe,
        builder=BUILDER,
        reference=_reference(recipe),
        layers=(*base.layers, layer),
        config=_CONFIG,
        epoch=lock.base.epoch,
        built_at=time.time_ns() // 1000,
        architecture=lock.base.architecture,
    )


def _own_layer(
    store: ImageStore, rootfs: Rootfs, base: Image, contents: Mapping[str, bytes], scratch: Path, epoch: int
) -> Layer:
    """The files with their bytecode, which the image's own Python makes."""
    below: list[Path] = []
    for number, each in enumerate(base.layers):
        below.append(scratch / f"base-{number}.tar")
        store.unpack(each, below[-1])
    folder = rootfs.tree / _PLACE.lstrip("/")
    for file, body in contents.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(body)
    rootfs.filled(below, {}, _PLACE, {}, _COMPILE)
    parents = {parent.as_posix() for parent in Path(_PLACE.lstrip("/")).parents}
    layers.tree(rootfs.tree, scratch / "own.tar", epoch, below=parents)
    return store.add_layer(scratch / "own.tar")
