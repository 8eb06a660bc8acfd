"""File names as a column. Linux takes any bytes for one; what is no UTF-8 is carried by surrogateescape in Python,
which no database takes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Text
from sqlalchemy.types import TypeDecorator

# The last 128 characters that Unicode will ever have, none of which will ever mean anything, stand for bytes.
_STORED = {0xDC80 + byte: 0x10FF80 + byte for byte in range(0x80)}
_LOADED = {stored: byte for byte, stored in _STORED.items()}


class Name(TypeDecorator[str]):
    """Text that may hold bytes of a file name; the same comes back."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return value if value is None or value.isascii() else value.translate(_STORED)

    def process_result_value(self, value: str | None, dialect: Any) -> str | None:
        return value if value is None or value.isascii() else value.translate(_LOADED)
