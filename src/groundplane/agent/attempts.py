"""One attempt in the agent's memory, from its acceptance until its ending is in the journal."""

from __future__ import annotations

from enum import Enum, auto

from groundplane.agent.capture import Stream
from groundplane.agent.cgroups import Group
from groundplane.agent.loop import Timer
from groundplane.agent.segments import Segment
from groundplane.agent.staging import Staged
from groundplane.model.reasons import Reason
from groundplane.spi.launch import Launch


class Stage(Enum):
    """How far it has come."""

    IN_LINE = auto()
    STAGING = auto()  # a thread makes its working copy
    READY = auto()
    CONVERTING = auto()  # a process of its own converts its inputs
    RUNNING = auto()
    ENDING = auto()  # the main process has ended, others may not have
    COLLECTING = auto()  # a thread hashes its outputs
    OVER = auto()


class Attempt:
    """Only the loop's thread changes it."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self.name = launch.attempt
        self.epoch = launch.epoch
        self.stage = Stage.IN_LINE
        self.staged: Staged | None = None
        self.reason: Reason | None = None  # why platform or limits ended it; the first one counts
        self.gpus: list[int] = []
        self.cores: list[int] = []
        self.holds_room = False
        self.group: Group | None = None
        self.segment: Segment | None = None
        self.streams: list[Stream] = []
        self.muted = False  # its log has no place any more
        self.flush_timer: Timer | None = None
        self.timeout_timer: Timer | None = None
        self.pid = 0
        self.pidfd = -1
        self.ticks = 0
        self.started_at = 0  # µs UTC
        self.begun = 0.0  # monotonic seconds; conversions count
        self.exited = 0.0
        self.kill_at = 0.0  # when what is left of its tree is killed
        self.stopping = False
        self.status: int | None = None  # exit code, or minus the signal
        self.cpu = 0.0
        self.floor = 0  # KiB, the agent's own peak when the process began
        self.peak = 0  # bytes; 0: below what could be measured
        self.lost: dict[str, tuple[str, ...]] = {}

    @property
    def inputs(self) -> frozenset[str]:
        """The paths of its inputs in the working copy."""
        return frozenset(each.path for each in self.launch.inputs)

    @property
    def alive(self) -> bool:
        """Whether it has a process that nobody has waited for."""
        return self.stage in (Stage.CONVERTING, Stage.RUNNING)
