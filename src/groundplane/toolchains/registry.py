"""The toolchains of this installation, built in or from a plugin: the same entry points. Each module is imported
when its toolchain is first asked for. Reading the entry points takes some 20 ms: not for the CLI."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from groundplane.model.errors import Invalid, NotFound, Unavailable
from groundplane.spi.toolchain import Toolchain

GROUP = "groundplane.toolchains"
_LAST = ("shell", "command")  # shell claims every `#!` line that nobody else has claimed


@cache
def _found() -> dict[str, EntryPoint]:
    """In the order in which they are asked whether a file is theirs: the most common first, plugins, then shell."""
    points = {point.name: point for point in entry_points(group=GROUP)}
    first = [name for name in ("python", "r", "notebook", "matlab", "spss", "sas") if name in points]
    plugins = sorted(set(points) - set(first) - set(_LAST))
    return {name: points[name] for name in (*first, *plugins, *_LAST) if name in points}


def names() -> tuple[str, ...]:
    """The name of every toolchain, sorted."""
    return tuple(sorted(_found()))


@cache
def get(name: str) -> Toolchain:
    """The toolchain of that name. Raises NotFound that lists the valid names; Unavailable for a broken plugin."""
    point = _found().get(name)
    if point is None:
        raise NotFound(f"there is no toolchain {name!r}", hint=f"the toolchains are: {', '.join(names())}")
    try:
        return point.load()
    except (ImportError, AttributeError, SyntaxError) as error:
        package = point.dist.name if point.dist else point.value
        raise Unavailable(
            f"toolchain {name!r} of {package} cannot be loaded: {error}", hint=f"reinstall or remove {package}"
        ) from error


def detect(name: str, head: bytes) -> Toolchain:
    """The toolchain that the file is written in, by its name and its first kilobytes. Raises Invalid when none."""
    for candidate in _found():
        toolchain = get(candidate)
        if toolchain.detect(name, head):
            return toolchain
    known = ", ".join(suffix for candidate in _found() for suffix in get(candidate).suffixes)
    raise Invalid(
        f"{name} is of no known toolchain",
        hint=f"give it one of the endings {known}, a `#!` line, or say `--toolchain NAME` ({', '.join(names())})",
        code="unknown_toolchain",
    )
