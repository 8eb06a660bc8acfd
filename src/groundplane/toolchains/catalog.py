"""The catalogue: what is known about each toolchain's engines, from catalog/*.toml. Nothing in it is needed to run."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from groundplane.model.errors import NotFound

_FOLDER = Path(__file__).with_name("catalog")


@dataclass(frozen=True, slots=True)
class KnownVersion:
    """support_ends: the month (`2027-10`) after which nobody mends it, "" where no date is known.
    sources: where it may come from: `debian bookworm`, `uv`, `pypi`, `licensed`, … images: public ones that have it,
    best first; never run here."""

    version: str
    support_ends: str = ""
    sources: tuple[str, ...] = ()
    images: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KnownEngine:
    """apt, pip: the packages that bring it. image_apt: those for an image of its own. elsewhere: how to get it
    otherwise, as a sentence.
    dialect_of: the engine whose language it speaks, in part. tested_on: where its conformance suite has passed, ()
    for never. support: what its makers say about support, in words."""

    name: str
    title: str
    licence: str
    homepage: str
    elsewhere: str
    support: str
    dialect_of: str = ""
    apt: tuple[str, ...] = ()
    image_apt: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()
    tested_on: tuple[str, ...] = ()
    versions: tuple[KnownVersion, ...] = ()

    @property
    def proprietary(self) -> bool:
        """Whether it needs a licence that nobody can install for the user."""
        return self.licence == "proprietary"


@dataclass(frozen=True, slots=True)
class Entry:
    """One toolchain; its engines in order of preference."""

    name: str
    title: str
    summary: str
    engines: tuple[KnownEngine, ...] = ()


def names() -> tuple[str, ...]:
    """Every toolchain in the catalogue, sorted. A plugin's toolchain may be missing."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


@cache
def entry(name: str) -> Entry:
    """The toolchain's entry. Raises NotFound that lists the valid names."""
    if name not in names():
        raise NotFound(f"the catalogue has no toolchain {name!r}", hint=f"it has: {', '.join(names())}")
    body = tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    engines = tuple(_engine(key, value) for key, value in body.get("engines", {}).items())
    return Entry(name, body["title"], body["summary"], engines)


def find_engine(name: str) -> tuple[Entry, KnownEngine]:
    """By an engine's name, or a toolchain's: then the first of its engines that can be installed without a licence,
    else its first. Raises NotFound that lists the valid names."""
    if name in names():
        found = entry(name)
        if not found.engines:
            raise NotFound(f"toolchain {name!r} has nothing to install", hint="a command is any program on PATH")
        return found, next((engine for engine in found.engines if not engine.proprietary), found.engines[0])
    for toolchain in names():
        for engine in entry(toolchain).engines:
            if engine.name == name:
                return entry(toolchain), engine
    valid = sorted({*names(), *(engine.name for known in names() for engine in entry(known).engines)})
    raise NotFound(f"there is no toolchain or engine {name!r}", hint=f"there are: {', '.join(valid)}")


def _engine(name: str, body: dict[str, Any]) -> KnownEngine:
    def listed(key: str) -> tuple[str, ...]:
        return tuple(body.get(key, ()))

    return KnownEngine(
        name=name,
        title=body["title"],
        licence=body["licence"],
        homepage=body["homepage"],
        elsewhere=body["elsewhere"],
        support=body["support"],
        dialect_of=body.get("dialect_of", ""),
        apt=listed("apt"),
        image_apt=tuple(body.get("image_apt", body.get("apt", ()))),
        pip=listed("pip"),
        tested_on=listed("tested_on"),
        versions=tuple(
            KnownVersion(
                row["version"], row.get("support_ends", ""), tuple(row.get("sources", ())), tuple(row.get("images", ()))
            )
            for row in body.get("versions", ())
        ),
    )
