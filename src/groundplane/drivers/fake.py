"""A SIMULATION of a larger place: work really runs, as processes of this host's agent, but what it asks for (GPUs,
CPUs, memory) is granted whether it is there or not. For trying quotas and policies where there is no such place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from groundplane.drivers.agent import BesideDriver
from groundplane.model.errors import Invalid
from groundplane.model.resources import Resources
from groundplane.spi.driver import Health
from groundplane.spi.launch import Launch, Place, Submission

_AT_ONCE = 64
"""Processes: they share this host's CPUs, so there must be some end to it."""
_GRANTED = 100_000
_MEMORY = 1 << 50


class FakeDriver(BesideDriver):
    """See `spi.driver.Driver`."""

    def __init__(self, home: Path, name: str) -> None:
        super().__init__(home, channel=name)
        self._name = name

    @staticmethod
    def configured(home: Path, name: str, options: Mapping[str, str]) -> FakeDriver:
        """The one of that name. Raises Invalid: it has no options."""
        if options:
            raise Invalid(f"driver 'fake' knows no {', '.join(sorted(options))}", hint="it has no options")
        return FakeDriver(home, name)

    @property
    def waiting_room(self) -> int:
        return _AT_ONCE

    def check(self) -> Health:
        host = self._health()
        return replace(
            host,
            message="a simulation: work runs here as processes, GPUs are granted that are not there"
            if host.ok
            else host.message,
            cpus=float(_GRANTED),
            memory=_MEMORY,
            gpus=_GRANTED,
            devices=None,
            facts={
                "simulation": f"at most {_AT_ONCE} tasks at once, which share this host",
                "gpus": "a simulation grants as many as are asked for, and shows none to the work",
                "limits": "none: what is asked for is granted, not enforced",
                "working copies": host.facts.get("working copies", ""),
            },
        )

    def submit(self, launches: Sequence[Launch]) -> list[Submission]:
        return super().submit([self._granted(launch) for launch in launches])

    def _granted(self, launch: Launch) -> Launch:
        return replace(
            launch,
            channel=self._name,
            place=Place(cpus=_AT_ONCE, memory=_MEMORY),
            resources=Resources(timeout=launch.resources.timeout),
            env={**launch.env, "CUDA_VISIBLE_DEVICES": ""},  # a real one of this host is somebody else's
        )
