"""What a connection gives piece by piece, as a file."""

from __future__ import annotations

import io
from collections.abc import Iterator


class Pieces(io.RawIOBase):
    """A stream of bytes as a file that can only be read forwards. An empty piece ends nothing."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def read(self, size: int = -1, /) -> bytes:
        found = bytearray()
        while size < 0 or len(found) < size:
            if not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._rest = memoryview(piece)
            take = len(self._rest) if size < 0 else min(size - len(found), len(self._rest))
            found += self._rest[:take]
            self._rest = self._rest[take:]
        return bytes(found)
