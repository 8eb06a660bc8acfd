"""What one waits for: `ground --help`, a script's first run ever, and the same script again."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from bench.figures import Figure, median, ms
from bench.ground import BARE_PYTHON, GROUND, Ground, timed

_ROUNDS = 15


def measure() -> Iterator[Figure]:
    first: list[float] = []
    for _ in range(3):
        with Ground() as fresh:
            fresh.write("hello.py", "print('hello')\n")
            first.append(fresh("run", "hello.py"))
    bare, helps, warm = list[float](), list[float](), list[float]()
    with Ground() as ground:
        ground.write("hello.py", "print('hello')\n")
        ground("run", "hello.py")
        for _ in range(_ROUNDS):
            bare.append(timed([sys.executable, "hello.py"], ground.work, ground.env))
            helps.append(timed([GROUND, "--help"], ground.work, ground.env))
            warm.append(ground("run", "hello.py"))
    script, slow = median(bare), max(1.0, median(bare) / BARE_PYTHON)
    yield Figure(
        "`ground --help`", ms(median(helps)), ms(script), f"{median(helps) / script:.1f}", f"≤ {ms(0.080 * slow)}",
        median(helps) <= 0.080 * slow,
    )  # fmt: skip
    yield Figure(
        "`ground run hello.py`, warm", ms(median(warm)), ms(script), f"{median(warm) / script:.1f}",
        f"≤ bare + {ms(0.1 * slow)}", median(warm) <= script + 0.1 * slow,
    )  # fmt: skip
    yield Figure(
        "`ground run hello.py`, nothing started", ms(median(first)), ms(script), f"{median(first) / script:.0f}",
        f"≤ {ms(1.2 * slow)}", median(first) <= 1.2 * slow,
    )  # fmt: skip
