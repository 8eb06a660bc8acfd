"""Inputs that have to be converted: where the converter's streams lie, and what it made of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from groundplane.agent.staging import prepare_place
from groundplane.model.reasons import Reason
from groundplane.spi import conversions, layout
from groundplane.spi.launch import Launch, StageIn


@dataclass(frozen=True, slots=True)
class Files:
    """The converter's three streams, in the attempt's support folder."""

    stdin: str
    stdout: str
    stderr: str


def files(home: Path, attempt: str) -> Files:
    """Where the converter's streams lie."""
    base = str(layout.support(home, attempt) / ".conversion")
    return Files(f"{base}.in", f"{base}.out", f"{base}.err")


def prepare(home: Path, launch: Launch) -> None:
    """Makes the targets' places and writes the request."""
    targets = _targets(home, launch)
    tree = str(layout.tree(home, launch.attempt))
    for each in targets.values():
        prepare_place(tree, each.path)
    Path(files(home, launch.attempt).stdin).write_bytes(conversions.request(targets))


def answer(home: Path, launch: Launch, status: int) -> tuple[conversions.Losses, Reason | None]:
    """What was lost by input path, and why it failed (None when it did not)."""
    where = files(home, launch.attempt)
    try:
        text: bytes | None = Path(where.stdout).read_bytes()
    except OSError:
        text = None
    return conversions.answer(_targets(home, launch), text, status, _text(where.stderr))


def _targets(home: Path, launch: Launch) -> dict[str, StageIn]:
    tree = str(layout.tree(home, launch.attempt))
    return {f"{tree}/{each.path}": each for each in conversions.wanted(launch.inputs)}


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
