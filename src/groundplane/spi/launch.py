"""What the control plane hands to a driver for one attempt, and what it hears back.

These are the messages between control plane and agent too: `to_json`/`from_json` in spi/wire.py. Fields are only
ever added, with defaults, so that an older agent and a newer control plane understand each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from groundplane.model.artifacts import Output
from groundplane.model.reasons import Reason
from groundplane.model.resources import Resources
from groundplane.spi.toolchain import Command


@dataclass(frozen=True, slots=True)
class StageIn:
    """One file put into the working copy before the start, as an own, writable copy.

    path: where, relative to the working copy. source: absolute path of the content (a blob), or "" with `text`.
    source_name: the source's name when it has to be converted by the two endings, else "".
    """

    path: str
    source: str = ""
    text: str | None = None
    source_name: str = ""


@dataclass(frozen=True, slots=True)
class PrivateFile:
    """A file of its owner's alone that is there while the work runs: never an output, deleted when it has ended.

    path: relative to the working copy; beside: to the support folder. text: bytes that are no UTF-8 as surrogates.
    writable: for programs that open it no other way.
    """

    path: str
    text: str
    beside: bool = False
    writable: bool = False

    @property
    def mode(self) -> int:
        """Its permissions."""
        return 0o600 if self.writable else 0o400


@dataclass(frozen=True, slots=True)
class Container:
    """What an attempt runs in. image: what its engine calls it. network: whether the work may use one."""

    image: str
    network: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """What a place that is not this host has in all."""

    cpus: float
    memory: int


@dataclass(frozen=True, slots=True)
class Called:
    """What a step is called where the whole pipeline runs. task: its own name there. artifacts: output as declared ->
    its name. packed: the artifact that has the files of all outputs that are many, as a gzipped tar; "" for none.
    items: of its fan-out. item: the artifact that holds the item that it was made for; "" for no fan-out. first:
    whether it needs no other step, so that it may be what the pipeline begins with."""

    task: str
    artifacts: Mapping[str, str]
    packed: str = ""
    items: tuple[str, ...] = ()
    item: str = ""
    first: bool = True


@dataclass(frozen=True, slots=True)
class Whole:
    """A pipeline for a backend that runs it whole. name: the pipeline's. body: JSON of what that backend takes.
    steps: by name."""

    name: str
    body: str
    steps: Mapping[str, Called]


@dataclass(frozen=True, slots=True)
class Launch:
    """One attempt, ready to start.

    attempt: its id. epoch: the lease's; an agent refuses a lower one than it has seen for the attempt.
    deadline: seconds from receipt within which the start may happen; past it the launch is refused (`stale`).
    run, task: names for the log segment's records; `each[1]` is the second task of the fan-out `each`.
    snapshot: digest of the manifest (blobs/snapshots) to stand on.
    outputs: names and globs; None: every file created or changed, hidden ones and caches left out.
    redact: values that must never reach the log. grace: seconds between SIGTERM and SIGKILL.
    env: the whole environment of the process but for GROUND_ATTEMPT and TMPDIR, which the agent adds.
    container: set where the work runs in an image; a driver turns it into what its backend takes.
    channel: whose followers are told of it, where several drivers hand over to one agent; "" is the local one's.
    proxy: its process stands for work that runs elsewhere, under that place's limits: the agent sets none, and reads
    how the work ended from a `Verdict`. Its program may be started ahead, without its last argument: it then reads one
    line from its standard input, a JSON object with that `argument`, its `env` and its `folder`.
    owner: user and group id that its folders are given to, where the agent may.
    place: set where that is not this host: what its channel's launches share; None: they share this host.
    project, team: whose work it is.
    confined: the agent keeps its processes from everything of this host but programs and its own folders. network:
    whether those have the host's, else they have their own `localhost` alone.
    strange: what it reads may be of somebody whose platform this is not: it is converted confined, wherever it runs.
    whole: the pipeline that the task is one of, where the backend runs it whole.
    private: secrets that it gets as files. confidential: names in `env` of those that it gets as variables: a driver
    keeps them out of what its backend remembers of the work.
    """

    attempt: str
    epoch: int
    run: str
    task: str
    snapshot: str
    command: Command
    env: Mapping[str, str]
    deadline: float = 60.0
    inputs: tuple[StageIn, ...] = ()
    outputs: tuple[str, ...] | None = ()
    resources: Resources = Resources()
    redact: tuple[str, ...] = ()
    grace: float = 5.0
    container: Container | None = None
    channel: str = ""
    proxy: bool = False
    owner: int | None = None
    place: Place | None = None
    project: str = ""
    team: str = ""
    confined: bool = False
    whole: Whole | None = None
    private: tuple[PrivateFile, ...] = ()
    confidential: tuple[str, ...] = ()
    network: bool = False
    strange: bool = False


class Phase(StrEnum):
    """What an attempt is doing, as its driver sees it."""

    UNKNOWN = "unknown"  # never heard of: safe to submit again
    ACCEPTED = "accepted"  # will start
    RUNNING = "running"
    ENDED = "ended"
    LOST = "lost"  # it may have begun, and what became of it will never be known


@dataclass(frozen=True, slots=True)
class Usage:
    """What an attempt used: seconds of wall clock (monotonic) and CPU, bytes of memory at the peak.

    memory: 0 when it was below what could be measured. With a memory limit, the page cache may count.
    """

    wall: float = 0.0
    cpu: float = 0.0
    memory: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """How work ended that ran elsewhere: what its proxy leaves in `layout.verdict` before it exits.

    exit_code: as a shell would say it (128 + n after signal n); None when it never started.
    """

    exit_code: int | None = None
    cpu: float = 0.0
    memory: int = 0
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """One attempt as its driver sees it. `reason` is set when platform or limits ended it, not the script.

    at: wall clock in µs UTC when it came to be so. The streams' tails are as in `Ending`.
    changed: paths of in-place files whose stat differed at the end. lost: input name -> what its conversion lost.
    """

    attempt: str
    phase: Phase
    at: int = 0
    epoch: int = 0
    started_at: int = 0
    exit_code: int | None = None
    signal: int | None = None
    sentinel: bool = False
    stdout: str = ""
    stderr: str = ""
    report: str = ""
    outputs: tuple[Output, ...] = ()
    missing: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    lost: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    usage: Usage = Usage()
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """A launch's answer: accepted, or refused with a reason."""

    attempt: str
    refused: Reason | None = None


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Whole lines of one stream of one attempt (or an unfinished one) with the time they were read, µs UTC."""

    attempt: str
    stream: str
    at: int
    data: bytes
    unfinished: bool = False
