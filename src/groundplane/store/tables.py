"""All tables. Keys inside are bigint, ids outside are text, times are µs UTC, durations µs.

What a run is (its pipeline, engines, arguments) is one document, stored once by content; `tasks` and `attempts`
stay narrow, with partial indexes on what is not final.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    literal_column,
    text,
)

from groundplane.store.names import Name

REVISION = "0009"
"""The revision of this module; store/migrations leads to it from every earlier one."""

metadata = MetaData()

Key = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up only an INTEGER PRIMARY KEY
_OPEN = "state IN ('queued', 'starting', 'running', 'stopping')"
_READY = "state = 'queued' AND ready = 1"
_FETCHING = "state = 'queued' AND ready = 2"
_FOR_IMAGES = "state = 'queued' AND ready = 3"

revision = Table("alembic_version", metadata, Column("version_num", Text, primary_key=True))

documents = Table(
    "documents",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("body", LargeBinary, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Key, primary_key=True),
    Column("uid", Text, nullable=False, unique=True),
    Column("name", Name, nullable=False),
    Column("project", Name, nullable=False),
    Column("pipeline", Name, nullable=False),
    Column("backend", Text, nullable=False),
    Column("site", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("plan", Text, ForeignKey("documents.digest"), nullable=False),
    Column("snapshot", Text, nullable=False),
    Column("rerun_of", Text),
    Column("submitted_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    # Tasks that are not final, and one for each fan-out that is not expanded yet: the run ends at 0.
    Column("open_tasks", Integer, nullable=False),
    Column("task_count", Integer, nullable=False),
    Column("cancelled", Boolean, nullable=False, server_default=text("false")),
    Column("metrics", Text),
    # Of the plan, so that a list need not read one for each of its rows.
    Column("parameters", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("team", Text, nullable=False, server_default=text("''")),  # its project's, when it was submitted
    # Its submitter has no account of this host's: what it runs beside the platform is kept from it.
    Column("confined", Boolean, nullable=False, server_default=text("false")),
    Column("labels", Text, nullable=False, server_default=text("'[]'")),  # JSON: of all that it reads and makes
    Index("runs_by_project", "project", "id"),
    Index("runs_by_state", "state", "id"),
    Index("runs_by_snapshot", "snapshot"),
)

steps = Table(
    "steps",
    metadata,
    Column("run_id", Key, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    # Steps that it waits for; at 0 its tasks are ready.
    Column("waiting", Integer, nullable=False),
    # Its tasks that have not succeeded; None while it is not expanded. At 0 the steps behind it wait for one less.
    Column("remaining", Integer),
    Column("max_parallel", Integer),
)

tasks = Table(
    "tasks",
    metadata,
    Column("id", Key, primary_key=True),
    Column("run_id", Key, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("name", Name, nullable=False),
    Column("item", Name),
    Column("backend", Text, nullable=False),
    Column("site", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("ready", Integer, nullable=False),  # 0 waits for steps, 1 may be claimed, 2 for URLs, 3 for its image
    Column("attempts", Integer, nullable=False),  # that began
    Column("losses", Integer, nullable=False),  # of these, not counted as tries
    Column("exit_code", Integer),
    Column("reason", Text),
    Column("reused", Boolean, nullable=False),
    Column("reuse_key", Text),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("wall", BigInteger),
    Column("cpu", BigInteger),
    Column("memory", BigInteger),
    Column("inputs", Text),
    # The engine's name: that of the pool whose seat it needs, if there is one.
    Column("licence", Text, nullable=False, server_default=text("''")),
    Column("waiting", Text),  # a reason: what a queued task waits for that is not a step
    # What it asks for, as quotas count it: whole GPUs, thousandths of a CPU.
    Column("gpus", Integer, nullable=False, server_default=text("0")),
    Column("cpus", BigInteger, nullable=False, server_default=text("1000")),
    Index("tasks_by_run", "run_id", "position", "number"),
    Index(
        "tasks_ready",
        "backend",
        "id",
        sqlite_where=text(_READY),
        postgresql_where=text(_READY),
    ),
    Index("tasks_fetching", "id", sqlite_where=text(_FETCHING), postgresql_where=text(_FETCHING)),
    Index("tasks_for_images", "id", sqlite_where=text(_FOR_IMAGES), postgresql_where=text(_FOR_IMAGES)),
    Index(
        "tasks_by_reuse_key",
        "reuse_key",
        sqlite_where=text("state = 'succeeded' AND reuse_key IS NOT NULL"),
        postgresql_where=text("state = 'succeeded' AND reuse_key IS NOT NULL"),
    ),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", Key, primary_key=True),
    Column("uid", Text, nullable=False, unique=True),
    Column("run_id", Key, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("task_id", Key, ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("backend", Text, nullable=False),
    Column("state", Text, nullable=False),
    # The lease: who follows it, under which epoch; it ends with the holder's row in control_planes.
    Column("holder", Text, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("claimed_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("exit_code", Integer),
    Column("reason", Text),
    Column("licence", Text),  # as its task's: whose seat it has taken while it is open
    Index("attempts_by_task", "task_id", "number"),
    Index("attempts_open", "holder", sqlite_where=text(_OPEN), postgresql_where=text(_OPEN)),
    Index("attempts_by_licence", "licence", sqlite_where=text(_OPEN), postgresql_where=text(_OPEN)),
)

transitions = Table(
    "transitions",
    metadata,
    Column("id", Key, primary_key=True),
    Column("run_id", Key, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("task_id", Key),
    Column("attempt", Integer),
    Column("state", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Index("transitions_by_run", "run_id", "id"),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("id", Key, primary_key=True),
    Column("run_id", Key, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("task_id", Key, ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    Column("name", Name, nullable=False),
    Column("kind", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("lost", Text),
    Column("labels", Text, nullable=False, server_default=text("'[]'")),  # JSON
    Index("artifacts_by_run", "run_id", "task_id", "name"),
    Index("artifacts_by_task", "task_id", "name"),
    Index("artifacts_by_content", "sha256"),
)

variables = Table(
    "variables",
    metadata,
    Column("run_id", Key, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
)

fetches = Table(
    "fetches",
    metadata,
    Column("run_id", Key, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("url", Text, primary_key=True),
    Column("sha256", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
)

licences = Table(
    "licences",
    metadata,
    Column("name", Name, primary_key=True),
    Column("seats", Integer, nullable=False),
    Column("server", Text),
    # What the server said last: `error` or a count (`issued` is None for one that it does not count). `others`: seats
    # in use that are not this platform's.
    Column("asked_at", BigInteger),
    Column("issued", Integer),
    Column("others", Integer),
    Column("error", Text),
    # When the engine's own licence manager last refused a seat that was free by this count; how many were ours then.
    Column("refused_at", BigInteger),
    Column("granted", Integer),
)

backends = Table(
    "backends",
    metadata,
    Column("name", Name, primary_key=True),
    Column("driver", Text, nullable=False),
    Column("options", Text, nullable=False),
    Column("added_at", BigInteger, nullable=False),
    # What policies are told of it.
    Column("region", Text, nullable=False, server_default=text("''")),
    Column("encrypted", Boolean, nullable=False, server_default=text("false")),
)

control_planes = Table(
    "control_planes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("site", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)

probes = Table(
    "probes",
    metadata,
    Column("key", Text, primary_key=True),
    Column("version", Text, nullable=False),
    Column("libraries", Text, nullable=False),
)

stats = Table(
    "stats",
    metadata,
    Column("path", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("ctime_ns", BigInteger, nullable=False),
    Column("inode", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("written_ns", BigInteger, nullable=False),
)

pins = Table(
    "pins",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
)


# Databases use a partial index only where the query says its condition in the same words, not in parameters.


def is_open(state: Column[str]) -> ColumnElement[bool]:
    """Whether an attempt's state is not final, by its index."""
    return state.in_([literal_column(f"'{each}'") for each in ("queued", "starting", "running", "stopping")])


def is_queued(ready: int) -> ColumnElement[bool]:
    """Whether a task is queued with that mark, by its index."""
    return (tasks.c.state == literal_column("'queued'")) & (tasks.c.ready == literal_column(str(ready)))
