"""The first tables"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_OPEN = sa.text("state IN ('queued', 'starting', 'running', 'stopping')")
_READY = sa.text("state = 'queued' AND ready = 1")
_FETCHING = sa.text("state = 'queued' AND ready = 2")
_REUSABLE = sa.text("state = 'succeeded' AND reuse_key IS NOT NULL")


def upgrade() -> None:
    op.create_table(
        "documents",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    _runs()
    _tasks()
    _attempts()
    _of_runs()
    _of_the_platform()


def _run_id(**more: Any) -> sa.Column[int]:
    return sa.Column("run_id", _KEY, sa.ForeignKey("runs.id", ondelete="CASCADE"), **more)


def _partial(name: str, table: str, columns: list[str], where: sa.TextClause) -> None:
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)


def _runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", _KEY, primary_key=True),
        sa.Column("uid", sa.Text, nullable=False, unique=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("project", sa.Text, nullable=False),
        sa.Column("pipeline", sa.Text, nullable=False),
        sa.Column("backend", sa.Text, nullable=False),
        sa.Column("site", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("plan", sa.Text, sa.ForeignKey("documents.digest"), nullable=False),
        sa.Column("snapshot", sa.Text, nullable=False),
        sa.Column("rerun_of", sa.Text),
        sa.Column("submitted_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("open_tasks", sa.Integer, nullable=False),
        sa.Column("task_count", sa.Integer, nullable=False),
        sa.Column("cancelled", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("metrics", sa.Text),
        sa.Column("parameters", sa.Text, nullable=False),
        sa.Column("environment", sa.Text, nullable=False),
    )
    op.create_index("runs_by_project", "runs", ["project", "id"])
    op.create_index("runs_by_state", "runs", ["state", "id"])
    op.create_index("runs_by_snapshot", "runs", ["snapshot"])
    op.create_table(
        "steps",
        _run_id(primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("waiting", sa.Integer, nullable=False),
        sa.Column("remaining", sa.Integer),
        sa.Column("max_parallel", sa.Integer),
    )


def _tasks() -> None:
    op.create_table(
        "tasks",
        sa.Column("id", _KEY, primary_key=True),
        _run_id(nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("item", sa.Text),
        sa.Column("backend", sa.Text, nullable=False),
        sa.Column("site", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("ready", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("losses", sa.Integer, nullable=False),
        sa.Column("exit_code", sa.Integer),
        sa.Column("reason", sa.Text),
        sa.Column("reused", sa.Boolean, nullable=False),
        sa.Column("reuse_key", sa.Text),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("wall", sa.BigInteger),
        sa.Column("cpu", sa.BigInteger),
        sa.Column("memory", sa.BigInteger),
        sa.Column("inputs", sa.Text),
    )
    op.create_index("tasks_by_run", "tasks", ["run_id", "position", "number"])
    _partial("tasks_ready", "tasks", ["backend", "id"], _READY)
    _partial("tasks_fetching", "tasks", ["id"], _FETCHING)
    _partial("tasks_by_reuse_key", "tasks", ["reuse_key"], _REUSABLE)


def _attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("id", _KEY, primary_key=True),
        sa.Column("uid", sa.Text, nullable=False, unique=True),
        _run_id(nullable=False),
        sa.Column("task_id", _KEY, sa.ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("backend", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("claimed_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("exit_code", sa.Integer),
        sa.Column("reason", sa.Text),
    )
    op.create_index("attempts_by_task", "attempts", ["task_id", "number"])
    _partial("attempts_open", "attempts", ["holder"], _OPEN)


def _of_runs() -> None:
    op.create_table(
        "transitions",
        sa.Column("id", _KEY, primary_key=True),
        _run_id(nullable=False),
        sa.Column("task_id", _KEY),
        sa.Column("attempt", sa.Integer),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_index("transitions_by_run", "transitions", ["run_id", "id"])
    op.create_table(
        "artifacts",
        sa.Column("id", _KEY, primary_key=True),
        _run_id(nullable=False),
        sa.Column("task_id", _KEY, sa.ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("lost", sa.Text),
    )
    op.create_index("artifacts_by_run", "artifacts", ["run_id", "task_id", "name"])
    op.create_index("artifacts_by_task", "artifacts", ["task_id", "name"])
    op.create_index("artifacts_by_content", "artifacts", ["sha256"])
    op.create_table(
        "variables",
        _run_id(primary_key=True),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "fetches",
        _run_id(primary_key=True),
        sa.Column("url", sa.Text, primary_key=True),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
    )


def _of_the_platform() -> None:
    op.create_table(
        "events",
        sa.Column("id", _KEY, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("object", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_table(
        "control_planes",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("site", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "probes",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("libraries", sa.Text, nullable=False),
    )
    op.create_table(
        "stats",
        sa.Column("path", sa.Text, primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("mtime_ns", sa.BigInteger, nullable=False),
        sa.Column("ctime_ns", sa.BigInteger, nullable=False),
        sa.Column("inode", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("written_ns", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "pins",
        sa.Column("sha256", sa.Text, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
