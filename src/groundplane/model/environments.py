"""An environment as somebody asks for it: a toolchain in a version, with packages, or an image somebody else made."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Gpu:
    """What kind of GPU is needed. memory: bytes that each device must have. cuda: the least CUDA version, `12.4`.

    count: how many, where the step does not say it.
    """

    count: int = 0
    memory: int | None = None
    cuda: str | None = None


@dataclass(frozen=True, slots=True)
class Environment:
    """One `[environments.NAME]`. Exactly one of toolchain, image and dockerfile is set.

    toolchain: as written before the `@`: a toolchain's name or an engine's. version: what follows it, "" for the
    catalogue's default. engine: which engine of the toolchain, "" when the toolchain's name tells.
    packages: in the language's own words. system_packages: of the Debian suite. dockerfile: a path in the project.
    """

    name: str
    toolchain: str = ""
    version: str = ""
    engine: str = ""
    packages: tuple[str, ...] = ()
    system_packages: tuple[str, ...] = ()
    gpu: Gpu | None = None
    image: str = ""
    dockerfile: str = ""

    @property
    def definition(self) -> str:
        """sha256 of all that its lock depends on: not its name, and not the kind of GPU."""
        kept = {name: value for name, value in asdict(self).items() if name not in ("name", "gpu")}
        return hashlib.sha256(json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
