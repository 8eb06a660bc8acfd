"""Variables as a shell reads them from a file, for work that is not started with them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SHELLS_OWN = frozenset({"UID", "EUID", "PPID", "OPTIND", "SHELLOPTS", "BASHOPTS", "BASH_VERSINFO"})
"""Read-only in one shell or another, or numbers alone: setting them would end it."""


def exportable(name: str) -> bool:
    """Whether any shell can set the variable."""
    return _NAME.fullmatch(name) is not None and name not in SHELLS_OWN


def exports(variables: Mapping[str, str]) -> bytes:
    """What a shell reads to have these variables. Raises ValueError for a name that it cannot have, and a NUL."""
    for name, value in variables.items():
        if not exportable(name) or "\0" in value:
            raise ValueError(f"the work can be given no variable {name!r}")
    return b"".join(os.fsencode(f"export {name}={quoted(value)}\n") for name, value in variables.items())


def quoted(value: str) -> str:
    """One word to a shell."""
    return "'" + value.replace("'", "'\\''") + "'"
