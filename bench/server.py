"""The control plane at rest: how soon it answers, and what it takes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench.figures import Figure, median, ms
from bench.ground import BARE_PYTHON, Ground, timed
from groundplane.client import Client

_SETTLE = 2.0
_LIMIT_MIB = 100


def measure() -> Iterator[Figure]:
    starts: list[float] = []
    resident: list[float] = []
    agents: list[float] = []
    bare: list[float] = []
    for _ in range(3):
        with Ground() as ground, Client(home=ground.home) as client:
            ground.home.mkdir()
            bare.append(timed([sys.executable, "-c", "pass"], ground.work, ground.env))
            started = time.monotonic()
            status = client.status()
            starts.append(time.monotonic() - started)
            time.sleep(_SETTLE)
            resident.append(mib(status.pid))
            agents.append(mib(client.status().agent_pid or status.pid))
    slow = max(1.0, median(bare) / BARE_PYTHON)
    yield Figure(
        "control plane, start to first answer", ms(median(starts)), ms(median(bare)),
        f"{median(starts) / median(bare):.0f}", f"≤ {ms(0.7 * slow)}", median(starts) <= 0.7 * slow,
    )  # fmt: skip
    yield Figure(
        "control plane, memory when idle (RSS)", f"{median(resident):.0f} MiB", "", "", f"< {_LIMIT_MIB} MiB",
        median(resident) < _LIMIT_MIB,
    )  # fmt: skip
    yield Figure("agent, memory when idle (RSS)", f"{median(agents):.0f} MiB")


def mib(pid: int) -> float:
    """Resident memory of a process."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
