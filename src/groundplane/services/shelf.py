"""Where built images lie, and who builds them."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from groundplane.model.errors import NotFound
from groundplane.spi.images import Builder

if TYPE_CHECKING:
    from groundplane.images.store import ImageStore

BUILDERS = ("debian", "docker")


@cache
def store(home: Path) -> ImageStore:
    """The home's images."""
    from groundplane.images.store import ImageStore

    return ImageStore(home / "images")


def builder(home: Path, name: str, folder: Path | None = None) -> Builder:
    """Who builds and resolves. folder: the project's, for Dockerfiles. Raises NotFound for an unknown one."""
    if name == "debian":
        from groundplane.images.debian import DebianBuilder
        from groundplane.images.downloads import Downloads

        return DebianBuilder(store(home), Downloads(home / "images" / "downloads"))
    if name == "docker":
        from groundplane.images.docker import DockerBuilder
        from groundplane.oci import address

        return DockerBuilder(store(home), address.from_environment(os.environ), folder)
    raise NotFound(f"there is no image builder {name!r}", hint=f"there are: {', '.join(BUILDERS)}")
