"""The bytes of a MATLAB 5/7 data file around scipy's.

scipy writes a cell array of text some thirty times slower than numbers (twelve seconds for 400,000 cells), so columns
of text are laid out here, after "MAT-File Format", MathWorks, chapter 1. Everything else is scipy's.
"""

import io
import struct
import zlib
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from groundplane.data.libraries import library

Numbers: TypeAlias = NDArray[np.generic]

_HEADER = 128  # bytes before the first variable
_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED, _UTF8 = 1, 5, 6, 14, 15, 16
_CELL_CLASS, _CHAR_CLASS = 1, 4


def save(path: Path, variables: dict[str, Numbers | list[str]]) -> None:
    """Write variables in order: numpy columns as scipy does, lists of ASCII text as cell columns."""
    with path.open("wb") as file:
        file.write(_by_scipy({})[:_HEADER])
        for name, value in variables.items():
            element = _cells(name, value) if isinstance(value, list) else None
            file.write(element or _by_scipy({name: value})[_HEADER:])


def _by_scipy(variables: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    library("scipy.io").savemat(buffer, variables, do_compression=True, oned_as="column")
    return buffer.getvalue()


def _cells(name: str, texts: list[str]) -> bytes:
    known: dict[str, bytes] = {}
    parts = [_head(_CELL_CLASS, len(texts), 1, name)]
    for text in texts:
        if (cell := known.get(text)) is None:
            cell = known[text] = _cell(text)
        parts.append(cell)
    packed = zlib.compress(_element(_MATRIX, b"".join(parts)))
    return struct.pack("<II", _COMPRESSED, len(packed)) + packed


def _cell(text: str) -> bytes:
    rows = 1 if text else 0  # '' is 0x0 in MATLAB
    return _element(_MATRIX, _head(_CHAR_CLASS, rows, len(text), "") + _element(_UTF8, text.encode("ascii")))


def _head(kind: int, rows: int, columns: int, name: str) -> bytes:
    flags = _element(_UINT32, struct.pack("<II", kind, 0))
    return flags + _element(_INT32, struct.pack("<ii", rows, columns)) + _element(_INT8, name.encode("ascii"))


def _element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + b"\0" * (-len(content) % 8)
