"""What `docker save` gives, read as it comes: an image's configuration and its layers, one on disk at a time.

Three forms are met: a folder a layer with `layer.tar` (Docker until 24), an OCI layout of uncompressed blobs (25 and
later), and one of gzipped blobs (with containerd's store; untested). What is a layer is told by its content.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

from groundplane.model.errors import Outside
from groundplane.oci.pieces import Pieces
from groundplane.spi.images import Layer

_CHUNK = 1 << 20
_LARGEST_JSON = 8 << 20
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, slots=True)
class Saved:
    """config: its bytes as they are. layers: bottom first."""

    config: bytes
    layers: tuple[Layer, ...]


def read(pieces: Iterator[bytes], scratch: Path, keep: Callable[[Path, str], Layer]) -> Saved:
    """The one image that was saved. keep: called with each layer's uncompressed tar, which is deleted afterwards, and
    its sha256. Raises Outside `image_damaged` when something is missing or other than named."""
    layers: dict[str, Layer] = {}
    documents: dict[str, bytes] = {}
    manifest: Any = None
    spool = scratch / "layer.tar"
    try:
        with tarfile.open(fileobj=Pieces(pieces), mode="r|") as source:
            for member in source:
                file = source.extractfile(member) if member.isreg() else None
                if file is None:
                    continue
                head = file.read(512)
                if head[:1] in (b"{", b"[") and member.size <= _LARGEST_JSON:
                    body = head + file.read()
                    documents[hashlib.sha256(body).hexdigest()] = body
                    manifest = json.loads(body) if member.name == "manifest.json" else manifest
                elif len(head) == 512 or head[:2] == _GZIP:
                    diff = _spool(head, file, spool)
                    layers[diff] = keep(spool, diff)
                    spool.unlink()
    except tarfile.TarError as error:
        raise _damaged(f"it is no image: {error}") from error
    if not manifest:
        raise _damaged("it came without a manifest")
    name = str(manifest[0]["Config"]).rpartition("/")[2].removesuffix(".json")
    if name not in documents:
        raise _damaged(f"it came without its configuration {name}")
    wanted = [digest.removeprefix("sha256:") for digest in diffs(json.loads(documents[name]))]
    if missing := [diff for diff in wanted if diff not in layers]:
        raise _damaged(f"it came without its layer sha256:{missing[0]}")
    return Saved(documents[name], tuple(layers[diff] for diff in wanted))


def diffs(config: Mapping[str, Any]) -> list[str]:
    """`sha256:…` of each uncompressed layer that a configuration names."""
    return [str(digest) for digest in config.get("rootfs", {}).get("diff_ids") or ()]


def _spool(head: bytes, file: IO[bytes], target: Path) -> str:
    """Writes the uncompressed tar; its sha256."""
    if head.startswith(_ZSTD):
        raise Outside("the engine gives layers compressed by zstd, which cannot be read", code="image_damaged")
    unpacker = zlib.decompressobj(31) if head.startswith(_GZIP) else None
    digest = hashlib.sha256()
    with target.open("wb") as out:
        block = head
        while block:
            plain = unpacker.decompress(block) if unpacker else block
            digest.update(plain)
            out.write(plain)
            block = file.read(_CHUNK)
        if unpacker:
            _write(out, digest, unpacker.flush())
    return digest.hexdigest()


def _write(out: BinaryIO, digest: Any, data: bytes) -> None:
    digest.update(data)
    out.write(data)


def _damaged(said: str) -> Outside:
    return Outside(
        f"the engine gives an image that cannot be read: {said}", hint="pull or build it again", code="image_damaged"
    )
