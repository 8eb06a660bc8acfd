"""Names for things that nobody has to agree on first."""

from __future__ import annotations

import os
import time


def new_id() -> str:
    """A UUIDv7 (RFC 9562): unique without a server, and newer ones sort after older ones."""
    stamp = time.time_ns() // 1_000_000
    raw = bytearray(stamp.to_bytes(6, "big") + os.urandom(10))
    raw[6] = raw[6] & 0x0F | 0x70
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
