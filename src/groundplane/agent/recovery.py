"""What a new agent does before it answers anyone: it ends what a killed one left alive, and repairs the logs."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from groundplane.agent import processes
from groundplane.agent.cgroups import Groups
from groundplane.agent.journal import History
from groundplane.agent.segments import Segments, repair
from groundplane.model.reasons import Fault, Reason
from groundplane.spi import wire
from groundplane.spi.launch import Observation, Phase

_PATIENCE = 10.0


def recover(history: History, boot: str, agent: str, home: Path, kept: frozenset[str]) -> None:
    """Changes the history: attempts that were alive are lost, those that had not begun are forgotten.

    kept: attempts whose processes this agent has taken over from its predecessor.
    """
    begun = [
        name
        for name, past in history.attempts.items()
        if past.starting and past.observation is None and not past.cleaned and name not in kept
    ]
    if begun:
        _end(history, boot, agent, begun)
    at = time.time_ns() // 1000
    for name in begun:
        past = history.attempts[name]
        told = Observation(
            name,
            Phase.LOST,
            at=at,
            epoch=past.epoch,
            reason=Reason(
                "lost",
                "the agent beside it was killed, and its processes were ended",
                "it is run again by itself, unless the step says rerun = false",
                Fault.PLATFORM,
            ),
        )
        past.observation = wire.plain(told)
    # Accepted and not begun: the control plane submits it again when it learns that nobody knows of it.
    for name in [n for n, p in history.attempts.items() if p.observation is None and not p.cleaned and n not in kept]:
        if not history.attempts[name].starting:
            del history.attempts[name]
    segments = Segments(home, agent)
    runs = {past.run for name, past in history.attempts.items() if past.run and name not in kept}
    if not kept:
        for run in runs:
            repair(segments.path(run), history.marks.get(run, 0))


def _end(history: History, boot: str, agent: str, names: list[str]) -> None:
    """SIGKILL until nothing is left: by control group, by environment, and by process id where it still is the one."""
    groups = Groups(agent)
    deadline = time.monotonic() + _PATIENCE
    while True:
        mains = dict.fromkeys(names, 0)
        for name in names:
            past = history.attempts[name]
            if past.pid and history.boot == boot:
                process = processes.inspect(past.pid)
                # The session outlives its leader: its id cannot be another's while a member lives.
                if process is None or process.ticks <= past.ticks:
                    mains[name] = past.pid
        left = [process.pid for found in processes.members(mains).values() for process in found]
        for name in names:
            if group := groups.find(name, memory=False):
                left += group.members()
        if not left or time.monotonic() > deadline:
            break
        processes.send(left, signal.SIGKILL)
        time.sleep(0.005)
    for name in names:
        if group := groups.find(name, memory=False):
            group.remove()
