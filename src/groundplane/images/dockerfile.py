"""A Dockerfile as text: what it stands on, what it copies, and the form in which it is sent. Pure."""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_ESCAPE = re.compile(r"#\s*escape\s*=\s*([\\`])\s*", re.IGNORECASE)
_DIRECTIVE = re.compile(r"#\s*\w+\s*=.*")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?:(:?[-+])([^}]*))?\})")
_URL = re.compile(r"(?:https?|ftp|git|ssh)://|git@", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Instruction:
    """keyword: in capitals. value: what follows it, continued lines joined. end: number of the line behind it."""

    keyword: str
    value: str
    end: int


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """text as written. bases: images of others that it names, by FROM and by COPY --from, in order.

    copied: what it takes from its context, as written; None where only a build could tell (a variable), or where it
    would be run by another build (ONBUILD).
    """

    text: str
    instructions: tuple[Instruction, ...]
    bases: tuple[str, ...]
    copied: tuple[str, ...] | None


def read(text: str) -> Dockerfile:
    """What there is to know; a mistake in it is the engine's to find."""
    found = tuple(_instructions(text))
    return Dockerfile(text, found, tuple(_bases(found)), _copied(found))


def pinned(dockerfile: Dockerfile, images: Mapping[str, str], more: Sequence[str]) -> str:
    """The text with each base by its id, and more instructions behind each FROM."""
    lines = dockerfile.text.splitlines()
    known = _arguments(dockerfile.instructions)
    begin, out, stages = 0, list[str](), set[str]()
    for each in dockerfile.instructions:
        whole = lines[begin : each.end]
        begin = each.end
        if each.keyword == "FROM":
            flags, words = _words(each.value)
            image = _expanded(words[0], known) if words else ""
            if image in images and image not in stages:
                words[0] = images[image]
            flags = [flag for flag in flags if not flag.startswith("--platform")]  # the id is of one already
            out += [" ".join(["FROM", *flags, *words]), *more]
            stages |= {words[2].lower()} if len(words) == 3 else set()
        elif each.keyword == "COPY" and (source := _from(each.value)) in images and source not in stages:
            out.append(f"COPY {each.value.replace(f'--from={source}', f'--from={images[source]}', 1)}")
        else:
            out += whole
    return "\n".join([*out, *lines[begin:]]) + "\n"


def _instructions(text: str) -> list[Instruction]:
    found: list[Instruction] = []
    escape, directives, parts = "\\", True, list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if directives and (named := _ESCAPE.fullmatch(stripped)):
            escape = named[1]
        directives = directives and _DIRECTIVE.fullmatch(stripped) is not None
        if not stripped or stripped.startswith("#"):  # also within a continued instruction
            continue
        if stripped.endswith(escape):
            parts.append(stripped[:-1])
            continue
        keyword, _, value = " ".join([*parts, stripped]).strip().partition(" ")
        found.append(Instruction(keyword.upper(), value.strip(), number))
        parts = []
    if parts:
        keyword, _, value = " ".join(parts).strip().partition(" ")
        found.append(Instruction(keyword.upper(), value.strip(), len(text.splitlines())))
    return found


def _words(value: str) -> tuple[list[str], list[str]]:
    """(flags, the rest)."""
    words = value.split()
    count = next((n for n, word in enumerate(words) if not word.startswith("--")), len(words))
    return words[:count], words[count:]


def _arguments(instructions: Sequence[Instruction]) -> dict[str, str]:
    """What ARGs before the first FROM say: only these count in a FROM."""
    known: dict[str, str] = {}
    for each in instructions:
        if each.keyword == "FROM":
            break
        if each.keyword == "ARG":
            for word in _split(each.value):
                name, _, value = word.partition("=")
                known[name] = _expanded(value, known)
    return known


def _split(value: str) -> list[str]:
    try:
        return shlex.split(value)
    except ValueError:
        return value.split()


def _expanded(text: str, known: Mapping[str, str]) -> str:
    def value(hit: re.Match[str]) -> str:
        found = known.get(hit[1] or hit[2], "")
        if hit[3] in ("-", ":-"):
            return found or hit[4]
        return (hit[4] if found else "") if hit[3] else found

    return _VARIABLE.sub(value, text)


def _from(value: str) -> str:
    """What COPY --from names."""
    return next((flag.partition("=")[2] for flag in _words(value)[0] if flag.startswith("--from=")), "")


def _bases(instructions: Sequence[Instruction]) -> list[str]:
    known, stages, found = _arguments(instructions), set[str](), list[str]()
    for each in instructions:
        name = ""
        if each.keyword == "FROM":
            words = _words(each.value)[1]
            name = _expanded(words[0], known) if words else ""
        elif each.keyword == "COPY":
            name = _from(each.value)
        if name and name.lower() not in stages and name != "scratch" and not name.isdecimal() and name not in found:
            found.append(name)
        if each.keyword == "FROM" and len(words := _words(each.value)[1]) == 3:
            stages.add(words[2].lower())
    return found


def _copied(instructions: Sequence[Instruction]) -> tuple[str, ...] | None:
    found: list[str] = []
    for each in instructions:
        if each.keyword == "ONBUILD" and each.value.split(None, 1)[0].upper() in ("COPY", "ADD"):
            return None
        if each.keyword not in ("COPY", "ADD") or _from(each.value):
            continue
        for source in _sources(each.value):
            if "$" in source:
                return None
            if not _URL.match(source):
                found.append(posixpath.normpath("/" + source).lstrip("/"))
    return tuple(dict.fromkeys(found))


def _sources(value: str) -> list[str]:
    _, words = _words(value)
    rest = " ".join(words)
    if rest.startswith("["):
        try:
            listed = [str(word) for word in json.loads(rest)]
        except ValueError:
            listed = words
        return listed[:-1]
    return words[:-1]
