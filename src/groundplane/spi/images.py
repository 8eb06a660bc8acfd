"""An image builder: from a recipe to a lock, from a lock to an image. Built images lie in one OCI layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from groundplane.model.environments import Environment
from groundplane.model.locks import Lock

Progress = Callable[[str], None]
"""Takes one line for people. Raise in it to stop the work: what is half done is cleaned up."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a builder locks: the environment and what the catalogue knows about it.

    folder: the project's, for native locks and Dockerfiles; None when there is none. suite: the Debian suite that has
    the version. debs: all Debian packages asked for: the engine's, the language's, the system's. native: the project's
    own lock of the language's packages that counts (`uv.lock`), "" for none. python: requirements for uv; with a native
    lock what that must have. programs: the engine's names, first found wins. probe: arguments that make it print its
    version; () when it must not be asked. version: regex whose first group is the version.
    """

    environment: Environment
    toolchain: str
    engine: str
    programs: tuple[str, ...]
    probe: tuple[str, ...] = ()
    version: str = ""
    folder: Path | None = None
    suite: str = ""
    debs: tuple[str, ...] = ()
    native: str = ""
    python: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Layer:
    """diff: sha256 of the uncompressed tar. digest, size: of the blob as it lies in the layout (gzip)."""

    diff: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Image:
    """A built image. All digests are bare sha256 in hexadecimal.

    recipe: of the lock it was made from. manifest, config: digests of these blobs. reference: what a Docker engine
    calls it once loaded (`groundplane/r45:RECIPE…`); the image's own name where somebody else made it.
    built_at: µs UTC. probe: what the engine printed of itself while it was built; program: where it is.
    """

    recipe: str
    builder: str
    reference: str
    manifest: str
    config: str
    layers: tuple[Layer, ...]
    built_at: int
    probe: str = ""
    program: str = ""

    @property
    def ours(self) -> bool:
        """Whether its name is one that was given to it here: others' images keep theirs."""
        return self.reference.endswith(f":{self.recipe[:16]}")

    @property
    def size(self) -> int:
        """Bytes of its layers as they lie there."""
        return sum(layer.size for layer in self.layers)

    def is_of(self, lock: Lock) -> bool:
        """Whether its layers are those that the lock names; a lock that is being made names none yet."""
        return not lock.layers or tuple(layer.diff for layer in self.layers) == lock.layers


class Builder(Protocol):
    """Every method raises Invalid for what its caller got wrong (an unknown package), Unavailable for what is out of
    reach (a mirror, a registry, a daemon; `no_space`), each naming the thing and the way out."""

    @property
    def name(self) -> str: ...

    def lock(self, recipe: Recipe, progress: Progress) -> Lock:
        """Resolves, builds and probes. The same packages give the same lock, byte for byte."""
        ...

    def build(self, lock: Lock, progress: Progress, pool: Path | None = None) -> Image:
        """The image of a lock; at once when it is there. pool: a folder that `pool` made; the network is then left
        alone. Idempotent; killed at any instant it leaves nothing that counts."""
        ...

    def pool(self, lock: Lock, folder: Path, progress: Progress) -> set[str]:
        """Puts every file that the build needs into the folder, beside what is there; what they are kept under."""
        ...
