"""What an environment was resolved to: enough to make the same image again, years later and without a network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Deb:
    """A Debian package. path: below the archive's root (`pool/main/r/…`). archive: `debian` or `debian-security`."""

    name: str
    version: str
    architecture: str
    sha256: str
    size: int
    path: str
    archive: str = "debian"


@dataclass(frozen=True, slots=True)
class Base:
    """The Debian suite below everything: its essential packages. epoch: seconds, no file's time is later."""

    suite: str
    architecture: str
    epoch: int
    packages: tuple[Deb, ...] = ()


@dataclass(frozen=True, slots=True)
class File:
    """A file of a language's own packages: a wheel, a source archive of CRAN."""

    name: str
    version: str
    file: str
    url: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Native:
    """A language's own lock, embedded. kind: `pylock` or `renv`. sha256: of the text. files: its
    packages that the image gets from it. tools: Debian packages that compile their sources, not in the image."""

    kind: str
    text: str
    sha256: str
    files: tuple[File, ...] = ()
    tools: tuple[Deb, ...] = ()


@dataclass(frozen=True, slots=True)
class Upstream:
    """An image that Docker's engine pulls or builds. reference: as asked for: its name, or the Dockerfile's path.

    digest: of the manifest in its registry, "" where it is only in the engine. dockerfile, context: sha256 of the
    file and of what it copies. bases: reference -> digest in its registry, else id in the engine, of each FROM.
    config: sha256 of the image's configuration, by which engines know it. cuda: of its variables those that say which
    CUDA it needs (see `cuda_packages.variables`).
    """

    reference: str = ""
    digest: str = ""
    config: str = ""
    dockerfile: str = ""
    context: str = ""
    bases: Mapping[str, str] = field(default_factory=dict[str, str])
    cuda: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Found:
    """A package that an image says it has: nobody compared its files with a digest. kind: `deb`, `apk`, `python`,
    `r`."""

    name: str
    version: str
    kind: str
    architecture: str = ""


@dataclass(frozen=True, slots=True)
class Attested:
    """A licensed engine that no lock can hold: what its owner says was installed. server: of its licences.

    seats: of the pool when it was attested; 0 when unknown.
    """

    installer: str
    sha256: str
    size: int
    server: str = ""
    seats: int = 0


@dataclass(frozen=True, slots=True)
class Lock:
    """One environment's part of `ground.lock`.

    definition: of the environment it was made from. program: the engine's absolute path in the image, or its name.
    version: the engine's. packages: beyond the base's. layers: sha256 of each uncompressed layer, base first.
    probe: what the engine printed of itself. distribution: what an image of somebody else says it is (`debian trixie`);
    found: the packages that it says it has.
    """

    name: str
    definition: str
    toolchain: str
    engine: str
    version: str
    program: str
    builder: str
    base: Base | None = None
    packages: tuple[Deb, ...] = ()
    native: Native | None = None
    upstream: Upstream | None = None
    attested: Attested | None = None
    layers: tuple[str, ...] = ()
    probe: str = ""
    distribution: str = ""
    found: tuple[Found, ...] = ()

    @property
    def suite(self) -> str:
        """The Debian suite that the image is of; "" for another distribution."""
        name, _, suite = self.distribution.partition(" ")
        return self.base.suite if self.base else suite if name == "debian" else ""

    @property
    def sha256(self) -> str:
        """Of the whole, but the environment's name: two names for the same thing are one."""
        left_out = {"name"} | {name for name in ("distribution", "found") if not getattr(self, name)}
        return _digest({name: value for name, value in asdict(self).items() if name not in left_out})

    @property
    def recipe(self) -> str:
        """Of what the image is made from: two locks with one recipe have one image."""
        whole = asdict(self)
        if self.upstream and (self.upstream.dockerfile or self.upstream.digest):
            whole["upstream"]["config"] = ""  # what came out, or what the digest says already
        return _digest({name: whole[name] for name in ("builder", "base", "packages", "native", "upstream")})


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
