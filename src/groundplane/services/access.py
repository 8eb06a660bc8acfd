"""Who acts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Actor:
    """name: in local mode the operating-system user. kind: `user`, or `platform` for what it does by itself."""

    name: str
    kind: str = "user"


PLATFORM = Actor("groundplane", "platform")
