"""Tables converted at a step's edge, in a process of their own: what it is asked, and what its answer means."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from groundplane.model.reasons import Fault, Reason
from groundplane.spi.launch import StageIn

Losses = dict[str, tuple[str, ...]]
"""Input path -> what its conversion lost."""


def wanted(inputs: Sequence[StageIn]) -> list[StageIn]:
    """The inputs to convert."""
    return [each for each in inputs if each.source_name]


def command() -> list[str]:
    """The converter, in an interpreter like this one: it reads a request and writes an answer."""
    return [sys.executable, "-I", "-m", "groundplane.data"]


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
        answers: list[dict[str, Any]] = json.loads(text or b"")["conversions"]
    except (ValueError, KeyError, TypeError):
        return lost, _crashed(list(targets.values()), status, last)
    told: set[str] = set()
    for item in answers:
        each = targets.get(item.get("target", ""))
        if each is None:
            continue
        told.add(item["target"])
        if error := item.get("error"):
            return lost, Reason(error["code"], error["message"], error.get("hint", ""))
        if item.get("lost"):
            lost[each.path] = tuple(str(part) for part in item["lost"])
    silent = [each for target, each in targets.items() if target not in told]
    if silent or status != 0:
        return lost, _crashed(silent or list(targets.values()), status, last)
    return lost, None


def _crashed(inputs: list[StageIn], status: int, last: str) -> Reason:
    ended = f"signal {-status}" if status < 0 else f"exit code {status}"
    names = ", ".join(f"{each.source_name} to {each.path}" for each in inputs)
    return Reason(
        "conversion_failed",
        f"converting {names} crashed ({ended})" + (f": {last}" if last else ""),
        "check that the file is whole; give the step the file as it is, without a conversion",
        Fault.USER,
    )
