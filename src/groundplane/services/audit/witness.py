"""Checkpoints kept elsewhere: whoever can write to the database, or roll it back, has no say there."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from groundplane.model.errors import GroundError, Invalid, Unavailable
from groundplane.services.audit.signing import signer
from groundplane.services.platform import Platform, now
from groundplane.spi import files
from groundplane.spi.blobs import open_store
from groundplane.store import audit

log = logging.getLogger(__name__)

EVERY = 10.0
"""Seconds between two checkpoints that are handed over, at least."""
_ENDING = ".checkpoint"


class Witness(Protocol):
    """A place for checkpoints. Every method raises Unavailable."""

    where: str

    def put(self, name: str, note: str) -> None: ...

    def names(self) -> Iterable[str]: ...

    def read(self, name: str) -> str: ...


class _Folder:
    """On this host or mounted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.where = str(path)

    def put(self, name: str, note: str) -> None:
        try:
            self._path.mkdir(mode=0o700, exist_ok=True)  # not its parents: a disk that is not mounted is told
            if not (self._path / name).exists():
                files.write(self._path / name, note.encode(), mode=0o444, durable=True)
        except OSError as error:
            raise self._unavailable(error) from error

    def names(self) -> list[str]:
        try:
            return sorted(path.name for path in self._path.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unavailable(error) from error

    def read(self, name: str) -> str:
        try:
            return (self._path / name).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: OSError) -> Unavailable:
        return Unavailable(
            f"the audit log's witness {self._path} does not take or give checkpoints: {error.strerror}",
            hint="the folder above it must be there, and this user able to write to it",
        )


class _Bucket:
    """At `s3://BUCKET/PREFIX`; its credentials are the process's AWS_* variables."""

    def __init__(self, url: str) -> None:
        self._store = open_store(url, os.environ)
        self.where = url

    def put(self, name: str, note: str) -> None:
        if not self._store.has(name):
            self._store.put(name, note.encode())

    def names(self) -> Iterable[str]:
        return self._store.listing("")

    def read(self, name: str) -> str:
        found = self._store.read(name)
        if found is None:
            raise Unavailable(f"the checkpoint {name} at {self.where} is gone", hint="somebody deleted it just now")
        return found.decode(errors="replace")


def checked(setting: str) -> str:
    """GROUND_AUDIT_WITNESS: a folder, `s3://BUCKET/PREFIX`, or "". Raises Invalid for what can be no witness."""
    if "://" in setting and not setting.startswith("s3://"):
        raise Invalid(f"GROUND_AUDIT_WITNESS={setting!r} is neither a folder nor s3://", hint="s3://BUCKET/PREFIX")
    if setting and "://" not in setting and not Path(setting).is_absolute():
        raise Invalid(f"GROUND_AUDIT_WITNESS={setting!r} is no absolute path", hint="write it from / on")
    return setting


def where(platform: Platform) -> str:
    """The place that is set, else a folder beside the database, which shows at least that that was rolled back."""
    return platform.audit_witness or str(platform.home / "checkpoints")


def witness(platform: Platform) -> Witness:
    """What keeps checkpoints there."""
    place = where(platform)
    return _Bucket(place) if place.startswith("s3://") else _Folder(Path(place))


def is_near(platform: Platform) -> bool:
    """Whether it answers at once, or not at all."""
    return not where(platform).startswith("s3://")


def push(platform: Platform) -> bool:
    """Hands the log's head over, when the witness does not have it; whether it did. A failure is logged, and kept for
    `ground status` and `doctor`."""
    with platform.database.read() as connection:
        state = audit.log(connection)
    if state is None or state.size == state.pushed_size:
        return False
    try:
        found = signer(platform.home).check(state.note)
        name = f"{_beginning(found.origin)}{found.size:020}-{found.root.hex()}{_ENDING}"
        witness(platform).put(name, state.note)
    except (GroundError, ValueError) as error:
        told = error.message if isinstance(error, GroundError) else f"the head of the log is not signed: {error}"
        log.warning("checkpoint not handed to the witness size=%d error=%s", state.size, told)
        if state.push_error != told:
            with platform.database.write() as connection:
                audit.not_pushed(connection, told)
        return False
    with platform.database.write() as connection:
        audit.pushed(connection, found.size, now())
    return True


@dataclass(frozen=True, slots=True)
class Kept:
    """A checkpoint that the witness has, by its name there."""

    name: str
    size: int
    root: bytes


def kept(platform: Platform) -> Iterator[Kept]:
    """Every checkpoint of this log that the witness has. Those of other logs, which may lie in the same place, are left
    alone. Raises ValueError for a name that tells no size and root."""
    beginning = _beginning(signer(platform.home).origin)
    for name in witness(platform).names():
        if name.startswith(beginning) and name.endswith(_ENDING):
            size, _, root = name.removeprefix(beginning).removesuffix(_ENDING).partition("-")
            try:
                yield Kept(name, int(size), bytes.fromhex(root))
            except ValueError:
                raise ValueError(f"{where(platform)}/{name} is no name of a checkpoint") from None


def note(platform: Platform, name: str) -> str:
    """The checkpoint itself."""
    return witness(platform).read(name)


def _beginning(origin: str) -> str:
    return origin.replace("/", "-") + "-"
