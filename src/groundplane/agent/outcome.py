"""How an attempt ended, in the words of an Observation: the same for each agent that runs work."""

from __future__ import annotations

import errno
import os
import time

from groundplane.agent.attempts import Attempt
from groundplane.agent.capture import Redactor
from groundplane.agent.collect import Collected
from groundplane.agent.journal import FULL
from groundplane.model.quantities import format_duration
from groundplane.model.reasons import Fault, Reason
from groundplane.spi import segments as records
from groundplane.spi.launch import Observation, Phase, Usage

#: What may be otherwise the next time, without anybody's doing.
_PASSING = frozenset({*FULL, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR})
_MOST_TOLD = 400  # letters: a path can have thousands


def succeeded(attempt: Attempt) -> bool:
    """Whether its outputs count."""
    if attempt.status != 0 or attempt.reason is not None:
        return False
    return not attempt.launch.command.sentinel or attempt.streams[0].filter.seen


def observation(attempt: Attempt, collected: Collected) -> Observation:
    """What is told of one that is over."""
    status, streams = attempt.status, attempt.streams
    hide = Redactor(attempt.launch.redact)
    return Observation(
        attempt=attempt.name,
        phase=Phase.ENDED,
        at=max(time.time_ns() // 1000, attempt.started_at),
        epoch=attempt.epoch,
        started_at=attempt.started_at,
        exit_code=None if status is None else status if status >= 0 else 128 - status,
        signal=-status if status is not None and status < 0 else None,
        sentinel=bool(streams) and streams[0].filter.seen,
        stdout=streams[0].tail() if streams else "",
        stderr=streams[1].tail() if streams else "",
        report=hide.text(collected.report),
        outputs=collected.outputs,
        missing=collected.missing,
        changed=collected.changed,
        lost={path: tuple(map(hide.text, lost)) for path, lost in attempt.lost.items()},
        usage=Usage(
            wall=round(attempt.exited - attempt.begun, 6) if attempt.begun else 0.0,
            cpu=round(attempt.cpu, 6),
            memory=attempt.peak,
        ),
        reason=_without_secrets(attempt.reason, hide),
    )


def _without_secrets(reason: Reason | None, hide: Redactor) -> Reason | None:
    if reason is None or not hide.active:
        return reason
    return Reason(reason.code, hide.text(reason.message), hide.text(reason.hint), reason.fault)


def note(attempt: Attempt, notes: tuple[str, ...]) -> bytes:
    """A record of the attempt's log with lines of our own."""
    text = "".join(f"groundplane: {each}\n" for each in notes)
    data = Redactor(attempt.launch.redact).clean(text.encode(errors="surrogateescape"), last=True)[0]
    at = time.time_ns() // 1000
    return records.encode(records.Record(attempt.launch.task, attempt.name, 1, at, data[: records.MAX_DATA]))


def timed_out(limit: float) -> Reason:
    """limit: seconds."""
    text = f"it ran longer than its limit of {format_duration(limit)}"
    return Reason("timeout", text, "raise the timeout or do less")


def reason_of(error: OSError) -> Reason:
    """Why the platform could not do its part."""
    name = f" ({os.fsdecode(error.filename)})" if error.filename else ""
    if error.errno in FULL:
        return Reason("no_space", f"the disk is full{name}", "free some space, then run it again", Fault.PLATFORM)
    return Reason("start_failed", f"{error.strerror or error}{name}", "see the agent's log", Fault.PLATFORM)


def not_kept(error: Exception) -> Reason:
    """What would be so again is the work's own fault: it is not run again for it."""
    if isinstance(error, OSError):
        reason = reason_of(error)
        if error.errno in _PASSING:
            return Reason(reason.code, f"its outputs could not be kept: {reason.message}", reason.hint, reason.fault)
        told = reason.message if len(reason.message) <= _MOST_TOLD else f"{reason.message[:_MOST_TOLD]}…"
        hint = "outputs are plain files that their owner may read"
        return Reason("unkept_output", f"it ended well, but its outputs could not be kept: {told}", hint)
    return Reason(
        "unkept_output",
        f"it ended well, but its outputs could not be kept: {type(error).__name__}: {error}",
        "see agent/agent.log in GROUND_HOME",
        Fault.USER,
    )
