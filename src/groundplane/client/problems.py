"""An RFC 9457 problem as the error that the other side raised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from groundplane.model.errors import (
    Conflict,
    Denied,
    GroundError,
    Invalid,
    NotFound,
    Throttled,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

_KINDS: dict[int, type[GroundError]] = {
    401: Unauthenticated,
    403: Denied,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    429: Throttled,
    503: Unavailable,
}


def error_of(problem: Mapping[str, Any], status: int | None = None) -> GroundError:
    """problem: the parsed body, {} when the answer was no problem document. status: HTTP's, when the body has none."""
    number = int(problem.get("status") or status or 500)
    kind = _KINDS.get(number) or (Invalid if 400 <= number < 500 else GroundError)
    if not problem:
        return Unavailable(f"an answer with status {number} that is none of Groundplane's", hint="is GROUND_URL right?")
    return kind(
        str(problem.get("detail") or problem.get("title") or f"status {number}"),
        hint=str(problem.get("hint") or ""),
        code=str(problem.get("code") or ""),
    )
