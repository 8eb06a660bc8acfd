"""What has changed in a run since a follower last looked. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from groundplane.model.documents import ProgressDocument, RunDocument, TaskDocument
from groundplane.model.states import FINAL


class Seen:
    """The states that a follower knows."""

    def __init__(self) -> None:
        self._tasks: dict[str, tuple[str, int, str]] = {}
        self._state = ""

    def update(self, run: RunDocument) -> ProgressDocument | None:
        """What is new, or None."""
        changed = [task for task in run.tasks if self._tasks.get(task.name) != _state(task)]
        if not changed and run.state == self._state:
            return None
        self._state = run.state
        self._tasks.update((task.name, _state(task)) for task in changed)
        counts = Counter(state for state, *_ in self._tasks.values())
        return ProgressDocument(
            state=run.state,
            counts={"total": len(run.tasks), **counts},
            changed=tuple(
                replace(task, inputs=()) if task.state in FINAL else replace(task, inputs=(), outputs=())
                for task in changed
            ),
        )


def _state(task: TaskDocument) -> tuple[str, int, str]:
    return task.state, task.attempts, task.waiting.message if task.waiting else ""
