"""What the API, the SDK and `--json` show, field for field. Services make these, the client reads them back.

Times are RFC 3339 UTC text, durations seconds, sizes bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from groundplane.model.gpus import Gpus
from groundplane.model.reasons import Reason
from groundplane.model.requests import Context as Context
from groundplane.model.requests import EnvironmentRequest as EnvironmentRequest
from groundplane.model.requests import PushRequest as PushRequest
from groundplane.model.requests import RerunRequest as RerunRequest
from groundplane.model.requests import RunRequest as RunRequest


@dataclass(frozen=True, slots=True)
class OutputDocument:
    """An artifact of a task. `lost`: what conversions for the steps that read it could not keep, a sentence each."""

    name: str
    kind: str
    size: int
    sha256: str
    lost: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InputDocument:
    """What a task read: `source` is STEP/NAME, a project path or a URL. `lost`: what its conversion could not keep."""

    name: str
    source: str
    sha256: str = ""
    lost: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskDocument:
    """A task of a run; `attempts` counts tries that began."""

    name: str
    step: str
    toolchain: str
    engine: str
    engine_version: str
    state: str
    reason: Reason | None
    exit_code: int | None
    reused: bool
    attempts: int
    started_at: str | None
    finished_at: str | None
    usage: Mapping[str, float] = field(default_factory=dict[str, float])  # wall_seconds cpu_seconds memory_bytes
    inputs: tuple[InputDocument, ...] = ()
    outputs: tuple[OutputDocument, ...] = ()
    backend: str = ""
    runs_in: str = ""  # environment; "" for what is installed on the backend
    waiting: Reason | None = None  # what it waits for while it is queued, when that is not a step
    labels: tuple[str, ...] = ()  # of what it reads and makes


@dataclass(frozen=True, slots=True)
class RunDocument:
    """A run with its tasks; in lists `tasks` is empty and `task_count` tells. `pipeline` is "" for a lone script.

    warnings: sentences about what it runs in.
    """

    id: str
    name: str
    state: str
    reason: Reason | None
    project: str
    pipeline: str
    backend: str
    actor: str
    parameters: Mapping[str, str]
    environment: tuple[str, ...]  # names alone
    submitted_at: str
    started_at: str | None
    finished_at: str | None
    metrics: Mapping[str, float | str | bool | None]
    rerun_of: str | None
    task_count: int
    tasks: tuple[TaskDocument, ...] = ()
    warnings: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()  # of all that it reads and makes
    team: str = ""  # its project's, when it was submitted


@dataclass(frozen=True, slots=True)
class ProgressDocument:
    """How far a followed run is. counts: state -> number of tasks. changed: tasks whose state is a new one,
    without their inputs; outputs only when they have ended."""

    state: str
    counts: Mapping[str, int]
    changed: tuple[TaskDocument, ...] = ()


@dataclass(frozen=True, slots=True)
class RunPage:
    """Newest first. `next` is the cursor of the following page, the id of this one's last run, or None."""

    runs: tuple[RunDocument, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class ArtifactDocument:
    """`name` is TASK/NAME, as `ground artifacts get` takes it."""

    name: str
    task: str
    output: str
    kind: str
    size: int
    sha256: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """A step as it would run. `tasks` is None for a fan-out over files that do not exist yet."""

    step: str
    toolchain: str
    engine: str
    engine_path: str
    engine_version: str
    command: tuple[str, ...]
    backend: str
    cpus: float | None
    memory: int | None
    gpus: int
    timeout: float | None
    retries: int
    needs: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tasks: int | None
    reuse: str  # "would be reused", or why it would run: `always`, `changed: script`, `no earlier run`, …
    runs_in: str = ""  # environment; "" for what is installed on the backend
    lock_sha256: str | None = None  # of its environment
    waiting: Reason | None = None  # what it would wait for now
    nodes: int = 1
    labels: tuple[str, ...] = ()  # of what it would read and make
    decision: str = "allow"  # or "deny"
    rule: str = ""  # that decided so; "" when none permits it


@dataclass(frozen=True, slots=True)
class PlanDocument:
    """What a run would do; nothing has started. `pipeline` is "" for a lone script. decision, rule: "deny" when a step
    is denied, by which rule."""

    name: str
    project: str
    pipeline: str
    backend: str
    snapshot: str
    files: int
    bytes: int
    ignored: tuple[str, ...]
    parameters: Mapping[str, str]
    steps: tuple[PlannedTask, ...]
    warnings: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    decision: str = "allow"
    rule: str = ""


@dataclass(frozen=True, slots=True)
class AuditDocument:
    """The audit log: how many events, where checkpoints are kept, of how many events the last one there was and since
    when it is there. problem: "" when all is well."""

    events: int
    witness: str
    pushed: int
    pushed_at: str | None
    problem: str


@dataclass(frozen=True, slots=True)
class StatusDocument:
    """A control plane. `url` is None unless it also listens on TCP; `agent_pid` is None when no agent runs."""

    version: str
    url: str | None
    pid: int
    agent_pid: int | None
    database: str
    home: str
    started_at: str
    open_runs: int
    audit: AuditDocument | None = None  # of a control plane that is new enough to tell


@dataclass(frozen=True, slots=True)
class EngineDocument:
    """An engine of a toolchain: `path` and `version` are None where this machine has none on the caller's PATH."""

    name: str
    path: str | None
    version: str | None
    tested: bool
    note: str


@dataclass(frozen=True, slots=True)
class ToolchainDocument:
    """A toolchain with its engines; `available` when one of them is here."""

    name: str
    title: str
    available: bool
    suffixes: tuple[str, ...]
    engines: tuple[EngineDocument, ...]


@dataclass(frozen=True, slots=True)
class BackendDocument:
    """A backend and its health. cpus, memory (bytes), gpus: what it has in all. devices: which GPUs, with their driver;
    None where it does not tell."""

    name: str
    driver: str
    ok: bool
    message: str
    hint: str
    cpus: float
    memory: int
    gpus: int
    facts: Mapping[str, str]
    devices: Gpus | None = None
    region: str = ""  # as whoever added it said
    encrypted: bool = False


@dataclass(frozen=True, slots=True)
class GarbageDocument:
    """What lay on a backend and is deleted now. error, hint: why not all of it, or none, could be; "" where it was."""

    name: str
    deleted: tuple[str, ...]
    error: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class SeatDocument:
    """Who has a seat of a pool: the run's id, its task, since when."""

    run: str
    task: str
    backend: str
    since: str


@dataclass(frozen=True, slots=True)
class LicenceDocument:
    """A pool of licence seats. used: by our tasks. free: that a task could take now. waiting: tasks without one.

    elsewhere: seats that others have, by the word of `server`, which gave it at `asked_at`. message: what came of
    asking it. known: whether an engine has that name; otherwise commands of that program take its seats.
    """

    name: str
    seats: int
    server: str | None
    used: int
    free: int
    waiting: int
    elsewhere: int = 0
    asked_at: str | None = None
    message: str = ""
    known: bool = True
    holders: tuple[SeatDocument, ...] = ()


@dataclass(frozen=True, slots=True)
class QuotaDocument:
    """What a team, with all below it, or a project may have at once. kind: `team` or `project`.

    resource: `gpus`, `cpus`, `runs`, `seats:NAME`. used: by what is open now. over: `queue` or `deny`. waiting: tasks
    that wait for it; of `runs`, runs.
    """

    name: str
    kind: str
    resource: str
    limit: float
    used: float
    over: str
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that `ground doctor` looked at. level: ok, warning or error."""

    name: str
    level: str
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a run's log without its newline; bytes that are no UTF-8 are replaced in `text`."""

    time: str
    task: str
    attempt: int
    stream: str
    text: str


@dataclass(frozen=True, slots=True)
class SecretDocument:
    """A secret without its value. project: whose work alone gets it; None: that of all projects."""

    name: str
    project: str | None
    version: int
    set_at: str
    set_by: str


@dataclass(frozen=True, slots=True)
class ConnectionDocument:
    """A database or bucket by name. url: without its password, which is that secret. variables: what a task gets."""

    name: str
    project: str | None
    url: str
    secret: str | None
    added_at: str
    variables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConnectionHealth:
    """Whether what a connection leads to answers the control plane."""

    name: str
    ok: bool
    message: str
    hint: str = ""
