"""A measured figure, what was promised for it, and the table that shows both."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """measured, bare: as text with unit; bare is what the same work takes without Groundplane, "" when there is no
    such thing. promise: what it should be, "" for none. holds: whether it is; None without a promise."""

    name: str
    measured: str
    bare: str = ""
    ratio: str = ""
    promise: str = ""
    holds: bool | None = None


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: Sequence[float]) -> float:
    return percentile(values, 0.5)


def ms(seconds: float) -> str:
    """Milliseconds, two digits that matter."""
    value = seconds * 1e3
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def machine() -> str:
    """What it was measured on, and how busy that was."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ""
    )
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    load = os.getloadavg()[0]
    return (
        f"{len(os.sched_getaffinity(0))} cores ({model or platform.machine()}), {memory:.0f} GiB, "
        f"Linux {platform.release()}, Python {platform.python_version()}, load {load:.1f} before"
    )


def table(figures: Iterable[Figure]) -> str:
    """Markdown."""
    rows = [("what", "measured", "bare", "of bare", "promise", "holds")]
    words = {True: "yes", False: "**no**", None: ""}
    rows += [(f.name, f.measured, f.bare, f.ratio, f.promise, words[f.holds]) for f in figures]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
