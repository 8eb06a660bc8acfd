"""Groundplane: one infrastructure below every data science toolchain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from groundplane.model.version import VERSION as __version__

__all__ = ["Client", "__version__"]

if TYPE_CHECKING:
    from groundplane.client import Client


def __getattr__(name: str) -> Any:
    # Lazy: `ground --help` and the agent import this package and need no client.
    if name == "Client":
        from groundplane.client import Client

        return Client
    raise AttributeError(f"module 'groundplane' has no attribute {name!r}")
