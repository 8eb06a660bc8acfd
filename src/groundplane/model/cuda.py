"""NVIDIA's rules of what runs with what: drivers, CUDA versions, compute capabilities. Pure; versions are texts.

Sources, all NVIDIA's: the CUDA Toolkit Release Notes ("CUDA Toolkit and Corresponding Driver Versions", Linux x86_64;
"Deprecated Architectures"), CUDA Compatibility (minor-version compatibility), and the compatibility guides of Ampere,
Ada, Hopper and Blackwell. What is newer than these tables is judged by the CUDA version that the driver itself tells.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_MINOR_COMPATIBLE = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}  # least driver of a whole major version
_DRIVERS = {  # the driver that first supported all of a toolkit: its GA release
    (9, 0): "384.81",
    (9, 1): "390.46",
    (9, 2): "396.26",
    (10, 0): "410.48",
    (10, 1): "418.39",
    (10, 2): "440.33",
    (11, 0): "450.51.05",
    (11, 1): "455.23",
    (11, 2): "460.27.03",
    (11, 3): "465.19.01",
    (11, 4): "470.42.01",
    (11, 5): "495.29.05",
    (11, 6): "510.39.01",
    (11, 7): "515.43.04",
    (11, 8): "520.61.05",
    (12, 0): "525.60.13",
    (12, 1): "530.30.02",
    (12, 2): "535.54.03",
    (12, 3): "545.23.06",
    (12, 4): "550.54.14",
    (12, 5): "555.42.02",
    (12, 6): "560.28.03",
    (12, 8): "570.26",
    (12, 9): "575.51.03",
    (13, 0): "580.65.06",
    (13, 1): "590.44.01",
    (13, 2): "595.45.04",
    (13, 3): "610.43.02",
}


class Generation(NamedTuple):
    """Devices that one compiled program serves. since: the first CUDA version that compiles for them. until: the first
    that does not any more, "" for none yet."""

    name: str
    first: tuple[int, int]  # compute capability; the generation ends where the next one begins
    since: str
    until: str


# A program compiled for X.y runs on X.z with z >= y: that is why Turing needs no more than Volta does, and Ada no more
# than Ampere. To another X only PTX leads, which the frameworks' packages mostly leave out.
_GENERATIONS = (
    Generation("Kepler", (3, 0), "5.0", "11.0"),
    Generation("Kepler", (3, 5), "5.0", "12.0"),
    Generation("Maxwell", (5, 0), "6.5", "13.0"),
    Generation("Pascal", (6, 0), "8.0", "13.0"),
    Generation("Volta", (7, 0), "9.0", "13.0"),
    Generation("Turing", (7, 5), "9.0", ""),
    Generation("Ampere or Ada", (8, 0), "11.0", ""),
    Generation("Hopper", (9, 0), "11.8", ""),
    Generation("Blackwell", (10, 0), "12.8", ""),
    Generation("Thor", (11, 0), "13.0", ""),
    Generation("Blackwell", (12, 0), "12.8", ""),
)


def numbers(version: str) -> tuple[int, ...]:
    """`535.161.08` as (535, 161, 8); () where it is no version."""
    return tuple(map(int, version.split("."))) if re.fullmatch(r"\d+(\.\d+)*", version) else ()


def least_driver(cuda: str) -> str:
    """The oldest driver that runs programs of a CUDA version (`12.4`, or `12` for any 12.x); "" when not known.

    From CUDA 11 on a driver runs all minor versions of its major one.
    """
    major, *_ = numbers(cuda)
    return _MINOR_COMPATIBLE.get(major) or own_driver(cuda)


def own_driver(cuda: str) -> str:
    """The oldest driver that has all of a CUDA version, and compiles its PTX; "" when not known."""
    major, *rest = numbers(cuda)
    return _DRIVERS.get((major, rest[0] if rest else 0), "")


def driver_runs(driver: str, highest: str, cuda: str) -> bool:
    """Whether a driver runs programs of a CUDA version. highest: the CUDA version that the driver says it supports.
    With neither told nothing speaks against it."""
    wanted, has = numbers(cuda), numbers(highest)
    if has >= wanted or not (has or numbers(driver)):
        return True
    least = least_driver(cuda)
    if least and numbers(driver):
        return numbers(driver) >= numbers(least)
    return bool(has) and wanted[0] >= 11 and has[0] == wanted[0]  # newer than the table


def below(highest: str, cuda: str) -> bool:
    """Whether a driver that supports `highest` runs `cuda` by minor-version compatibility only."""
    return bool(numbers(highest)) and numbers(highest) < numbers(cuda)


def generation(capability: str) -> Generation | None:
    """Of a compute capability; None for one that is not known, or from before Kepler."""
    found = numbers(capability)
    if not found or found[0] > _GENERATIONS[-1].first[0]:
        return None
    return next((each for each in reversed(_GENERATIONS) if each.first <= found), None)


def device_lacks(capability: str, cuda: str) -> str:
    """Why programs of a CUDA version have no code for a device: `is Hopper, which …`; "" when they have, or when it is
    not known. `12` is any 12.x: only what holds for all of them counts."""
    found, wanted = generation(capability), numbers(cuda)
    if found is None or not wanted:
        return ""
    first, last = (*wanted, 0)[:2], (*wanted, 99)[:2]
    if last < numbers(found.since):
        return f"is {found.name}, which CUDA knows from {found.since} on"
    if found.until and first >= numbers(found.until):
        return f"is {found.name}, which CUDA {found.until} dropped"
    return ""


def condition_holds(condition: str, facts: Mapping[str, str]) -> bool:
    """An image's NVIDIA_REQUIRE_… variable, read as NVIDIA's container runtime does: alternatives between spaces, terms
    of each between commas, such as `brand=tesla,driver>=535,driver<536`.

    facts: cuda, driver, arch, brand; a term about what is not known holds. One that cannot be read does not.
    """
    return any(
        all(_term_holds(term, facts) for term in alternative.split(",") if term) for alternative in condition.split()
    )


def _term_holds(term: str, facts: Mapping[str, str]) -> bool:
    match = re.fullmatch(r"(\w+)([<>=!]+)(.+)", term)
    if match is None or match[1] not in ("cuda", "driver", "arch", "brand"):
        return False
    name, operator, wanted = match.groups()
    has = facts.get(name, "")
    if not has:
        return True
    if name == "brand":
        return (has == wanted.lower()) is (operator == "=") and operator in ("=", "!=")
    one, other = _trimmed(has), _trimmed(wanted)
    return {
        "=": one == other,
        "!=": one != other,
        "<": one < other,
        "<=": one <= other,
        ">": one > other,
        ">=": one >= other,
    }.get(operator, False)


def _trimmed(version: str) -> tuple[int, ...]:
    """Without zeros at the end: `12.0` is `12`."""
    found = list(numbers(version))
    while found and found[-1] == 0:
        found.pop()
    return tuple(found)
