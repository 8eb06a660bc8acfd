"""Where built images lie, and who builds them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from groundplane.model.errors import NotFound, Unavailable
from groundplane.spi.images import Builder

if TYPE_CHECKING:
    from groundplane.images.store import ImageStore

BUILDERS = ("debian", "docker")


@cache
def store(home: Path) -> ImageStore:
    """The home's images."""
    from groundplane.images.store import ImageStore

    return ImageStore(home / "images")


def builder(home: Path, name: str) -> Builder:
    """Who builds and resolves. Raises NotFound for an unknown one."""
    if name == "debian":
        from groundplane.images.debian import DebianBuilder
        from groundplane.images.downloads import Downloads

        return DebianBuilder(store(home), Downloads(home / "images" / "downloads"))
    if name == "docker":
        raise Unavailable(
            "images and Dockerfiles of others cannot be locked yet",
            hint='name a toolchain that a Debian suite has: toolchain = "r@4.5"',
            code="not_built_yet",
        )
    raise NotFound(f"there is no image builder {name!r}", hint=f"there are: {', '.join(BUILDERS)}")
