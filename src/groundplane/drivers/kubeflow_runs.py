"""What a KFP run's JSON says of one of its tasks. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

FINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"})
_ITERATION = re.compile(r"\((\d+):.*\)$")


@dataclass(frozen=True, slots=True)
class Seen:
    """A task as KFP tells it. started, ended: µs UTC, 0 for not yet. pods: where its log may be, the likeliest first.
    outputs: artifact's name -> ids."""

    state: str
    started: int
    ended: int
    message: str
    pods: tuple[str, ...]
    outputs: Mapping[str, Sequence[str]]

    @property
    def ended_badly(self) -> bool:
        return self.state in ("FAILED", "CANCELED")


class Untold(Exception):
    """KFP has the task of a fan-out, but does not say which of them is which."""


def seen(run: Mapping[str, Any], task: str, item: int | None) -> Seen | None:
    """The task; None while KFP has not begun it. item: which one of a fan-out. Raises Untold.

    A task within a loop is told apart by what it lies in: the engine below KFP names the iterations `NAME(0:VALUE)`.
    """
    details: list[Mapping[str, Any]] = part(run, "run_details").get("task_details") or []
    found = [each for each in details if _name(each) == task]
    if item is not None and found:
        above = _parents(details)
        numbers = {str(each.get("task_id", "")): _iteration(each, above) for each in found}
        if all(number is None for number in numbers.values()):
            raise Untold
        found = [each for each in found if numbers[str(each.get("task_id", ""))] == item]
    if not found:
        return None
    newest = max(found, key=lambda each: str(each.get("create_time", "")))
    children: list[Mapping[str, Any]] = newest.get("child_tasks") or []
    pods = [newest.get("pod_name", ""), *(child.get("pod_name", "") for child in children)]
    outputs = part(newest, "outputs")
    return Seen(
        state=str(newest.get("state", "")),
        started=_micros(newest.get("start_time")),
        ended=_micros(newest.get("end_time")),
        message=str(part(newest, "error").get("message", "")),
        pods=tuple(dict.fromkeys(filter(None, pods))),
        outputs={name: _ids(part(outputs, name)) for name in outputs},
    )


def part(body: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object within the object; an empty one where there is none."""
    return body.get(key) or {}


def _ids(artifacts: Mapping[str, Any]) -> list[str]:
    found: list[Any] = artifacts.get("artifact_ids") or []
    return list(map(str, found))


def _name(detail: Mapping[str, Any]) -> str:
    return _ITERATION.sub("", str(detail.get("display_name", "")))


def _parents(details: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Task id -> what it lies in, by either way that KFP tells it."""
    by_id = {str(each.get("task_id", "")): each for each in details}
    found: dict[str, Mapping[str, Any]] = {}
    for each in details:
        children: list[Mapping[str, Any]] = each.get("child_tasks") or []
        for child in children:
            if child.get("task_id"):
                found[str(child["task_id"])] = each
        if each.get("parent_task_id") in by_id:
            found[str(each.get("task_id", ""))] = by_id[each["parent_task_id"]]
    return found


def _iteration(detail: Mapping[str, Any], above: Mapping[str, Mapping[str, Any]]) -> int | None:
    at: Mapping[str, Any] | None = detail
    passed: set[str] = set()
    while at is not None and str(at.get("task_id", "")) not in passed:
        if hit := _ITERATION.search(str(at.get("display_name", ""))):
            return int(hit[1])
        passed.add(str(at.get("task_id", "")))
        at = above.get(str(at.get("task_id", "")))
    return None


def _micros(text: Any) -> int:
    """An RFC 3339 time. 0 for none: KFP has 1970 for times that have not come."""
    if not text:
        return 0
    try:
        return max(0, round(datetime.fromisoformat(str(text)).timestamp() * 1_000_000))
    except ValueError:
        return 0
