"""Inputs that have to be converted: what the converter's process is told, and what it answers."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundplane.agent.staging import prepare_place
from groundplane.model.reasons import Fault, Reason
from groundplane.spi import layout
from groundplane.spi.launch import Launch, StageIn


@dataclass(frozen=True, slots=True)
class Files:
    """The converter's three streams, in the attempt's support folder."""

    stdin: str
    stdout: str
    stderr: str


def wanted(launch: Launch) -> list[StageIn]:
    """The inputs to convert."""
    return [each for each in launch.inputs if each.source_name]


def command() -> list[str]:
    """The converter, in an interpreter like this one."""
    return [sys.executable, "-I", "-m", "groundplane.data"]


def files(home: Path, attempt: str) -> Files:
    """Where the converter's streams lie."""
    base = str(layout.support(home, attempt) / ".conversion")
    return Files(f"{base}.in", f"{base}.out", f"{base}.err")


def prepare(home: Path, launch: Launch) -> None:
    """Makes the targets' places and writes the request."""
    tree = str(layout.tree(home, launch.attempt))
    request = [
        {"source": each.source, "source_name": each.source_name, "target": prepare_place(tree, each.path)}
        for each in wanted(launch)
    ]
    document = json.dumps({"conversions": request}).encode()
    Path(files(home, launch.attempt).stdin).write_bytes(document)


def answer(home: Path, launch: Launch, status: int) -> tuple[dict[str, tuple[str, ...]], Reason | None]:
    """What was lost by input path, and why it failed (None when it did not)."""
    lost: dict[str, tuple[str, ...]] = {}
    where = files(home, launch.attempt)
    names = {str(layout.tree(home, launch.attempt) / each.path): each for each in wanted(launch)}
    try:
        answers: list[dict[str, Any]] = json.loads(Path(where.stdout).read_bytes())["conversions"]
    except (OSError, ValueError, KeyError, TypeError):
        return lost, _crashed(list(names.values()), status, _last_line(where.stderr))
    told: set[str] = set()
    for item in answers:
        each = names.get(item.get("target", ""))
        if each is None:
            continue
        told.add(item["target"])
        if error := item.get("error"):
            return lost, Reason(error["code"], error["message"], error.get("hint", ""))
        if item.get("lost"):
            lost[each.path] = tuple(str(part) for part in item["lost"])
    silent = [each for target, each in names.items() if target not in told]
    if silent or status != 0:
        return lost, _crashed(silent or list(names.values()), status, _last_line(where.stderr))
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


def _last_line(path: str) -> str:
    try:
        lines = Path(path).read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""
