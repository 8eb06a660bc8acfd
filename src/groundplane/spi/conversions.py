"""Tables converted at a step's edge, in a process of their own: what it is asked, and what its answer means."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from groundplane.model.reasons import Fault, Reason
from groundplane.spi import confining
from groundplane.spi.launch import StageIn

Losses = dict[str, tuple[str, ...]]
"""Input path -> what its conversion lost."""


def wanted(inputs: Sequence[StageIn]) -> list[StageIn]:
    """The inputs to convert."""
    return [each for each in inputs if each.source_name]


def command() -> list[str]:
    """The converter, in an interpreter like this one: it reads a request and writes an answer."""
    return [sys.executable, "-I", "-m", "groundplane.data"]


def confined(given: str, made: str, home: str) -> list[str]:
    """The same for tables of strangers: all that it can reach is `given`, which it reads, and the folder `made`, which
    it may write to. Confined by bubblewrap, and where a host forbids that, by itself. Raises OSError where it cannot be
    either."""
    if not _no_bubblewrap():
        return confining.reader(command(), given, made, home)[1]
    if why := _not_by_itself():
        raise OSError(errno.EPERM, f"what reads the tables of strangers cannot be confined: {why}")
    return [*command(), "--enclosed", given, made]


def unconfined() -> str:
    """Why tables of strangers cannot be read here; "" when they can."""
    without = _no_bubblewrap()
    unable = without and _not_by_itself()
    return f"{without}, and {unable}" if unable else ""


@cache
def _no_bubblewrap() -> str:
    return confining.unavailable()


def _not_by_itself() -> str:
    from groundplane.spi import enclosing  # with `ctypes` some ms, that a host with bubblewrap need not spend

    return enclosing.unavailable()


def enclose(given: str, made: str) -> None:
    """What the converter does first when it was started to confine itself. Raises OSError."""
    from groundplane.spi import enclosing

    system = ("/usr", "/lib", "/lib64", "/etc/localtime", "/sys/devices/system/cpu", "/dev/null", "/dev/urandom")
    seen = [path for path in system if Path(path).exists()]
    enclosing.enclose((*seen, *confining.interpreter(), given), made)


def environment(**more: str) -> dict[str, str]:
    """What it is started with: nothing of the platform's own but what its interpreter may need."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "TZ") if name in os.environ}
    return {**kept, "PATH": os.defpath, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", **more}


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
