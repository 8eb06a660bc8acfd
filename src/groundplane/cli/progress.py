"""A pipeline's progress on standard error: a line a step as it ends, and at a terminal one that changes below."""

from __future__ import annotations

import os
from collections import Counter
from typing import TextIO

from groundplane.cli.output import coloured, paint, printable, seconds_between
from groundplane.model.documents import ProgressDocument, TaskDocument
from groundplane.model.quantities import format_duration
from groundplane.model.reasons import Reason
from groundplane.model.states import FINAL

_ACTIVE = ("starting", "running", "stopping")


class Progress:
    """Feed it progress; `clear` before anything else is written, `draw` after."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._tasks: dict[str, TaskDocument] = {}
        self._steps: dict[str, dict[str, TaskDocument]] = {}
        self._told: set[str] = set()
        self._counts: dict[str, int] = {}
        self._drawn = False

    def update(self, progress: ProgressDocument) -> None:
        """Tells what is new."""
        self._counts = dict(progress.counts)
        touched: dict[str, None] = {}
        for task in progress.changed:
            self._tasks[task.name] = task
            self._steps.setdefault(task.step, {})[task.name] = task
            touched[task.step] = None
        lines = [line for step in touched for line in self._lines(step)]
        if lines:
            self.clear()
            self._stream.write("".join(f"{line}\n" for line in lines))
        self.draw()
        self._stream.flush()

    def _lines(self, step: str) -> list[str]:
        """A step's news: that it began (not at a terminal, where it is seen), what it waits for that is no step, what
        failed, that it is done."""
        tasks = list(self._steps[step].values())
        lines: list[str] = []
        if all(task.state in FINAL for task in tasks):
            if step not in self._told:
                self._told.add(step)
                lines.append(_ended(step, tasks, self._stream))
            return lines
        self._told.discard(step)  # a task that is tried again has ended only now
        started = f"{step}/started"
        if not self._live and started not in self._told and any(task.state in _ACTIVE for task in tasks):
            self._told.add(started)
            lines.append(f"{step}  running" if len(tasks) == 1 else f"{step}  {len(tasks)} tasks running")
        reason = next((task.waiting for task in tasks if task.waiting is not None), None)
        # Once, not with every change of who is before it: at a terminal that shows below.
        if reason is not None and f"{step}/{reason.code}" not in self._told:
            self._told.add(f"{step}/{reason.code}")
            lines.append(f"{step}  {printable(reason.message)}")
            lines += _hint(reason)
        return lines

    def draw(self) -> None:
        """The changing line, at a terminal."""
        if not self._live or not self._counts:
            return
        running = [task.name for task in self._tasks.values() if task.state in _ACTIVE]
        done = sum(count for state, count in self._counts.items() if state in FINAL)
        text = f"{done}/{self._counts.get('total', 0)} tasks"
        if running:
            text += f"  {', '.join(running[:4])}" + (f" and {len(running) - 4} more" if len(running) > 4 else "")
        for task in self._tasks.values():
            if task.waiting is not None:
                text += f"  {task.name} {printable(task.waiting.message)}"
                break
        width = max(20, _width(self._stream) - 1)
        shown = text if len(text) <= width else text[: width - 1] + "…"
        self.clear()
        self._stream.write(f"\x1b[2m{shown}\x1b[0m" if coloured(self._stream) else shown)
        self._stream.flush()
        self._drawn = True

    def clear(self) -> None:
        """Takes the changing line away."""
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._drawn = False


class Waiting:
    """What work waits for before it can start, where nothing else of its progress is told: of a lone script a line
    whenever that is another thing, of a pipeline's step one for each kind."""

    def __init__(self, stream: TextIO, *, lone: bool) -> None:
        self._stream = stream
        self._lone = lone
        self._told: dict[str, str] = {}
        self._kinds: set[tuple[str, str]] = set()

    def update(self, progress: ProgressDocument) -> None:
        """Tells it, when it is new."""
        for task in progress.changed:
            reason = task.waiting
            if reason is None:
                continue
            kind = (task.step, reason.code)
            known, fresh = self._told.get(task.step), kind not in self._kinds
            if fresh or (self._lone and reason.message != known):
                self._told[task.step] = reason.message
                self._kinds.add(kind)
                text = printable(reason.message)
                lines = [text if self._lone else f"{task.step}  {text}", *(_hint(reason) if fresh else ())]
                print("\n".join(lines), file=self._stream, flush=True)


def _hint(reason: Reason) -> list[str]:
    return [f"hint: {printable(reason.hint)}"] if reason.hint else []


def _ended(step: str, tasks: list[TaskDocument], stream: TextIO) -> str:
    """`clean  succeeded  1.2 s`, `score  3 tasks succeeded  4.0 s`, `model  failed  exit status 1`."""
    states = Counter(task.state for task in tasks)
    worst = next((s for s in ("failed", "lost", "cancelled") if s in states), "succeeded")
    what = paint(worst, stream)
    if len(tasks) > 1:
        what = ", ".join(f"{count} {paint(state, stream)}" for state, count in states.items())
    spans = [seconds_between(task.started_at, task.finished_at) for task in tasks]
    spent = [span for span in spans if span is not None]
    if all(task.reused for task in tasks):
        tail = "reused"
    elif len(tasks) == 1 and tasks[0].reason is not None and worst != "succeeded":
        tail = printable(tasks[0].reason.message)
    else:
        tail = format_duration(max(spent)) if spent else ""
    return f"{step}  {what}  {tail}".rstrip()


def _width(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except OSError:
        return 80
