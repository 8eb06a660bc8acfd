"""An image as each version of `docker load` takes it: in `docker save`'s form, with layers as they lie in the store."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from groundplane.spi.images import Image

_CHUNK = 1 << 20
_BLOCK = 512


def saved(image: Image, blobs: Callable[[str], Path]) -> Iterator[bytes]:
    """The tar in pieces. blobs: the file of a digest. Raises OSError for one that cannot be read."""
    config = blobs(image.config).read_bytes()
    layers = {f"{layer.digest}/layer.tar": blobs(layer.digest) for layer in image.layers}
    manifest = [{"Config": f"{image.config}.json", "RepoTags": [image.reference], "Layers": list(layers)}]
    yield from _file(f"{image.config}.json", config)
    for name, path in layers.items():
        size = path.stat().st_size
        yield _head(name, size)
        with path.open("rb") as file:
            while piece := file.read(_CHUNK):
                yield piece
        yield bytes(-size % _BLOCK)
    yield from _file("manifest.json", json.dumps(manifest).encode())
    yield bytes(2 * _BLOCK)


def _file(name: str, content: bytes) -> Iterator[bytes]:
    yield _head(name, len(content)) + content + bytes(-len(content) % _BLOCK)


def _head(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry.tobuf(tarfile.PAX_FORMAT)
