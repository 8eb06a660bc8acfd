"""What a task that ran in Kubeflow has left: its outputs become blobs, its log a segment of the run's."""

from __future__ import annotations

import hashlib
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from groundplane.drivers.kubeflow_api import Refused, Server
from groundplane.drivers.kubeflow_runs import Seen
from groundplane.model.artifacts import Output
from groundplane.model.globs import is_glob, matches
from groundplane.spi import layout, segments
from groundplane.spi.blobs import BlobStore
from groundplane.spi.launch import Called

_CHUNK = 1 << 20
_TAIL = 8192


class Unreadable(Exception):
    """An output that the server does not give away, or not as it should be: it says why."""


Source = Callable[[str], Iterator[bytes] | None]
"""Gives a task's artifact by its name there; None for one that it has not."""


def outputs(
    source: Source, home: Path, called: Called, declared: Iterable[str]
) -> tuple[tuple[Output, ...], tuple[str, ...]]:
    """The declared outputs, and the names of those that are missing. Raises Unreadable, Unavailable, and OSError."""
    found: list[Output] = []
    missing: list[str] = []
    many = [name for name in declared if name.endswith("/") or is_glob(name)]
    for name in declared:
        if name in many:
            continue
        with _named(name):
            content = source(called.artifacts[name])
            if content is None:
                missing.append(name)
            else:
                sha256, size = _keep(home, content)
                found.append(Output(name, size, sha256))
    with _named(*many):
        content = source(called.packed) if many else None
        unpacked = list(_unpacked(content, home, many)) if content is not None else []
    missing += [name for name in many if not any(_within(name, each.name) for each in unpacked)]
    return (*found, *unpacked), tuple(missing)


@contextmanager
def _named(*outputs: str) -> Generator[None]:
    """What cannot be read within is said of these."""
    try:
        yield
    except Unreadable as error:
        raise Unreadable(f"{', '.join(map(repr, outputs))}: {error}") from error


def given_away(server: Server, seen: Seen) -> Source:
    """By the server's API."""

    def source(name: str) -> Iterator[bytes] | None:
        found = seen.outputs.get(name)
        return _content(server, found[0]) if found else None

    return source


def _content(server: Server, artifact: str) -> Iterator[bytes]:
    try:
        told = server.artifact(artifact)
        url = str(told.get("download_url", ""))
        if not url:
            raise Unreadable(f"the server signs no URL for artifact {artifact} ({told.get('uri', '?')})")
        yield from server.download(url)
    except Refused as refused:
        raise Unreadable(refused.message or str(refused.status)) from refused


def stored(store: BlobStore, home: Path, root: str, run_id: str, called: Called, item: int | None) -> Source:
    """From where the KFP run keeps its artifacts: `…/RUN/TASK/SOMETHING/ARTIFACT` below the root. Which of a fan-out's
    tasks is which, an artifact of each tells. Raises Unreadable."""
    wanted = {*called.artifacts.values(), called.packed, called.item} - {""}
    groups: dict[str, dict[str, str]] = {}
    for key in store.listing(f"{root}/"):
        _, found, rest = key.partition(f"/{run_id}/{called.task}/")
        folder, _, artifact = rest.rpartition("/")
        if found and artifact in wanted and "/" not in folder:
            groups.setdefault(folder, {})[artifact] = key
    chosen = [groups[folder] for folder in sorted(groups)]
    if item is not None:
        text, number = called.items[item].encode(), called.items[:item].count(called.items[item])
        same = [each for each in chosen if called.item in each and store.read(each[called.item]) == text]
        chosen = same[number : number + 1]
    if len(chosen) > 1:
        raise Unreadable(f"the storage has {len(chosen)} results of it")

    def source(name: str) -> Iterator[bytes] | None:
        key = chosen[0].get(name) if chosen else None
        return _fetched(store, key, home) if key else None

    return source


