"""Whose fault it was."""

from __future__ import annotations

from enum import StrEnum


class Fault(StrEnum):
    """Whose fault: decides retries and, later, who pays."""

    USER = "user"
    BACKEND = "backend"
    PLATFORM = "platform"
