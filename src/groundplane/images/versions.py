"""Debian's order of versions, as deb-version(7) has it."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import zip_longest


def newer(version: str, than: str) -> bool:
    """Whether the first is the later one."""
    return _compare(version, than) > 0


@lru_cache(maxsize=4096)
def _split(version: str) -> tuple[int, str, str]:
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    return int(epoch), upstream if dash else rest, revision if dash else ""


def _compare(a: str, b: str) -> int:
    if a == b:
        return 0
    first, second = _split(a), _split(b)
    if first[0] != second[0]:
        return first[0] - second[0]
    return _compare_part(first[1], second[1]) or _compare_part(first[2], second[2])


def _compare_part(a: str, b: str) -> int:
    """Words and numbers in turn: numbers by value, words by letter, where `~` comes before the end."""
    parts = zip_longest(re.findall(r"(\D*)(\d*)", a), re.findall(r"(\D*)(\d*)", b), fillvalue=("", ""))
    for (word, number), (other_word, other_number) in parts:
        if word != other_word:
            for one, other in zip_longest(word, other_word, fillvalue=""):
                if difference := _order(one) - _order(other):
                    return difference
        if difference := int(number or 0) - int(other_number or 0):
            return difference
    return 0


def _order(sign: str) -> int:
    if not sign:
        return 0
    if sign == "~":
        return -1
    return ord(sign) if sign.isalpha() else ord(sign) + 256
