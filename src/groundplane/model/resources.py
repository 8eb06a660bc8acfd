"""What a task asks for."""

from __future__ import annotations

from dataclasses import dataclass

from groundplane.model.gpus import GpuKind


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits of one task. None: not asked for, so not limited.

    cpus: number of CPUs (may be a fraction); counts as 1 for placement when None.
    memory: bytes. gpus: whole devices; a plan has settled None by the environment's, or 0. gpu_kind: what each must be.
    timeout: seconds of wall-clock time of one attempt.
    """

    cpus: float | None = None
    memory: int | None = None
    gpus: int | None = None
    timeout: float | None = None
    gpu_kind: GpuKind | None = None
