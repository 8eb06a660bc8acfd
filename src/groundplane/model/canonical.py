"""RFC 8785: the one way to write a JSON document, for what is hashed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_SAFE_INTEGER = 2**53


def canonical(document: Any) -> bytes:
    """The document of text, whole numbers, true, false, null, lists and objects with text keys.

    Raises TypeError for other numbers: their text would be a question of who writes it. A file name that is no UTF-8
    keeps its surrogates.
    """
    return json.dumps(_sorted(document), separators=(",", ":"), ensure_ascii=False).encode(errors="surrogatepass")


def _sorted(value: Any) -> Any:
    """Objects with their keys in the order of UTF-16 code units, as the RFC wants it."""
    if isinstance(value, float) or (isinstance(value, int) and abs(value) > _SAFE_INTEGER):
        raise TypeError(f"{value!r} has no place in a document that is hashed: write it as text")
    if isinstance(value, Mapping):
        names: list[str] = sorted(value, key=_units)  # pyright: ignore[reportUnknownArgumentType]
        return {name: _sorted(value[name]) for name in names}
    if isinstance(value, list):
        return [_sorted(part) for part in value]  # pyright: ignore[reportUnknownVariableType]
    return value


def _units(name: str) -> bytes:
    return name.encode("utf-16-be", errors="surrogatepass")
