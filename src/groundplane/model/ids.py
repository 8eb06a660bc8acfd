"""Names for things that nobody has to agree on first."""

from __future__ import annotations

import os
import re
import time

_DAY = 86_400_000_000  # µs


def new_id() -> str:
    """A UUIDv7 (RFC 9562): unique without a server, and newer ones sort after older ones."""
    stamp = time.time_ns() // 1_000_000
    raw = bytearray(stamp.to_bytes(6, "big") + os.urandom(10))
    raw[6] = raw[6] & 0x0F | 0x70
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def is_new(text: str, now: int) -> bool:
    """Whether it is a UUIDv7 that was made within a day of `now` (µs UTC)."""
    match = re.fullmatch(r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", text)
    return match is not None and abs(int(match[1] + match[2], 16) * 1000 - now) < _DAY
