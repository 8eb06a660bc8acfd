"""What a task asks for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from groundplane.model.gpus import GpuKind


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits of one task. None: not asked for, so not limited.

    cpus: number of CPUs (may be a fraction); counts as 1 for placement when None.
    memory: bytes. gpus: whole devices; a plan has settled None by the environment's, or 0. gpu_kind: what each must be.
    timeout: seconds of wall-clock time of one attempt. nodes: how many such copies of the work run at once and find
    each other, all else being of each; one when None.
    """

    cpus: float | None = None
    memory: int | None = None
    gpus: int | None = None
    timeout: float | None = None
    gpu_kind: GpuKind | None = None
    nodes: int | None = None

    @property
    def counted(self) -> tuple[int, int]:
        """What quotas count of it: GPUs, and thousandths of a CPU, on all its nodes."""
        nodes = self.nodes or 1
        cpus = 1000 if self.cpus is None else math.ceil(self.cpus * 1000 - 1e-6)
        return (self.gpus or 0) * nodes, cpus * nodes
