"""Globs over names with `/`, one meaning everywhere: `*` stays within a folder, `**` spans folders, and neither
matches a name that begins with a dot. `[!a]` and `[^a]` are any character but those."""

from __future__ import annotations

import re
from functools import lru_cache

_SPECIAL = re.compile(r"[*?\[]")
_ANY = r"(?!\.)"
_NOTHING = r"(?!)"


def is_glob(name: str) -> bool:
    """Whether the name holds `*`, `?` or `[`."""
    return _SPECIAL.search(name) is not None


def fixed_folder(pattern: str) -> str:
    """The folder before the first wildcard, with its `/`: `parts/` of `parts/*.csv`, "" of `*.csv`."""
    hit = _SPECIAL.search(pattern)
    return pattern[: pattern.rfind("/", 0, hit.start() if hit else len(pattern)) + 1]


def matches(pattern: str, name: str) -> bool:
    """Whether the pattern names `name`; a name is always matched by itself, whatever characters it holds."""
    return pattern == name or (is_glob(pattern) and _compiled(pattern).fullmatch(name) is not None)


def impossible_range(pattern: str) -> str:
    """The first range that holds no character, such as `z-a` of `[z-a].csv`; "" when there is none."""
    for part in pattern.split("/"):
        index = 0
        while index < len(part):
            if part[index] == "[" and (end := _end_of_class(part, index)):
                _, found = _members(part, index, end)
                if empty := next((f"{low}-{high}" for low, high in found if low > high), ""):
                    return empty
                index = end
            index += 1
    return ""


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = pattern.split("/")
    found: list[str] = []
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            found.append(rf"{_ANY}[^/]+(?:/{_ANY}[^/]+)*" if last else rf"(?:{_ANY}[^/]+/)*")
            continue
        hidden = "" if part.startswith(".") else _ANY
        found.append((hidden if is_glob(part) else "") + _segment(part) + ("" if last else "/"))
    return re.compile("".join(found), re.DOTALL)


def _segment(part: str) -> str:
    """One name between slashes as a regular expression."""
    found: list[str] = []
    index = 0
    while index < len(part):
        letter = part[index]
        if letter == "*":
            found.append("[^/]*")
        elif letter == "?":
            found.append("[^/]")
        elif letter == "[" and (end := _end_of_class(part, index)):
            found.append(_class(part, index, end))
            index = end
        else:  # a `[` that is never closed stands for itself, as in a shell
            found.append(re.escape(letter))
        index += 1
    return "".join(found)


def _end_of_class(part: str, start: int) -> int:
    """Where the `]` is that closes the `[` at `start`, 0 when none does. One right behind the start is a member."""
    first = start + 2 if part[start + 1 : start + 2] in ("!", "^") else start + 1
    return max(0, part.find("]", first + 1))


def _members(part: str, start: int, end: int) -> tuple[bool, list[tuple[str, str]]]:
    """Whether the class means all but its members, and these as ranges (a single one from itself to itself)."""
    negated = part[start + 1] in "!^"
    inside = part[start + 1 + negated : end]
    found: list[tuple[str, str]] = []
    index = 0
    while index < len(inside):
        is_range = inside[index + 1 : index + 2] == "-" and index + 2 < len(inside)
        found.append((inside[index], inside[index + 2 if is_range else index]))
        index += 3 if is_range else 1
    return negated, found


def _class(part: str, start: int, end: int) -> str:
    negated, found = _members(part, start, end)
    text = "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in found if low <= high)
    if negated:
        return f"[^/{text}]"
    return rf"(?!/)[{text}]" if text else _NOTHING
