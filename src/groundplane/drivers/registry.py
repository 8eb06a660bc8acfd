"""The drivers of this installation, built in or from a plugin: the same entry points."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from groundplane.model.errors import Invalid, NotFound, Unavailable
from groundplane.spi.driver import Driver

GROUP = "groundplane.drivers"


def make(kind: str, home: Path, name: str, options: Mapping[str, str]) -> Driver:
    """A backend's driver. options: what its `configured` knows. Raises NotFound, Invalid and, for a broken plugin,
    Unavailable."""
    points = {point.name: point for point in entry_points(group=GROUP)}
    if kind not in points:
        raise NotFound(f"there is no driver {kind!r}", hint=f"the drivers are: {', '.join(sorted(points))}")
    try:
        found: Any = points[kind].load()
    except Exception as error:  # a plugin's own code: whatever it raises concerns its backends alone
        raise Unavailable(
            f"driver {kind!r} cannot be loaded: {type(error).__name__}: {error}",
            hint="reinstall its package, then `ground down`: the next command starts anew",
        ) from error
    if not hasattr(found, "configured"):
        raise Invalid(f"driver {kind!r} has nothing to configure", hint=f"its backend is there by itself: --on {kind}")
    return found.configured(home, name, options)
