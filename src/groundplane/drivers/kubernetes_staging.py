"""What travels between a home and its storage: snapshots and inputs there, results back. All calls block."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
import tempfile
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from groundplane.drivers.kubernetes_objects import BASE, master_of
from groundplane.model.errors import Unavailable
from groundplane.model.reasons import Fault, Reason
from groundplane.spi import confining, conversions, layout, readers, wire
from groundplane.spi.blobs import BlobStore
from groundplane.spi.launch import Launch, Observation, StageIn
from groundplane.spi.snapshots import Entry, Manifest, digest_of

_SIGNED_FOR = 7 * 24 * 3600
"""Seconds that a pod's signed URLs hold: as long as they may. A pod may wait for days in a queue."""
_CHUNK = 1 << 20
INSIDE = Path(BASE) / "home"


class Refused(Exception):
    """The launch cannot be staged, for this reason."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.message)
        self.reason = reason


@dataclass(slots=True)
class Staged:
    """What the pod is told, what it needs of the storage first (key -> file), and what conversions lost.

    snapshot: the digest of the one that travels, "" for none. manifest: of one that the home does not have so. apart:
    digests of its files that lie in place, and travel by themselves.
    """

    order: str
    uploads: dict[str, Path] = field(default_factory=dict[str, Path])
    snapshot: str = ""
    manifest: Manifest | None = None
    apart: set[str] = field(default_factory=set[str])
    lost: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])


class Staging:
    """One backend's. Keys: `blobs/SHA256`, `snapshots/DIGEST.tar`, `attempts/CONTROL-PLANE/ATTEMPT/…`."""

    def __init__(self, home: Path, store: BlobStore, control_plane: str) -> None:
        self._home = home
        self.store = store
        self._attempts = f"attempts/{control_plane}/"
        self._there: set[str] = set()  # keys that the storage has: content, so they never change
        self._travelling: set[str] = set()  # snapshots of which nothing lies in place: they travel as they are
        self._carried: dict[Entry, Entry] = {}  # a file in place -> the same by its content
        self._conversions: dict[StageIn, tuple[StageIn, tuple[str, ...]]] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    # --- there ------------------------------------------------------------------------------------------------------

    def prepare(self, launch: Launch) -> Staged:
        """What the pod is told of a launch; nothing is uploaded yet. Raises Refused, OSError and Unavailable."""
        staged = Staged("")
        inputs: list[StageIn] = []
        urls: dict[str, str] = {}
        for each in self._converted(launch, staged):
            if not each.source:
                inputs.append(each)
                continue
            digest = self._digest(Path(each.source))
            key = f"blobs/{digest}"
            staged.uploads[key] = Path(each.source)
            urls[digest] = self.store.signed_get(key, _SIGNED_FOR)
            inputs.append(replace(each, source=str(layout.blob(INSIDE, digest)), source_name=""))
        staged.snapshot = digest = self._snapshot(launch.snapshot, staged)
        urls |= {digest: self.store.signed_get(f"blobs/{digest}", _SIGNED_FOR) for digest in staged.apart}
        inside = replace(launch, inputs=tuple(inputs), snapshot=digest, container=None)
        nodes = launch.resources.nodes or 1
        results = [self.store.signed_put(key, _SIGNED_FOR) for key in self._results(launch.attempt, nodes)]
        order = {
            "launch": wire.plain(inside),
            "snapshot": self.store.signed_get(_snapshot(digest), _SIGNED_FOR) if digest else "",
            "inputs": urls,
            **({"result": results[0]} if nodes == 1 else {"results": results, "master": master_of(launch.attempt)}),
        }
        staged.order = wire.encode(order).decode(errors="surrogateescape")
        return staged

    def upload(self, staged: Staged) -> None:
        """Everything that the storage lacks. Raises OSError and Unavailable."""
        for key, source in staged.uploads.items():
            self._once(key, source)
        if staged.snapshot:
            key = _snapshot(staged.snapshot)
            with self._alone(key):
                if not self._has(key):
                    with tempfile.TemporaryDirectory(dir=self._scratch()) as folder:
                        packed = Path(folder, "snapshot.tar")
                        self._pack(staged, packed)
                        self.store.put(key, packed)
                    self._there.add(key)

    def doubt(self, said: Reason) -> Reason:
        """A pod could not bring what the storage should have: somebody may have deleted more of it, and all is asked
        for again. The pod's own reason, or the storage's where this machine is refused too."""
        self._there.clear()
        try:
            self.store.check()
        except Unavailable as error:
            return Reason(error.code, error.message, error.hint, Fault.BACKEND)
        return said

    def begun(self, attempt: str, nodes: int = 1) -> None:
        """Notes that the cluster has been told: whoever finds no Job from now on knows that it was taken away."""
        self.store.put(f"{self._attempts}{attempt}/begun", str(nodes).encode() if nodes > 1 else b"")

    def has_begun(self, attempt: str) -> int:
        """On how many nodes; 0: the cluster has not been told."""
        found = self.store.read(f"{self._attempts}{attempt}/begun")
        return 0 if found is None else int(found or b"1")

    def forget(self, attempt: str, nodes: int = 1) -> None:
        """All that lies there for one attempt."""
        self.store.delete([f"{self._attempts}{attempt}/begun", *self._results(attempt, nodes)])

    def forget_wholly(self, attempt: str) -> None:
        """The same, where nobody knows what that is."""
        self.store.delete(list(self.store.listing(f"{self._attempts}{attempt}/")))

    def attempts(self) -> set[str]:
        """Those that something lies there for."""
        return {key.removeprefix(self._attempts).partition("/")[0] for key in self.store.listing(self._attempts)}

    # --- back -------------------------------------------------------------------------------------------------------

    def fetch(self, attempt: str, log: Path, node: int | None = None) -> Observation | None:
        """The attempt's result, or that of one of its nodes: its outputs are in the home's store, its log is whole at
        `log`. None when there is none. Raises OSError and Unavailable."""
        with tempfile.TemporaryDirectory(dir=self._scratch()) as folder:
            packed = Path(folder, "result.tar")
            if not self.store.fetch(self._result(attempt, node), packed):
                return None
            told: Observation | None = None
            with tarfile.open(packed) as tar:
                for member in tar:
                    content = tar.extractfile(member)
                    if content is None:
                        continue
                    if member.name == "observation.json":
                        told = wire.decode(Observation, json.loads(content.read().decode(errors="surrogateescape")))
                    elif member.name == "log.seg":
                        complete(log, content)
                    elif member.name.startswith("blobs/"):
                        self._keep(member.name.removeprefix("blobs/"), content, Path(folder))
            return told

    def _keep(self, digest: str, content: IO[bytes], scratch: Path) -> None:
        target = layout.blob(self._home, digest)
        fresh = scratch / digest
        found = hashlib.sha256()
        with fresh.open("wb") as file:
            while piece := content.read(_CHUNK):
                found.update(piece)
                file.write(piece)
            file.flush()
            os.fchmod(file.fileno(), 0o444)
            os.fsync(file.fileno())
        if found.hexdigest() != digest:
            raise OSError(f"an output came back damaged: {digest} is {found.hexdigest()}")
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh.replace(target)
        descriptor = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    # --- parts ------------------------------------------------------------------------------------------------------

    def _result(self, attempt: str, node: int | None = None) -> str:
        """node: where it has several."""
        return f"{self._attempts}{attempt}/result{'' if node is None else f'-{node}'}.tar"

    def _results(self, attempt: str, nodes: int) -> list[str]:
        return [self._result(attempt, node) for node in range(nodes)] if nodes > 1 else [self._result(attempt)]

    def _once(self, key: str, source: Path) -> None:
        if key in self._there:
            return
        with self._alone(key):
            if not self._has(key):
                self.store.put(key, source)
                self._there.add(key)

    def _has(self, key: str) -> bool:
        if key not in self._there and self.store.has(key):
            self._there.add(key)
        return key in self._there

    def _alone(self, key: str) -> threading.Lock:
        with self._lock:
            return self._locks.setdefault(key, threading.Lock())

    def _scratch(self) -> Path:
        folder = layout.incoming(self._home)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _snapshot(self, digest: str, staged: Staged) -> str:
        """The digest of the snapshot as it travels: large files do too, so that nothing of it lies in place."""
        if not digest or digest in self._travelling:
            return digest
        manifest = self._manifest(digest)
        if not any(entry.source for entry in manifest.files):
            self._travelling.add(digest)
            return digest
        files = tuple(self._carry(entry, staged) if entry.source else entry for entry in manifest.files)
        staged.manifest = replace(manifest, files=files)
        return digest_of(staged.manifest.to_json())

    def _manifest(self, digest: str) -> Manifest:
        return Manifest.from_json(layout.manifest(self._home, digest).read_bytes())

    def _carry(self, entry: Entry, staged: Staged) -> Entry:
        """A file in place by its content, which is read once. Raises Refused when it has changed."""
        status = Path(entry.source).stat()
        if (status.st_size, status.st_mtime_ns) != (entry.size, entry.mtime_ns):
            text = f"{entry.path} has changed since the run was submitted: files this large are used in place"
            raise Refused(Reason("input_changed", text, "run it again"))
        with self._alone(entry.source):
            if entry not in self._carried:
                digest = self._digest(Path(entry.source))
                self._carried[entry] = Entry(entry.path, entry.size, entry.executable, digest)
        carried = self._carried[entry]
        staged.uploads[f"blobs/{carried.sha256}"] = Path(entry.source)
        staged.apart.add(carried.sha256)
        return carried

    def _pack(self, staged: Staged, target: Path) -> None:
        """The snapshot as a part of a home."""
        manifest = staged.manifest or self._manifest(staged.snapshot)
        with tarfile.open(target, "w") as tar:
            _member(tar, f"snapshots/{staged.snapshot}.json", manifest.to_json())
            for digest in sorted({entry.sha256 for entry in manifest.files} - staged.apart):
                tar.add(layout.blob(self._home, digest), str(layout.blob(Path(), digest)), recursive=False)

    def _digest(self, path: Path) -> str:
        """Blobs are called by theirs."""
        if self._is_blob(path):
            return path.name
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _is_blob(self, path: Path) -> bool:
        return path.parent.parent == layout.blob(self._home, "00").parent.parent

    def _converted(self, launch: Launch, staged: Staged) -> list[StageIn]:
        """The inputs, tables converted here, once for all tasks: the pod's image has no reader of them."""
        wanted = conversions.wanted(launch.inputs)
        done = {each.path: self._conversion(each, strange=launch.strange) for each in wanted}
        staged.lost = {path: lost for path, (_, lost) in done.items() if lost}
        return [done[each.path][0] if each.path in done else each for each in launch.inputs]

    def _conversion(self, wanted: StageIn, *, strange: bool) -> tuple[StageIn, tuple[str, ...]]:
        """The same input as it comes to be, and what it lost on the way."""
        with self._alone(f"{wanted.source} {wanted.source_name} {wanted.path}"):
            known = self._conversions.get(wanted)
            if known is not None and Path(known[0].source).exists():  # nothing keeps it there for ever
                return known
            with tempfile.TemporaryDirectory(dir=self._scratch()) as folder:
                target = Path(folder, Path(wanted.path).name)
                targets = {str(target): wanted}
                argv = readers.command(conversions.CONVERTER)
                if strange:
                    argv = readers.confined(conversions.CONVERTER, [wanted.source], folder, str(self._home))
                done = subprocess.run(
                    argv,
                    input=conversions.request(targets),
                    capture_output=True,
                    check=False,
                    env=readers.environment(),
                )
                status = confining.status_of(done.returncode) if strange else done.returncode
                said = done.stderr.decode(errors="replace")
                lost, failed = conversions.answer(targets, done.stdout, status, said)
                if failed is not None:
                    raise Refused(failed)
                with (
                    os.fdopen(confining.taken(str(target)), "rb") as content,
                    tempfile.TemporaryDirectory(dir=self._scratch()) as scratch,
                ):
                    digest = hashlib.file_digest(content, "sha256").hexdigest()
                    content.seek(0)
                    self._keep(digest, content, Path(scratch))
            made = replace(wanted, source=str(layout.blob(self._home, digest)), source_name="")
            if self._is_blob(Path(wanted.source)):  # what lies in place may be another tomorrow
                self._conversions[wanted] = made, lost.get(wanted.path, ())
            return made, lost.get(wanted.path, ())


def complete(path: Path, content: IO[bytes]) -> None:
    """Makes the segment there what `content` is: it has its beginning already. Durable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        content.seek(file.tell())
        while piece := content.read(_CHUNK):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    import io

    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _snapshot(digest: str) -> str:
    return f"snapshots/{digest}.tar"
