"""The states of a run, a task and an attempt, and which may follow which."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """`queued starting running stopping`, then one of `succeeded failed cancelled lost`."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.LOST})
OPEN = frozenset(set(State) - FINAL)

_NEXT: dict[State, frozenset[State]] = {
    # A task goes back to queued when it is tried again; whatever is open may end at once (a reused task
    # succeeds from queued, a refused one fails from starting).
    State.QUEUED: frozenset({State.STARTING, *FINAL}),
    State.STARTING: frozenset({State.RUNNING, State.STOPPING, State.QUEUED, *FINAL}),
    State.RUNNING: frozenset({State.STOPPING, State.QUEUED, *FINAL}),
    State.STOPPING: frozenset({State.QUEUED, *FINAL}),
}


def may_follow(before: State, after: State) -> bool:
    """Whether `after` is a legal successor of `before`; nothing follows a final state."""
    return after in _NEXT.get(before, frozenset())
