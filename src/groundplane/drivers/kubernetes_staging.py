"""What travels between a home and its storage: snapshots and inputs there, results back. All calls block."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from groundplane.drivers.kubernetes_objects import BASE, master_of
from groundplane.model.reasons import Fault, Reason
from groundplane.spi import layout, wire
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
    """What the pod is told, what it needs of the storage first (key -> file or bytes), and what conversions lost."""

    order: str
    uploads: dict[str, Path | bytes] = field(default_factory=dict[str, Path | bytes])
    snapshot: Manifest | None = None
    lost: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])


class Staging:
    """One backend's. Keys: `blobs/SHA256`, `snapshots/DIGEST.tar`, `attempts/CONTROL-PLANE/ATTEMPT/…`."""

    def __init__(self, home: Path, store: BlobStore, control_plane: str) -> None:
        self._home = home
        self.store = self._store = store
        self._attempts = f"attempts/{control_plane}/"
        self._there: set[str] = set()  # keys that the storage has: content, so they never change
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
            urls[digest] = self._store.signed_get(key, _SIGNED_FOR)
            inputs.append(replace(each, source=str(layout.blob(INSIDE, digest)), source_name=""))
        manifest = self._manifest(launch.snapshot)
        digest = ""
        if manifest is not None:
            staged.snapshot = manifest
            digest = digest_of(manifest.to_json())
        inside = replace(launch, inputs=tuple(inputs), snapshot=digest, container=None)
        nodes = launch.resources.nodes or 1
        results = [self._store.signed_put(key, _SIGNED_FOR) for key in self._results(launch.attempt, nodes)]
        order = {
            "launch": wire.plain(inside),
            "snapshot": self._store.signed_get(_snapshot(digest), _SIGNED_FOR) if digest else "",
            "inputs": urls,
            **({"result": results[0]} if nodes == 1 else {"results": results, "master": master_of(launch.attempt)}),
        }
        staged.order = wire.encode(order).decode(errors="surrogateescape")
        return staged

    def upload(self, staged: Staged) -> None:
        """Everything that the storage lacks. Raises OSError and Unavailable."""
        for key, source in staged.uploads.items():
            self._once(key, source)
        if staged.snapshot is not None:
            key = _snapshot(digest_of(staged.snapshot.to_json()))
            with self._alone(key):
                if not self._has(key):
                    with tempfile.TemporaryDirectory(dir=self._scratch()) as folder:
                        packed = Path(folder, "snapshot.tar")
                        self._pack(staged.snapshot, packed)
                        self._store.put(key, packed)
                    self._there.add(key)

    def begun(self, attempt: str, nodes: int = 1) -> None:
        """Notes that the cluster has been told: whoever finds no Job from now on knows that it was taken away."""
        self._store.put(f"{self._attempts}{attempt}/begun", str(nodes).encode() if nodes > 1 else b"")

    def has_begun(self, attempt: str) -> int:
        """On how many nodes; 0: the cluster has not been told."""
        found = self._store.read(f"{self._attempts}{attempt}/begun")
        return 0 if found is None else int(found or b"1")

    def forget(self, attempt: str, nodes: int = 1) -> None:
        """All that lies there for one attempt."""
        self._store.delete([f"{self._attempts}{attempt}/begun", *self._results(attempt, nodes)])

    def forget_wholly(self, attempt: str) -> None:
        """The same, where nobody knows what that is."""
        self._store.delete(list(self._store.listing(f"{self._attempts}{attempt}/")))

    def attempts(self) -> set[str]:
        """Those that something lies there for."""
        return {key.removeprefix(self._attempts).partition("/")[0] for key in self._store.listing(self._attempts)}

    # --- back -------------------------------------------------------------------------------------------------------

    def fetch(self, attempt: str, log: Path, node: int | None = None) -> Observation | None:
        """The attempt's result, or that of one of its nodes: its outputs are in the home's store, its log is whole at
        `log`. None when there is none. Raises OSError and Unavailable."""
        with tempfile.TemporaryDirectory(dir=self._scratch()) as folder:
            packed = Path(folder, "result.tar")
            if not self._store.fetch(self._result(attempt, node), packed):
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

    def _once(self, key: str, source: Path | bytes) -> None:
        if key in self._there:
            return
        with self._alone(key):
            if not self._has(key):
                self._store.put(key, source)
                self._there.add(key)

    def _has(self, key: str) -> bool:
        if key not in self._there and self._store.has(key):
            self._there.add(key)
        return key in self._there

    def _alone(self, key: str) -> threading.Lock:
        with self._lock:
            return self._locks.setdefault(key, threading.Lock())

    def _scratch(self) -> Path:
        folder = layout.incoming(self._home)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _manifest(self, digest: str) -> Manifest | None:
        """The snapshot's, in which nothing lies in place: large files travel too."""
        if not digest:
            return None
        manifest = Manifest.from_json(layout.manifest(self._home, digest).read_bytes())
        if not any(entry.source for entry in manifest.files):
            return manifest
        return replace(manifest, files=tuple(self._carried(entry) for entry in manifest.files))

    def _carried(self, entry: Entry) -> Entry:
        if not entry.source:
            return entry
        status = Path(entry.source).stat()
        if (status.st_size, status.st_mtime_ns) != (entry.size, entry.mtime_ns):
            text = f"{entry.path} has changed since the run was submitted: files this large are used in place"
            raise Refused(Reason("input_changed", text, "run it again"))
        digest = self._digest(Path(entry.source))
        self._once(f"blobs/{digest}", Path(entry.source))
        return Entry(entry.path, entry.size, entry.executable, digest, source="")

    def _pack(self, manifest: Manifest, target: Path) -> None:
        """The snapshot as a part of a home."""
        data = manifest.to_json()
        with tarfile.open(target, "w") as tar:
            _member(tar, f"snapshots/{digest_of(data)}.json", data)
            for digest in sorted({entry.sha256 for entry in manifest.files}):
                tar.add(layout.blob(self._home, digest), str(layout.blob(Path(), digest)), recursive=False)

    def _digest(self, path: Path) -> str:
        """Blobs are called by theirs."""
        if path.parent.parent == layout.blob(self._home, "00").parent.parent:
            return path.name
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _converted(self, launch: Launch, staged: Staged) -> list[StageIn]:
        """The inputs, tables converted here: the pod's image has no reader of them."""
        wanted = [each for each in launch.inputs if each.source_name]
        if not wanted:
            return list(launch.inputs)
        folder = Path(tempfile.mkdtemp(dir=self._scratch(), prefix="convert-"))
        try:
            targets = {each.path: folder / str(number) / Path(each.path).name for number, each in enumerate(wanted)}
            for target in targets.values():
                target.parent.mkdir()
            asked = [
                {"source": each.source, "source_name": each.source_name, "target": str(targets[each.path])}
                for each in wanted
            ]
            answers = _convert({"conversions": asked}, wanted)
            found: dict[str, StageIn] = {}
            for each, answer in zip(wanted, answers, strict=True):
                if error := answer.get("error"):
                    raise Refused(Reason(error["code"], error["message"], error.get("hint", "")))
                if answer.get("lost"):
                    staged.lost[each.path] = tuple(map(str, answer["lost"]))
                digest = self._digest(targets[each.path])
                with targets[each.path].open("rb") as content:
                    self._keep(digest, content, folder)
                found[each.path] = replace(each, source=str(layout.blob(self._home, digest)), source_name="")
            return [found.get(each.path, each) for each in launch.inputs]
        finally:
            import shutil

            shutil.rmtree(folder)


def complete(path: Path, content: IO[bytes]) -> None:
    """Makes the segment there what `content` is: it has its beginning already. Durable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        content.seek(file.tell())
        while piece := content.read(_CHUNK):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _convert(request: Mapping[str, Any], wanted: list[StageIn]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-I", "-m", "groundplane.data"],
        input=json.dumps(request).encode(),
        capture_output=True,
        check=False,
    )
    try:
        answers: list[dict[str, Any]] = json.loads(done.stdout)["conversions"]
    except (ValueError, KeyError, TypeError):
        answers = []
    if len(answers) != len(wanted):
        names = ", ".join(f"{each.source_name} to {each.path}" for each in wanted)
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        text = f"converting {names} crashed (exit code {done.returncode}){': ' + last[0] if last else ''}"
        hint = "check that the file is whole; give the step the file as it is, without a conversion"
        raise Refused(Reason("conversion_failed", text, hint, Fault.USER))
    return answers


def _member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    import io

    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _snapshot(digest: str) -> str:
    return f"snapshots/{digest}.tar"
