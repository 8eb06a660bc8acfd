"""Labels of data. Any word will do; these mean something to the policies that ship."""

from __future__ import annotations

import re

KNOWN = ("phi", "pan", "internal")
"""Protected health information, primary account numbers, not for outsiders."""
PATTERN = r"^[a-z][a-z0-9_-]{0,62}$"
_LABEL = re.compile(PATTERN)


def is_label(text: str) -> bool:
    """Whether it is a word for a label."""
    return _LABEL.fullmatch(text) is not None
