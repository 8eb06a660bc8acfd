"""Groundplane: one infrastructure below every data science toolchain."""

from __future__ import annotations

from groundplane.model.version import VERSION as __version__

__all__ = ["Client", "__version__"]

TYPE_CHECKING = False  # `typing` itself costs every process of the platform's 8 ms
if TYPE_CHECKING:
    from typing import Any

    from groundplane.client import Client


def __getattr__(name: str) -> Any:
    # Lazy: `ground --help` and the agent import this package and need no client.
    if name == "Client":
        from groundplane.client import Client

        return Client
    raise AttributeError(f"module 'groundplane' has no attribute {name!r}")
