"""Built images on disk: one OCI image layout, in which equal layers lie once.

oci-layout  index.json  blobs/sha256/HEX       as the OCI image layout has them
records/RECIPE.json                            an image counts when its record is here
bases/KEY.json                                 layers that several images stand on
documents/MANIFEST/NAME                        SBOMs and provenance
scratch/                                       of builds that run; each folder is locked by its build
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from groundplane.images.disk import told_when_full
from groundplane.model.errors import Unavailable
from groundplane.spi import wire
from groundplane.spi.images import Image, Layer

_CHUNK = 1 << 20
_LEVEL = 1  # the others save little, and take several times as long
_YOUNG = 3600.0  # seconds for which a blob that nobody names yet may belong to a build that runs
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True, slots=True)
class Stage:
    """Layers that an image may stand on. asked: the programs and arguments that the engine in them was probed with, ()
    for not at all. program, probe: what came of it, as `Image` has them."""

    layers: tuple[Layer, ...] = ()
    asked: tuple[str, ...] = ()
    program: str = ""
    probe: str = ""


class ImageStore:
    """For several processes at once. Every write is whole or not at all; a full disk is Unavailable `no_space`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._blobs = folder / "blobs" / "sha256"

    # --- layers -----------------------------------------------------------------------------------------------------

    def add_layer(self, tar: Path) -> Layer:
        """Keeps an uncompressed tar as a layer; the same tar is the same layer."""
        diff, digest = hashlib.sha256(), hashlib.sha256()
        # By hand: gzip.open would write a time, and hashing in passing saves reading it again.
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31)
        with tar.open("rb") as source, self._fresh() as target:
            while block := source.read(_CHUNK):
                diff.update(block)
                _write(target, digest, packer.compress(block))
            _write(target, digest, packer.flush())
            size = target.tell()
            self._keep(target, digest.hexdigest())
        return Layer(diff.hexdigest(), digest.hexdigest(), size)

    def known(self, diff: str) -> Layer | None:
        """The layer of that content, when an image has it."""
        return next((layer for image in self.images() for layer in image.layers if layer.diff == diff), None)

    def take_blob(self, path: Path) -> str:
        """Copies a file in; its digest."""
        digest = hashlib.sha256()
        with path.open("rb") as source, self._fresh() as target:
            while block := source.read(_CHUNK):
                _write(target, digest, block)
            self._keep(target, digest.hexdigest())
        return digest.hexdigest()

    def unpack(self, layer: Layer, target: Path) -> None:
        """Writes the layer's uncompressed tar. Raises Unavailable when the blob is not what its digest says."""
        found = hashlib.sha256()
        with told_when_full(self.folder), target.open("wb") as file:
            for block in self.unpacked(layer.digest):
                found.update(block)
                file.write(block)
        if found.hexdigest() != layer.diff:
            raise Unavailable(
                f"layer {layer.diff[:16]} is damaged: its content is {found.hexdigest()[:16]}",
                hint="`ground images prune --all` and build again",
                code="image_damaged",
            )

    def unpacked(self, digest: str) -> Iterator[bytes]:
        """The layer's uncompressed tar, in pieces."""
        with gzip.open(self.blob(digest), "rb") as source:
            while block := source.read(_CHUNK):
                yield block

    def blob(self, digest: str) -> Path:
        """The file of that digest."""
        return self._blobs / digest

    # --- stages -----------------------------------------------------------------------------------------------------

    def stage(self, key: str) -> Stage | None:
        """The stage of that key, when its blobs are here."""
        found = _read(self.folder / "bases" / f"{key}.json", Stage)
        return found if found and found.layers and self._has(found) else None

    def keep_stage(self, key: str, stage: Stage) -> Stage:
        """Other images may stand on it from now on."""
        self.put(self.folder / "bases" / f"{key}.json", wire.encode(stage))
        return stage

    def _has(self, stage: Stage) -> bool:
        return all(self.blob(layer.digest).is_file() for layer in stage.layers)

    # --- images -----------------------------------------------------------------------------------------------------

    def add_image(
        self,
        *,
        recipe: str,
        builder: str,
        reference: str,
        layers: Sequence[Layer],
        config: Mapping[str, Any],
        epoch: int,
        built_at: int,
        probe: str = "",
        program: str = "",
        architecture: str = "amd64",
    ) -> Image:
        """Makes an image of layers. config: OCI's (`Env`, `User`, `Cmd`, …). epoch: seconds, the `created` of its
        config, so that the same layers give the same image."""
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
        body = {
            "architecture": architecture,
            "os": "linux",
            "created": created,
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.diff}" for layer in layers]},
            "history": [{"created": created, "created_by": f"groundplane {builder}"} for _ in layers],
        }
        image = Image(recipe, builder, reference, "", "", tuple(layers), built_at, probe, program)
        return self.add_configured(image, _canonical(body))

    def add_configured(self, image: Image, config: bytes) -> Image:
        """Makes an image of layers and a configuration whose bytes are kept as they are; its digests are set here."""
        config_digest, config_size = self._put_blob(config)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": f"sha256:{config_digest}", "size": config_size},
            "layers": [
                {"mediaType": LAYER_TYPE, "digest": f"sha256:{layer.digest}", "size": layer.size}
                for layer in image.layers
            ],
        }
        manifest_digest, _ = self._put_blob(_canonical(manifest))
        return self.record(replace(image, manifest=manifest_digest, config=config_digest))

    def record(self, image: Image) -> Image:
        """Has the image count."""
        self.put(self.folder / "records" / f"{image.recipe}.json", wire.encode(image))
        self._write_index()
        return image

    def find(self, recipe: str) -> Image | None:
        """The image of that recipe."""
        return _read(self.folder / "records" / f"{recipe}.json", Image)

    def images(self) -> list[Image]:
        """All of them, by recipe."""
        paths = sorted((self.folder / "records").glob("*.json"))
        return [image for path in paths if (image := _read(path, Image)) is not None]

    def costs(self) -> dict[str, tuple[int, int]]:
        """recipe -> (bytes that only this image has, bytes that others have too)."""
        found = self.images()
        users = Counter(digest for image in found for digest in {layer.digest for layer in image.layers})
        return {
            image.recipe: (
                sum(layer.size for layer in image.layers if users[layer.digest] == 1),
                sum(layer.size for layer in image.layers if users[layer.digest] > 1),
            )
            for image in found
        }

    def remove(self, recipe: str) -> None:
        """The image counts no more; `collect` frees its space."""
        (self.folder / "records" / f"{recipe}.json").unlink(missing_ok=True)
        self._write_index()

    def document(self, image: Image, name: str) -> Path:
        """Where a document about the image lies."""
        return self.folder / "documents" / image.manifest / name

    def collect(self) -> int:
        """Deletes the blobs, bases and documents that no image names and no running build has just written; bytes."""
        images = self.images()
        named = {digest for image in images for digest in (image.manifest, image.config)}
        named |= {layer.digest for image in images for layer in image.layers}
        freed = 0
        now = time.time()
        for path in self._blobs.glob("*") if self._blobs.is_dir() else ():
            status = path.stat()
            if path.name not in named and (now - status.st_mtime > _YOUNG or not self._building()):
                path.unlink(missing_ok=True)
                freed += status.st_size
        for path in (self.folder / "bases").glob("*.json"):
            stage = _read(path, Stage)
            if stage is None or not self._has(stage):
                path.unlink(missing_ok=True)
        manifests = {image.manifest for image in images}
        for path in (self.folder / "documents").glob("*"):
            if path.name not in manifests:
                shutil.rmtree(path, ignore_errors=True)
        return freed

    def check(self, image: Image) -> list[str]:
        """What of the image is not what its digest says: a sentence each."""
        found: list[str] = []
        for digest, what in ((image.manifest, "manifest"), (image.config, "configuration")):
            found += self._differs(digest, what)
        for layer in image.layers:
            damaged = self._differs(layer.digest, "layer")
            found += damaged
            if not damaged:
                content = hashlib.sha256()
                for block in self.unpacked(layer.digest):
                    content.update(block)
                if content.hexdigest() != layer.diff:
                    found.append(f"layer sha256:{layer.diff} has the content sha256:{content.hexdigest()}")
        if not found:
            config = json.loads(self.blob(image.config).read_bytes())
            if config["rootfs"]["diff_ids"] != [f"sha256:{layer.diff}" for layer in image.layers]:
                found.append(f"configuration sha256:{image.config} names other layers than the image has")
        return found

    def _differs(self, digest: str, what: str) -> list[str]:
        try:
            with self.blob(digest).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return [f"{what} sha256:{digest} is gone"]
        return [] if found == digest else [f"{what} sha256:{digest} has the digest sha256:{found}"]

    # --- builds -----------------------------------------------------------------------------------------------------

    @contextmanager
    def scratch(self) -> Generator[Path]:
        """A folder for a build, gone at its end. Those of builds that were killed are swept."""
        parent = self.folder / "scratch"
        parent.mkdir(parents=True, exist_ok=True)
        self._sweep(parent)
        folder = Path(tempfile.mkdtemp(dir=parent))
        lock = _locked(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if lock is not None:
                os.close(lock)

    def _sweep(self, parent: Path) -> None:
        for folder in parent.iterdir():
            if folder.is_dir() and (lock := _locked(folder)) is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)

    def _building(self) -> bool:
        """Whether some build runs, in whichever process."""
        for folder in (self.folder / "scratch").glob("*"):
            lock = _locked(folder)
            if lock is None:
                return True
            os.close(lock)
        return False

    # --- files ------------------------------------------------------------------------------------------------------

    def _put_blob(self, body: bytes) -> tuple[str, int]:
        digest = hashlib.sha256(body).hexdigest()
        with self._fresh() as target:
            target.write(body)
            self._keep(target, digest)
        return digest, len(body)

    @contextmanager
    def _fresh(self) -> Generator[BinaryIO]:
        """A new file beside the blobs, deleted unless `_keep` has renamed it."""
        self._blobs.mkdir(parents=True, exist_ok=True)
        with told_when_full(self.folder), tempfile.NamedTemporaryFile(dir=self.folder, delete=False) as file:
            try:
                yield file  # pyright: ignore[reportReturnType]
            finally:
                Path(file.name).unlink(missing_ok=True)

    def _keep(self, file: BinaryIO, digest: str) -> None:
        file.flush()
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), 0o444)
        Path(file.name).replace(self.blob(digest))
        _sync(self._blobs)

    def put(self, path: Path, body: bytes) -> None:
        """Writes the file whole or not at all, however many write it at once. Raises Unavailable `no_space`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with told_when_full(self.folder), tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            try:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
        _sync(path.parent)

    def _write_index(self) -> None:
        """index.json from the records: what other tools read."""
        entries = [
            {
                "mediaType": MANIFEST_TYPE,
                "digest": f"sha256:{image.manifest}",
                "size": self.blob(image.manifest).stat().st_size,
                "annotations": {"org.opencontainers.image.ref.name": image.reference},
            }
            for image in self.images()
            if self.blob(image.manifest).is_file()
        ]
        index = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": entries}
        self.put(self.folder / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        self.put(self.folder / "index.json", _canonical(index))


def own_reference(name: str, recipe: str) -> str:
    """What an image that was made here is called."""
    return f"groundplane/{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-') or 'image'}:{recipe[:16]}"


def _canonical(body: Any) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def _write(target: BinaryIO, digest: Any, data: bytes) -> None:
    digest.update(data)
    target.write(data)


def _read(path: Path, kind: Any) -> Any:
    try:
        return wire.decode(kind, wire.parse(path.read_bytes()))
    except FileNotFoundError:
        return None


def _locked(folder: Path) -> int | None:
    """The folder's lock, None when somebody else has it or it is gone."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