def _fetched(store: BlobStore, key: str, home: Path) -> Iterator[bytes]:
    with tempfile.TemporaryDirectory(dir=_incoming(home)) as folder:
        target = Path(folder) / "content"
        if not store.fetch(key, target):
            raise Unreadable(f"the storage has no {key} any more")
        with target.open("rb") as file:
            yield from _pieces(file)


def _unpacked(pieces: Iterator[bytes], home: Path, many: list[str]) -> Iterator[Output]:
    """What the tar of a component of ours holds: regular files of these outputs, and nothing else counts."""
    with tempfile.TemporaryFile(dir=_incoming(home)) as file:
        for piece in pieces:
            file.write(piece)
        file.seek(0)
        try:
            with tarfile.open(fileobj=file, mode="r:gz") as tar:
                for member in tar:
                    name = member.name.removeprefix("./")
                    content = tar.extractfile(member) if member.isreg() else None
                    if content is not None and any(_within(output, name) for output in many):
                        sha256, size = _keep(home, _pieces(content))
                        yield Output(name, size, sha256)
        except (tarfile.TarError, EOFError) as error:
            raise Unreadable(f"what is there is no tar: {error}") from error


def _within(output: str, name: str) -> bool:
    if ".." in name.split("/"):
        return False
    return name.startswith(output) if output.endswith("/") else matches(output, name)


def _pieces(content: IO[bytes]) -> Iterator[bytes]:
    while piece := content.read(_CHUNK):
        yield piece


def _incoming(home: Path) -> Path:
    folder = layout.incoming(home)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _keep(home: Path, pieces: Iterable[bytes]) -> tuple[str, int]:
    """The content as a blob: its sha256 and size."""
    digest, size = hashlib.sha256(), 0
    handle, name = tempfile.mkstemp(dir=_incoming(home))
    try:
        with os.fdopen(handle, "wb") as file:
            for piece in pieces:
                digest.update(piece)
                size += len(piece)
                file.write(piece)
            file.flush()
            os.fchmod(file.fileno(), 0o444)
            os.fsync(file.fileno())
        target = layout.blob(home, digest.hexdigest())
        target.parent.mkdir(parents=True, exist_ok=True)
        Path(name).replace(target)
        descriptor = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    finally:
        Path(name).unlink(missing_ok=True)
    return digest.hexdigest(), size


class Log:
    """An attempt's segment, which grows by what the server's whole log has beyond it. KFP tells both streams as one:
    it counts as standard output. Nothing in it is a secret of the caller's: values of `-e` never go to Kubeflow."""

    def __init__(self, home: Path, run: str, task: str, attempt: str) -> None:
        self._path = layout.segments(home, run) / f"{attempt}.seg"
        self._task = task
        self._attempt = attempt
        self._have: int | None = None

    @property
    def bytes(self) -> int:
        """How much of the server's log is in it: also of what a former control plane wrote."""
        if self._have is None:
            try:
                content = self._path.read_bytes()
            except FileNotFoundError:
                content = b""
            whole, self._have = 0, 0
            for record, behind in segments.decode(content):
                self._have += len(record.data)
                whole = behind
            if whole < len(content):  # cut off in the middle of a record
                os.truncate(self._path, whole)
        return self._have

    def take(self, said: bytes, *, over: bool) -> bool:
        """said: the log from its beginning. over: nothing follows, so an unfinished line counts. Whether it grew."""
        end = len(said) if over else said.rfind(b"\n") + 1
        new = said[self.bytes : end]
        if not new:
            return False
        at, records = time.time_ns() // 1000, list[bytes]()
        while new:
            cut = len(new) if len(new) <= segments.MAX_DATA else new.rfind(b"\n", 0, segments.MAX_DATA) + 1
            piece = new[: cut or segments.MAX_DATA]
            flags = 0 if piece.endswith(b"\n") else segments.UNFINISHED
            records.append(segments.encode(segments.Record(self._task, self._attempt, 0, at, piece, flags)))
            new = new[len(piece) :]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(b"".join(records))
        self._have = end
        return True


def tail(said: bytes) -> str:
    """The end of a log, as toolchains read it."""
    return said[-_TAIL:].decode(errors="replace")
