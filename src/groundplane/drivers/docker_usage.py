"""What a container uses: read from its control group on this host, or asked of an engine elsewhere.

The group goes with the container, a moment after its output ends: where that moment is missed, the last figures are
those of the look before, up to a twentieth of a second old.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from groundplane.model.errors import Unavailable
from groundplane.oci.engine import Engine, Refused

_GROUPS = "/sys/fs/cgroup"
_ASKED_EVERY = 2.0  # seconds: an answer takes the engine some milliseconds
_ASKED_FIRST = 0.25  # after that long, then each time after half as long again


class Usage:
    """figures: CPU seconds, and bytes of memory at the peak. here: whether the engine is on this host."""

    def __init__(self, engine: Engine, container: str, *, here: bool) -> None:
        self._engine = engine
        self._container = container
        self._here = here
        self._look: Callable[[], tuple[float, int]] | None = None
        self.figures = (0.0, 0)

    def sample(self) -> None:
        """Looks again; what is gone leaves the figures as they were."""
        try:
            self._look = self._look or self._way()
            cpu, memory = self._look()
        except (OSError, ValueError, KeyError, Refused, Unavailable):
            return
        self.figures = max(cpu, self.figures[0]), max(memory, self.figures[1])

    def _way(self) -> Callable[[], tuple[float, int]]:
        if not self._here:
            return _asked(self._engine, self._container)
        pid = self._engine.call("GET", f"/containers/{self._container}/json")["State"]["Pid"]
        lines = [line.split(":", 2) for line in _read(f"/proc/{pid}/cgroup").splitlines()]
        paths = {names: path for _, names, path in lines}
        return _second(paths[""]) if len(paths) == 1 else _first(paths)


def processes_of(container: str) -> list[int]:
    """This host's processes in the control groups of a container, by its id."""
    found: list[int] = []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and container in _read(f"/proc/{name}/cgroup"):
                found.append(int(name))
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has ended meanwhile
    return found


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def _first(paths: dict[str, str]) -> Callable[[], tuple[float, int]]:
    """Of control groups of version 1: a hierarchy a controller."""

    def file(controller: str, name: str) -> str:
        names = next(each for each in paths if controller in each.split(","))
        return f"{_GROUPS}/{names}{paths[names]}/{name}"

    def look() -> tuple[float, int]:
        cpu = int(_read(file("cpuacct", "cpuacct.usage"))) / 1e9
        return cpu, int(_read(file("memory", "memory.max_usage_in_bytes")))

    return look


def _second(path: str) -> Callable[[], tuple[float, int]]:
    """Of control groups of version 2."""

    def look() -> tuple[float, int]:
        figures = dict(line.split() for line in _read(f"{_GROUPS}{path}/cpu.stat").splitlines())
        try:
            memory = _read(f"{_GROUPS}{path}/memory.peak")
        except FileNotFoundError:  # a kernel before 5.19
            memory = _read(f"{_GROUPS}{path}/memory.current")
        return int(figures["usage_usec"]) / 1e6, int(memory)

    return look


def _asked(engine: Engine, container: str) -> Callable[[], tuple[float, int]]:
    due, wait = 0.0, _ASKED_FIRST
    known = (0.0, 0)

    def look() -> tuple[float, int]:
        nonlocal due, wait, known
        if time.monotonic() >= due:
            due = time.monotonic() + wait
            wait = min(wait * 1.5, _ASKED_EVERY)
            told = engine.call("GET", f"/containers/{container}/stats", {"stream": 0, "one-shot": 1})
            memory = told["memory_stats"]
            known = told["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9, memory.get("max_usage", memory.get("usage", 0))
        return known

    return look
