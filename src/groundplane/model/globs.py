"""Globs over names with `/`, one meaning everywhere: `*` stays within a folder, `**` spans folders, and neither
matches a name that begins with a dot."""

from __future__ import annotations

import re
from functools import lru_cache

_SPECIAL = re.compile(r"[*?\[]")
_ANY = r"(?!\.)"


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
        index += 1
        if letter == "*":
            found.append("[^/]*")
        elif letter == "?":
            found.append("[^/]")
        elif letter == "[":
            negated = index < len(part) and part[index] == "!"
            end = part.find("]", index + negated + 1)
            if end < 0:
                found.append(r"\[")  # never closed: it stands for itself, as in a shell
                continue
            inside = part[index + negated : end].replace("\\", r"\\").replace("[", r"\[").replace("^", r"\^")
            found.append(f"[{'^' if negated else ''}{inside}]")
            index = end + 1
        else:
            found.append(re.escape(letter))
    return "".join(found)
