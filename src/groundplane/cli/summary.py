"""How a run ended, for eyes and for the shell: tree, metrics, outputs, what to type next, exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from groundplane.cli.output import padded_to, paint, printable, seconds_between, shell_quoted, short, width
from groundplane.model.documents import RunDocument, TaskDocument
from groundplane.model.quantities import format_duration, format_size
from groundplane.model.reasons import Fault, Reason

_SHOWN = 8


def exit_code(run: RunDocument, interrupted: int = 0) -> int:
    """0 done; 1 the work failed; 3 platform or backend failed it; 128 + signal when the user cancelled it."""
    if run.state == "succeeded":
        return 0
    if interrupted and run.state in ("cancelled", "stopping"):
        return interrupted
    reason = _cause(run)[1]
    return 1 if reason is None or reason.fault == Fault.USER else 3


def ending(run: RunDocument, *, lone: bool, files: Sequence[Path] | None, brief: bool, target: str = "") -> None:
    """What stands on standard error at a run's end. files: where --out put them. brief: only a failure.

    target: what the user typed behind `ground run`.
    """
    stream = sys.stderr
    if not brief:
        if not lone:
            tree(run, stream)
        _metrics(run, stream)
        _outputs(run, stream, lone=lone, files=files)
        _losses(run, stream)
    if run.state != "succeeded":
        _failure(run, stream, lone=lone, target=target)


def tree(run: RunDocument, stream: TextIO) -> None:
    """The run and its steps."""
    span = seconds_between(run.started_at, run.finished_at)
    took = f"  {format_duration(span)}" if span is not None else ""
    print(f"{printable(run.name)}  {paint(run.state, stream)}{took}  {short(run.id)}", file=stream)
    steps: dict[str, list[TaskDocument]] = {}
    for task in run.tasks:
        steps.setdefault(printable(task.step), []).append(task)
    columns = max(map(width, steps), default=0)
    marks = ("├─", "└─", "│ ") if (stream.encoding or "").lower().startswith("utf") else ("|-", "`-", "| ")
    for number, (step, tasks) in enumerate(steps.items()):
        last = number == len(steps) - 1
        print(f"{marks[last]} {padded_to(step, columns)}  {_step(tasks, stream)}", file=stream)
        waiting = _waiting(tasks)
        if waiting is not None and waiting.hint:
            print(f"{'  ' if last else marks[2]} {' ' * columns}  hint: {printable(waiting.hint)}", file=stream)


def _step(tasks: list[TaskDocument], stream: TextIO) -> str:
    states: dict[str, int] = {}
    for task in tasks:
        states[task.state] = states.get(task.state, 0) + 1
    if len(tasks) == 1:
        state = paint(tasks[0].state, stream)
    else:
        state = ", ".join(f"{count} {paint(name, stream)}" for name, count in states.items())
    spans = [s for t in tasks if (s := seconds_between(t.started_at, t.finished_at)) is not None]
    engine = f"{tasks[0].engine} {tasks[0].engine_version}".strip()
    waiting = _waiting(tasks)
    parts = [
        state,
        "reused" if all(t.reused for t in tasks) else format_duration(max(spans)) if spans else "",
        engine,
        f"{sum(t.attempts for t in tasks)} attempts" if any(t.attempts > 1 for t in tasks) else "",
        _names([o.name for t in tasks[:_SHOWN] for o in t.outputs]),
        printable(waiting.message) if waiting is not None else "",
    ]
    return "  ".join(filter(None, parts))


def _waiting(tasks: list[TaskDocument]) -> Reason | None:
    """What the first of them that waits waits for."""
    return next((task.waiting for task in tasks if task.waiting is not None), None)


def _names(names: list[str]) -> str:
    found = list(dict.fromkeys(names))
    return printable(", ".join(found[:4])) + (f" and {len(found) - 4} more" if len(found) > 4 else "")


def _metrics(run: RunDocument, stream: TextIO) -> None:
    if run.metrics:
        values = ", ".join(
            f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in run.metrics.items()
        )
        print(f"metrics: {printable(values)}", file=stream)


def _outputs(run: RunDocument, stream: TextIO, *, lone: bool, files: Sequence[Path] | None) -> None:
    """The new files and how to get them."""
    if files is not None:
        if files:
            shown = ", ".join(printable(str(file)) for file in files[:_SHOWN])
            print(f"{_count(len(files))}: {shown}{_more(len(files))}", file=stream)
        return
    found = [(task, out) for task in run.tasks for out in task.outputs]
    if not found:
        return
    shown = [
        f"{printable(out.name if lone else f'{task.name}/{out.name}')} ({format_size(out.size)})"
        for task, out in found[:_SHOWN]
    ]
    print(f"{_count(len(found))}: {', '.join(shown)}{_more(len(found))}", file=stream)
    task, out = found[0] if lone else found[-1]
    name, target = f"{task.name}/{out.name}", out.name.rpartition("/")[2]
    print(f"get one: ground artifacts get {short(run.id)} {shell_quoted(name)} -o {shell_quoted(target)}", file=stream)


def _count(number: int) -> str:
    return "1 new file" if number == 1 else f"{number} new files"


def _more(number: int) -> str:
    return f" and {number - _SHOWN} more" if number > _SHOWN else ""


def _losses(run: RunDocument, stream: TextIO) -> None:
    """What conversions could not keep: at what was converted, or at the input where no task made that."""
    told: list[str] = []
    for task in run.tasks:
        told += [f"{task.name}: {out.name}: {sentence}" for out in task.outputs for sentence in out.lost]
    made = tuple(told)
    for task in run.tasks:
        for part in task.inputs:
            told += [
                f"{task.name}: {part.name}: {sentence}"
                for sentence in part.lost
                if not any(note.endswith(f"{part.name} for {task.step}: {sentence}") for note in made)
            ]
    for note in told:
        print(f"note: {printable(note)}", file=stream)


def _failure(run: RunDocument, stream: TextIO, *, lone: bool, target: str) -> None:
    called = printable(run.name)
    if run.state == "cancelled":
        print(f"error: {called} was cancelled", file=stream)
        way = "runs it again" if lone else "--failed goes on from there"
        print(f"hint: ground runs rerun {short(run.id)} {way}", file=stream)
        return
    task, reason = _cause(run)
    name = called if task is None or lone else f"task {printable(task.name)}"
    message = printable(reason.message, lines=True) if reason is not None else "it gave no reason"
    hint = printable(reason.hint, lines=True) if reason is not None else ""
    print(f"error: {name} {'was lost' if run.state == 'lost' else 'failed'}: {message}", file=stream)
    if hint:
        print(f"hint: {hint}", file=stream)
    if not lone and task is not None and not hint:
        print(f"hint: ground runs logs {short(run.id)} --task {shell_quoted(task.name)}", file=stream)
    if reason is not None and reason.fault != Fault.USER:
        print(f"go on from there: ground runs rerun {short(run.id)}{'' if lone else ' --failed'}", file=stream)
    elif not lone:
        # Not a rerun: that takes the files as they were, without what will have been mended.
        again = f"ground run {shell_quoted(target)}" if target else "ground run"
        print(f"mend it, then {again} again: what did not change is reused", file=stream)


def _cause(run: RunDocument) -> tuple[TaskDocument | None, Reason | None]:
    """The first task that failed by itself, with why; the run's own reason when no task tells."""
    for task in run.tasks:
        if task.state in ("failed", "lost") and task.reason is not None:
            return task, task.reason
    return None, run.reason
