"""Reasons as the database keeps them, and as errors become them."""

from __future__ import annotations

import json

from groundplane.model.errors import GroundError
from groundplane.model.reasons import Fault, Reason


def to_text(reason: Reason | None) -> str | None:
    """JSON text for a column."""
    if reason is None:
        return None
    return json.dumps([reason.code, reason.message, reason.hint, str(reason.fault)])


def from_text(text: str | None) -> Reason | None:
    """The inverse of `to_text`."""
    if text is None:
        return None
    code, message, hint, fault = json.loads(text)
    return Reason(code, message, hint, Fault(fault))


def of_error(error: GroundError) -> Reason:
    """The same in the form of a reason."""
    return Reason(error.code, error.message, error.hint, error.fault)
