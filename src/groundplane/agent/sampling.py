"""Looks ten times a second at what the running attempts use, and whether a limit was hit."""

from __future__ import annotations

import time

from groundplane.agent import processes
from groundplane.agent.attempts import Attempt
from groundplane.agent.loop import Loop, Timer
from groundplane.agent.running import Runner
from groundplane.model.quantities import format_size
from groundplane.model.reasons import Reason

_EVERY = 0.1
_UNLIMITED_EVERY = 10  # ticks: an attempt without a limit is only looked at once a second
_SWEEP_EVERY = 50


class Sampler:
    """Sleeps while nothing runs."""

    def __init__(self, loop: Loop, runner: Runner) -> None:
        self._loop = loop
        self._runner = runner
        self._timer: Timer | None = None
        self._ticks = 0

    def wake(self) -> None:
        if self._timer is None:
            self._timer = self._loop.later(_EVERY, self._tick)

    def judge(self, attempt: Attempt) -> None:
        """At the end: the group's own figure counts, and it is said when the memory limit was hit."""
        limit = attempt.launch.resources.memory
        if not limit:
            return
        hit = attempt.peak > limit
        if attempt.group is not None and attempt.group.limits_memory:
            hit = attempt.group.killed()
            attempt.peak = attempt.group.peak() or attempt.peak
            if hit:
                attempt.peak = min(attempt.peak, limit)
        if hit and (attempt.reason is None or attempt.reason.code == "out_of_memory"):
            attempt.reason = _out_of_memory(attempt, limit)

    def _tick(self) -> None:
        self._timer = None
        active = self._runner.active
        if not active:
            return
        self._timer = self._loop.later(_EVERY, self._tick)
        self._ticks += 1
        if self._ticks % _SWEEP_EVERY == 0:
            self._runner.strange_children()  # reaps orphans
        now = time.monotonic()
        everyone = self._ticks % _UNLIMITED_EVERY == 0
        sampled: dict[str, int] = {}
        for attempt in list(active.values()):
            if attempt.launch.proxy:
                continue  # measured where the work is
            if attempt.group is not None and attempt.group.limits_memory:
                # The kernel ends one process; what is left of the tree would go on without it.
                if attempt.alive and attempt.group.killed():
                    limit = attempt.launch.resources.memory or 0
                    self._runner.stop(attempt, 0.0, _out_of_memory(attempt, limit))
            elif attempt.alive and (attempt.launch.resources.memory or (everyone and now - attempt.begun > 1)):
                sampled[attempt.name] = attempt.pid
        if sampled:
            for name, found in processes.members(sampled, by_environment=False).items():
                _note(active[name], found)


def _note(attempt: Attempt, found: list[processes.Process]) -> None:
    total = sum(process.resident for process in found)
    if total > attempt.peak and len(found) > 1:
        # Shared pages were counted once a process: only then is the exact, dearer figure worth its price.
        total = sum(processes.proportional(process.pid) or process.resident for process in found)
    attempt.peak = max(attempt.peak, total)


def _out_of_memory(attempt: Attempt, limit: int) -> Reason:
    return Reason(
        "out_of_memory",
        f"it used {format_size(max(attempt.peak, 0))} of memory; its limit is {format_size(limit)}",
        "ask for more memory, or work on less at a time",
    )
