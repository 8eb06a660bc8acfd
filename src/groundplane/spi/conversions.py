"""Tables converted at a step's edge, in a process of their own: what it is asked, and what its answer means."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from groundplane.model.reasons import Fault, Reason
from groundplane.spi.launch import StageIn

CONVERTER = "groundplane.data"
"""The program: it reads a request and writes an answer."""
Losses = dict[str, tuple[str, ...]]
"""Input path -> what its conversion lost."""


def wanted(inputs: Sequence[StageIn]) -> list[StageIn]:
    """The inputs to convert."""
    return [each for each in inputs if each.source_name]


def request(targets: Mapping[str, StageIn]) -> bytes:
    """targets: where each input is to be written, an absolute path."""
    asked = [
        {"source": each.source, "source_name": each.source_name, "target": target} for target, each in targets.items()
    ]
    return json.dumps({"conversions": asked}).encode()


def answer(
    targets: Mapping[str, StageIn], text: bytes | None, status: int, stderr: str
) -> tuple[Losses, Reason | None]:
    """What was lost, and why it failed (None when it did not). targets: as asked for. text: what it wrote, None when
    that cannot be read. status: as `subprocess` tells it. stderr: what it said of a crash."""
    lost: Losses = {}
    lines = stderr.strip().splitlines()
    last = lines[-1] if lines else ""
    try:
        answers = _answers(text or b"")
    except (ValueError, LookupError, TypeError, RecursionError):
        return lost, _crashed(list(targets.values()), status, last)
    told: set[str] = set()
    for target, error, sentences in answers:
        each = targets.get(target)
        if each is None:
            continue
        told.add(target)
        if error is not None:
            return lost, error
        if sentences:
            lost[each.path] = sentences
    silent = [each for target, each in targets.items() if target not in told]
    if silent or status != 0:
        return lost, _crashed(silent or list(targets.values()), status, last)
    return lost, None


def _answers(text: bytes) -> list[tuple[str, Reason | None, tuple[str, ...]]]:
    """Target, why it failed, what was lost. Raises for what is none: who wrote it may have been taken over by what it
    read."""
    found: list[tuple[str, Reason | None, tuple[str, ...]]] = []
    answers: list[Mapping[str, Any]] = list(json.loads(text)["conversions"])
    for item in answers:
        target, error = str(item["target"]), item.get("error")
        reason = Reason(str(error["code"]), str(error["message"]), str(error["hint"])) if error else None
        found.append((target, reason, tuple(str(part) for part in item.get("lost", ()))))
    return found


def _crashed(inputs: list[StageIn], status: int, last: str) -> Reason:
    ended = f"signal {-status}" if status < 0 else f"exit code {status}"
    names = ", ".join(f"{each.source_name} to {each.path}" for each in inputs)
    return Reason(
        "conversion_failed",
        f"converting {names} crashed ({ended})" + (f": {last}" if last else ""),
        "check that the file is whole; give the step the file as it is, without a conversion",
        Fault.USER,
    )
