"""Versions of engines, as people write them (`r@4.5`, `octave@9`), against the catalogue. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

from groundplane.model.errors import Invalid, NotFound
from groundplane.toolchains import catalog
from groundplane.toolchains.catalog import KnownEngine, KnownVersion

STABLE = "trixie"
"""The suite that work gets which names no version."""
SUITE_ENDS = {"bullseye": date(2026, 8, 31), "bookworm": date(2028, 6, 30), "trixie": date(2030, 6, 30)}
"""End of long-term support by Debian's own dates; sid has none."""


@dataclass(frozen=True, slots=True)
class Match:
    """What `NAME@VERSION` means. suite: the Debian suite that has it, "" for none. debs: what brings the engine.
    images: public images with it, best first."""

    toolchain: str
    engine: str
    version: KnownVersion
    suite: str
    debs: tuple[str, ...]
    licensed: bool
    images: tuple[str, ...] = ()


def match(name: str, version: str = "") -> Match:
    """By a toolchain's or an engine's name; version: the beginning of one, "" for the default. A toolchain's name alone
    means an engine that can be installed without a licence. Raises NotFound for an unknown name, Invalid for an unknown
    version, naming the known ones; which ones of a licensed engine there are, only its maker knows."""
    entry, engine = _engine(name, exact=bool(version))
    licensed = engine.proprietary
    if not engine.versions:  # a shell: every suite has one
        return Match(entry.name, engine.name, KnownVersion(""), STABLE, engine.image_apt, licensed)
    fitting = [known for known in engine.versions if satisfies(known.version, version)]
    if not fitting and licensed:
        fitting = [KnownVersion(version, sources=("licensed",))]
    if not fitting:
        known = ", ".join(each.version for each in engine.versions)
        raise Invalid(
            f"no version {version!r} of {engine.name} is known (known: {known})",
            hint='choose one of these, or name an image that has it: image = "…"',
        )
    chosen = _best(fitting, version)
    suite = _suite(chosen)
    return Match(entry.name, engine.name, chosen, suite, engine.image_apt, licensed, chosen.images)


def named(name: str, version: str = "") -> tuple[str, str]:
    """The toolchain and the engine that `NAME@VERSION` means, whether or not there is such a version. Raises NotFound
    for an unknown name."""
    entry, engine = _engine(name, exact=bool(version))
    return entry.name, engine.name


def satisfies(version: str, wanted: str) -> bool:
    """Whether the version is the one asked for, or begins with it: 4.5.0 is 4.5, and 4.50 is not."""
    if not wanted:
        return True
    return version.lower() == wanted.lower() or version.lower().startswith(f"{wanted.lower()}.")


def is_licensed(engine: str) -> bool:
    """Whether the catalogue knows the engine as one that needs a licence."""
    try:
        return _engine(engine, exact=True)[1].proprietary
    except NotFound:
        return False


def no_suite(found: Match) -> Invalid:
    """The error for a version that no Debian suite has."""
    if found.licensed:
        return Invalid(
            f"{found.engine} needs a licence: no image of it can be built from packages",
            hint='name an image that has it (image = "…"), or note what is installed here: '
            "ground env attest NAME --installer FILE",
        )
    suites = [v.version for v in _engine(found.engine, exact=True)[1].versions if _suite(v)]
    near = f"; Debian has {', '.join(suites)}" if suites else ""
    images = f'image = "{found.images[0]}"' if found.images else 'image = "…"'
    return Invalid(
        f"no Debian suite has {found.engine} {found.version.version}{near}",
        hint=f"choose one of those, or name an image that has it: {images}",
    )


def language_debs(found: Match, packages: tuple[str, ...]) -> tuple[str, ...]:
    """A language's packages as Debian calls them; () where the language has a way of its own (Python)."""
    if found.engine == "r":
        return tuple(f"r-cran-{name.lower()}" if not name.startswith("r-") else name for name in packages)
    if found.engine == "octave":
        return tuple(f"octave-{name.lower()}" if not name.startswith("octave-") else name for name in packages)
    if found.toolchain in ("python", "notebook"):
        return ()
    if packages:
        raise Invalid(
            f"{found.engine} has no packages of its own that could be locked: {', '.join(packages)}",
            hint="system_packages = […] are those of the Debian suite",
        )
    return ()


def engine_of_image(reference: str) -> str:
    """The engine that a well-known public image has; "" for others."""
    repository = re.sub(r"[@:][^/]*$", "", reference).removeprefix("docker.io/").removeprefix("library/")
    for name in catalog.names():
        for engine in catalog.entry(name).engines:
            for version in engine.versions:
                if any(re.sub(r":[^/]*$", "", image) == repository for image in version.images):
                    return engine.name
    return ""


def newest(engine: str, version: str) -> str | None:
    """A newer version that a stable Debian suite has; None when there is none."""
    known = [each for each in _engine(engine, exact=True)[1].versions if _suite(each) in SUITE_ENDS]
    later = [each.version for each in known if _order(each.version) > _order(version)]
    return max(later, key=_order, default=None)


def support_warning(engine: str, version: str, today: date) -> str | None:
    """A sentence for a version past its end, naming its successor; None for one that is supported, or unknown."""
    try:
        known = match(engine, version).version
    except (Invalid, NotFound):
        return None
    ends = support_end(known)
    if ends is None or today <= ends:
        return None
    newer = newest(engine, known.version)
    after = f": the next one is {engine}@{'.'.join(newer.split('.')[:2])}" if newer else ""
    return f"{engine} {known.version} has been without support since {ends.isoformat()}{after}"


def support_end(known: KnownVersion) -> date | None:
    """The last day on which somebody mends it: its suite, where one has it, else its makers; None when unknown."""
    days = [SUITE_ENDS[_suite(known)]] if _suite(known) in SUITE_ENDS else []
    if known.support_ends and not days:
        year, month = map(int, known.support_ends.split("-")[:2])
        first = date(year + month // 12, month % 12 + 1, 1)
        days.append(date.fromordinal(first.toordinal() - 1))
    return max(days, default=None)


def _engine(name: str, *, exact: bool = False) -> tuple[catalog.Entry, KnownEngine]:
    """exact: an engine of that name comes before the toolchain of that name."""
    name = "shell" if name in ("command", "sh") else name
    if exact and name in catalog.names():
        entry = catalog.entry(name)
        for engine in entry.engines:
            if engine.name == name:
                return entry, engine
    return catalog.find_engine(name)


def _best(fitting: list[KnownVersion], wanted: str) -> KnownVersion:
    """The stable suite's, else the newest that a suite has, else the newest."""
    stable = [each for each in fitting if _suite(each) == STABLE]
    if stable and not wanted:
        return stable[0]
    from_suites = [each for each in fitting if _suite(each)]
    return max(from_suites or fitting, key=lambda each: _order(each.version))


def _suite(known: KnownVersion) -> str:
    return next((source.removeprefix("debian ") for source in known.sources if source.startswith("debian ")), "")


def _order(version: str) -> tuple[tuple[int, str], ...]:
    return tuple((int(number or -1), word) for number, word in re.findall(r"(\d+)|([A-Za-z]+)", version))
