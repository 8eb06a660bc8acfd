"""Runs and tasks as the services would show them."""

from __future__ import annotations

from groundplane.model.documents import OutputDocument, RunDocument, TaskDocument
from groundplane.model.reasons import Fault, Reason

RUN = "0198f3a1-7b2c-7000-8000-000000000001"


def a_task(
    name: str = "fit",
    state: str = "succeeded",
    *,
    step: str | None = None,
    reason: Reason | None = None,
    outputs: tuple[OutputDocument, ...] = (),
    reused: bool = False,
    attempts: int = 1,
) -> TaskDocument:
    return TaskDocument(
        name=name, step=step or name, toolchain="r", engine="R", engine_version="4.2.2", state=state, reason=reason,
        exit_code=0 if state == "succeeded" else 1 if state == "failed" else None, reused=reused, attempts=attempts,
        started_at="2026-08-01T10:00:00.000000Z", finished_at="2026-08-01T10:00:01.500000Z",
        usage={"wall_seconds": 1.5}, inputs=(), outputs=outputs,
    )  # fmt: skip


def a_run(
    state: str = "succeeded",
    *tasks: TaskDocument,
    reason: Reason | None = None,
    name: str = "trial",
    metrics: dict[str, float | str | bool | None] | None = None,
) -> RunDocument:
    return RunDocument(
        id=RUN, name=name, state=state, reason=reason, project="trial", pipeline="trial", backend="local",
        actor="ada", parameters={"alpha": "0.1"}, environment=(), submitted_at="2026-08-01T10:00:00.000000Z",
        started_at="2026-08-01T10:00:00.000000Z", finished_at="2026-08-01T10:00:02.000000Z",
        metrics=metrics or {}, rerun_of=None, task_count=len(tasks), tasks=tasks,
    )  # fmt: skip


def an_output(name: str = "coef.csv", size: int = 2048) -> OutputDocument:
    return OutputDocument(name=name, kind="table", size=size, sha256="ab" * 32)


def a_failure(fault: Fault = Fault.USER) -> Reason:
    return Reason("error", "Error in lm(y ~ x): object 'y' not found (line 3)", "look at line 3", fault)
