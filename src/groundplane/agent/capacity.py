"""What a place that work runs in has, and what of it is taken."""

from __future__ import annotations

import math
import os

from groundplane.agent.gpus import GpuPool
from groundplane.model.gpus import gpus_shown
from groundplane.model.quantities import format_size
from groundplane.model.reasons import Reason
from groundplane.model.resources import Resources
from groundplane.spi.launch import Place


class Room:
    """Free room as it is promised to launches in their order; goes below zero for those that have to wait."""

    def __init__(self, cpus: float, memory: int, gpus: GpuPool) -> None:
        self._cpus = cpus
        self._memory = memory
        self._pool = gpus
        self._gpus: list[int] | None = None  # free ones; None until somebody asks for one

    @property
    def left(self) -> bool:
        return self._cpus > 1e-9

    def fits(self, resources: Resources) -> bool:
        """Whether the launch can start; either way its room is no longer free for those behind it."""
        self._cpus -= cpus_of(resources)
        self._memory -= resources.memory or 0
        enough = not resources.gpus or self._gpus_fit(resources, resources.gpus)
        return self._cpus > -1e-9 and (self._memory >= 0 or not resources.memory) and enough

    def _gpus_fit(self, resources: Resources, count: int) -> bool:
        if self._gpus is None:
            self._gpus = self._pool.free
        promised = self._pool.suitable(self._gpus, resources.gpu_kind)[:count]
        self._gpus = [number for number in self._gpus if number not in promised]
        return len(promised) == count


class Capacity:
    """CPUs (one each where none were asked for), memory where asked for, and whole GPUs: this host's, or a place's
    elsewhere, where no cores are chosen and no GPUs given."""

    def __init__(self, place: Place | None = None) -> None:
        self._here = place is None
        self.cores = sorted(os.sched_getaffinity(0)) if place is None else []
        self.cpus = float(len(self.cores)) if place is None else place.cpus
        self.memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if place is None else place.memory
        self.gpus = GpuPool() if place is None else GpuPool("")
        self.free_cpus = self.cpus
        self.free_memory = self.memory
        self._load = dict.fromkeys(self.cores, 0)

    def resize(self, place: Place) -> None:
        """It has more or less than before; what is taken stays so."""
        self.free_cpus += place.cpus - self.cpus
        self.free_memory += place.memory - self.memory
        self.cpus, self.memory = place.cpus, place.memory

    def never(self, resources: Resources) -> Reason | None:
        """Why a launch can never start here; None when it can."""
        asked = "", ""
        if cpus_of(resources) > self.cpus:
            asked = f"{cpus_of(resources):g} CPUs", f"{self.cpus:g}"
        elif (resources.memory or 0) > self.memory:
            asked = f"{format_size(resources.memory or 0)} of memory", format_size(self.memory)
        elif resources.gpus and (has := self.gpus.never(resources.gpus, resources.gpu_kind)):
            asked = gpus_shown(resources.gpus, resources.gpu_kind), has
        if not asked[0]:
            return None
        where = "this host" if self._here else "the place that it runs in"
        return Reason("does_not_fit", f"it asks for {asked[0]}; {where} has {asked[1]}", "ask for less")

    def take(self, resources: Resources) -> list[int] | None:
        """The GPUs given (often none), or None when there is no room now."""
        cpus, memory = cpus_of(resources), resources.memory or 0
        if cpus > self.free_cpus + 1e-9 or memory > self.free_memory:
            return None
        given = self.gpus.take(resources.gpus, resources.gpu_kind) if resources.gpus else []
        if given is not None:
            self.free_cpus -= cpus
            self.free_memory -= memory
        return given

    def room(self) -> Room:
        """What is free now, to be given out in order."""
        return Room(self.free_cpus, self.free_memory, self.gpus)

    def hold(self, resources: Resources, gpus: list[int], cores: list[int]) -> None:
        """What an inherited attempt has already."""
        self.free_cpus -= cpus_of(resources)
        self.free_memory -= resources.memory or 0
        if gpus:
            self.gpus.hold(gpus)
        for core in cores:
            self._load[core] = self._load.get(core, 0) + 1

    def give_back(self, resources: Resources, gpus: list[int]) -> None:
        self.free_cpus += cpus_of(resources)
        self.free_memory += resources.memory or 0
        if gpus:
            self.gpus.give_back(gpus)

    def cores_for(self, resources: Resources) -> list[int]:
        """The least used cores for a launch that asked for CPUs; [] when it may use all."""
        wanted = math.ceil(resources.cpus - 1e-9) if resources.cpus else 0
        if not wanted or wanted >= len(self.cores):
            return []
        chosen = sorted(self.cores, key=lambda core: (self._load[core], core))[:wanted]
        for core in chosen:
            self._load[core] += 1
        return chosen

    def leave_cores(self, cores: list[int]) -> None:
        for core in cores:
            if core in self._load:
                self._load[core] -= 1


def cpus_of(resources: Resources) -> float:
    """What a launch counts for."""
    return 1.0 if resources.cpus is None else resources.cpus
