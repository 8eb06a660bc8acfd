"""Sizes and durations as people write them."""

from __future__ import annotations

import re

from groundplane.model.errors import Invalid

_SIZES = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgtp", start=1):
    _SIZES[f"{_letter}b"] = 1000**_power
    _SIZES[f"{_letter}ib"] = 1024**_power
    _SIZES[_letter] = 1024**_power
_DURATIONS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*")


def parse_size(text: str | int, what: str = "size") -> int:
    """`"2GiB"`, `"500MB"` or a number of bytes, in bytes. Raises Invalid that names `what`."""
    if isinstance(text, int):
        return text
    match = _NUMBER.fullmatch(text)
    if not match or match[2].lower() not in _SIZES:
        raise Invalid(f"{what} {text!r} is not a size", hint="write it like 512MiB, 2GiB or 500MB")
    return int(float(match[1]) * _SIZES[match[2].lower()])


def parse_duration(text: str | int | float, what: str = "duration") -> float:
    """`"10m"`, `"1.5h"`, `"90"` or a number of seconds, in seconds; compound forms such as `1h30m` too."""
    if isinstance(text, (int, float)):
        return float(text)
    total, rest = 0.0, text.strip()
    while rest:
        match = _NUMBER.match(rest)
        if not match or match[2].lower() not in _DURATIONS:
            break
        total += float(match[1]) * _DURATIONS[match[2].lower()]
        rest = rest[match.end() :]
    if rest or not text.strip():
        raise Invalid(f"{what} {text!r} is not a duration", hint="write it like 30s, 10m, 1.5h or 2d")
    return total


def format_size(count: float) -> str:
    """Bytes as `3.2 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def format_duration(seconds: float) -> str:
    """Seconds as `0.42 s`, `12 s`, `3m 05s` or `2h 10m`."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    return f"{minutes // 60}h {minutes % 60:02d}m"
