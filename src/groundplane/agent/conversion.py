"""Inputs that have to be converted: where the converter's streams lie, and what it made of them.

Tables of strangers are read by a confined converter: it sees them alone, as links in a folder of their own, and writes
to another, from which the agent takes what was asked for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from groundplane.agent import overlay
from groundplane.agent.places import delete_tree
from groundplane.agent.staging import give, prepare_place
from groundplane.model.reasons import Reason
from groundplane.spi import confining, conversions, layout, readers
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


def prepare(home: Path, launch: Launch) -> list[str]:
    """Makes the targets' places and writes the request; what starts the converter. Raises OSError."""
    tree = str(layout.tree(home, launch.attempt))
    for each in conversions.wanted(launch.inputs):
        prepare_place(tree, each.path)
    argv = readers.command(conversions.CONVERTER)
    targets = _targets(home, launch)
    if launch.strange:
        given, made = _given(home, launch), _made(home, launch)
        os.mkdir(given, 0o755)
        for each, original in zip(targets.values(), conversions.wanted(launch.inputs), strict=True):
            overlay.link_or_copy(Path(original.source), Path(each.source))
        os.mkdir(made, 0o700)
        for target in targets:
            os.mkdir(os.path.dirname(target), 0o700)
        argv = readers.confined(conversions.CONVERTER, [given], made, str(home))
    Path(files(home, launch.attempt).stdin).write_bytes(conversions.request(targets))
    return argv


def place(home: Path, launch: Launch) -> dict[str, str]:
    """Puts what was made where it belongs; path in the working copy -> absolute. Raises OSError."""
    tree = str(layout.tree(home, launch.attempt))
    placed: dict[str, str] = {}
    for target, each in _targets(home, launch).items():
        placed[each.path] = path = f"{tree}/{each.path}"
        if launch.strange:
            _take(target, path)
        give(launch, path)
    return placed


def forget(home: Path, launch: Launch) -> None:
    """Deletes what a confined converter saw and left, once it has ended by itself. Raises OSError."""
    if launch.strange:
        delete_tree(_given(home, launch))
        delete_tree(_made(home, launch))


def answer(home: Path, launch: Launch, status: int) -> tuple[conversions.Losses, Reason | None]:
    """What was lost by input path, and why it failed (None when it did not)."""
    where = files(home, launch.attempt)
    try:
        text: bytes | None = Path(where.stdout).read_bytes()
    except OSError:
        text = None
    return conversions.answer(_targets(home, launch), text, status, _text(where.stderr))


def _targets(home: Path, launch: Launch) -> Mapping[str, StageIn]:
    """What the converter is asked for: where it is to write -> what it reads, from where it sees that."""
    wanted = conversions.wanted(launch.inputs)
    if not launch.strange:
        tree = str(layout.tree(home, launch.attempt))
        return {f"{tree}/{each.path}": each for each in wanted}
    given, made = _given(home, launch), _made(home, launch)
    return {
        f"{made}/{number}/{os.path.basename(each.path)}": replace(each, source=f"{given}/{number}")
        for number, each in enumerate(wanted)
    }


def _take(target: str, path: str) -> None:
    """Moves what a confined converter made. It may have put a link in the place of a file or of its folder."""
    folder = os.open(os.path.dirname(target), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.rename(os.path.basename(target), path, src_dir_fd=folder)
    finally:
        os.close(folder)
    file = confining.taken(path)
    try:
        if os.geteuid() == 0:
            os.fchown(file, 0, 0)
        os.fchmod(file, 0o644)
    finally:
        os.close(file)


def _given(home: Path, launch: Launch) -> str:
    return str(layout.attempt(home, launch.attempt) / "given")


def _made(home: Path, launch: Launch) -> str:
    """On the working copy's own file system, which may be an overlay: what is made only gets another name."""
    return str(layout.tree(home, launch.attempt) / f".{launch.attempt}.made")


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
