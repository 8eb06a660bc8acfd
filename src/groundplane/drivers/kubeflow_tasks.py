"""The runs and tasks that are followed on a Kubeflow server."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from groundplane.drivers.kubeflow_results import Log
from groundplane.spi.launch import Called, Observation, Phase, Whole

SHORTEST = 0.5
"""Seconds between two looks at a run in which something happens."""


@dataclass(slots=True, eq=False)
class Task:
    """An attempt that is followed. told: the newest observation. number: when it came to be so. busy: its end is being
    fetched, or its log."""

    attempt: str
    epoch: int
    told: Observation
    called: Called
    item: int | None
    declared: tuple[str, ...]
    log: Log
    number: int = 0
    busy: bool = False

    @property
    def over(self) -> bool:
        return self.told.phase in (Phase.ENDED, Phase.LOST)


@dataclass(slots=True, eq=False)
class Run:
    """A run of Groundplane's, and the KFP run that it is. id: KFP's; "" while it is not known. whole: what to make it
    from; None where it is only to be ended. next, interval: when it is asked after again. since: when first.
    away: the server did not answer when it was asked last."""

    uid: str
    project: str
    whole: Whole | None
    tasks: dict[str, Task] = field(default_factory=dict[str, Task])
    id: str = ""
    next: float = 0.0
    interval: float = SHORTEST
    since: float = field(default_factory=time.monotonic)
    stopping: bool = False
    stopped: bool = False
    away: bool = False
