"""Output: when a follower sees a line, and how fast a gigabyte goes through."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

from bench.figures import Figure, ms, percentile
from bench.ground import GROUND, Ground, timed
from groundplane.client import Client, requests

_LINES = 400
_EVERY = 0.01
_TICKS = f"""import time
for _ in range({_LINES}):
    print(time.monotonic_ns(), flush=True)
    time.sleep({_EVERY})
"""
_GIGABYTE = 1_000_000_000
_FLOOD = f"yes 'a line of output like many others' | head -c {_GIGABYTE}\n"


def measure() -> Iterator[Figure]:
    with Ground() as ground:
        ground.write("ticks.py", _TICKS)
        flood = ground.write("flood.sh", _FLOOD)
        ground("run", "ticks.py")
        delays = sorted(seen(ground))
        p50, p99 = percentile(delays, 0.5), percentile(delays, 0.99)
        yield Figure(
            "a log line until a follower has it, p50 / p99", f"{ms(p50)} / {ms(p99)}", "", "", "p99 ≤ 50 ms",
            p99 <= 0.05,
        )  # fmt: skip
        with (ground.work / "bare.out").open("wb") as file:
            started = time.monotonic()
            subprocess.run(["sh", str(flood)], stdout=file, check=True)
            bare = _GIGABYTE / 1e6 / (time.monotonic() - started)
        (ground.work / "bare.out").unlink()
        started = time.monotonic()
        subprocess.run(
            [GROUND, "run", "flood.sh"], cwd=ground.work, env=ground.env, stdout=subprocess.DEVNULL, check=True
        )
        followed = _GIGABYTE / 1e6 / (time.monotonic() - started)
        kept = _GIGABYTE / 1e6 / timed([GROUND, "run", "flood.sh", "--json"], ground.work, ground.env)
    yield Figure("1 GB of output, kept", f"{kept:.0f} MB/s", f"{bare:.0f} MB/s (to a file)", f"{kept / bare:.2f}")
    yield Figure(
        "1 GB of output, kept and followed", f"{followed:.0f} MB/s", f"{bare:.0f} MB/s", f"{followed / bare:.2f}"
    )


def seen(ground: Ground) -> Iterator[float]:
    """Seconds from a line's print to its arrival at a follower."""
    with Client(home=ground.home) as client:
        run = client.submit(requests.request("ticks.py", here=ground.work))
        for pieces in client.pieces(run.id, follow=True):
            now = time.monotonic_ns()
            for piece in pieces:
                yield from ((now - int(line)) / 1e9 for line in piece.data.split())
