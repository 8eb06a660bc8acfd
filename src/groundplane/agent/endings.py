"""From the end of an attempt's last process to its ending in the books: what it left is kept, and told."""

from __future__ import annotations

import errno
import sys
import time
import traceback
from functools import partial
from pathlib import Path

from groundplane.agent import collect
from groundplane.agent.attempts import Attempt, Stage
from groundplane.agent.capture import Redactor
from groundplane.agent.journal import FULL
from groundplane.agent.ledger import Ledger
from groundplane.agent.running import reason_of
from groundplane.agent.segments import Segments
from groundplane.agent.snapshots import Snapshots
from groundplane.agent.spares import Spares
from groundplane.agent.threads import Pool
from groundplane.model.reasons import Fault, Reason
from groundplane.spi import segments as records
from groundplane.spi.launch import Observation, Phase, Usage

#: What may be otherwise the next time, without anybody's doing.
_PASSING = frozenset({*FULL, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR})
_MOST_TOLD = 400  # letters: a path can have thousands


class Endings:
    """On the loop's thread but for what it gives to the pool."""

    def __init__(
        self, home: Path, pool: Pool, segments: Segments, snapshots: Snapshots, spares: Spares, ledger: Ledger
    ) -> None:
        self._home = home
        self._pool = pool
        self._segments = segments
        self._snapshots = snapshots
        self._spares = spares
        self._ledger = ledger
        self.collecting: dict[str, Attempt] = {}

    def begin(self, attempt: Attempt) -> None:
        """Nothing of its tree is left."""
        staged = attempt.staged
        if staged is None or attempt.started_at == 0 or collect.is_trivial(attempt.launch, staged):
            self.over(attempt, collect.Collected())
            return
        self.collecting[attempt.name] = attempt
        work = partial(collect.collect, self._home, attempt.launch, staged, _succeeded(attempt))
        self._pool.run(work, partial(self._collected, attempt))

    def _collected(self, attempt: Attempt, outcome: collect.Collected | Exception) -> None:
        del self.collecting[attempt.name]
        if isinstance(outcome, collect.Collected):
            attempt.reason = attempt.reason or outcome.reason
            self._note(attempt, outcome.notes)
            self.over(attempt, outcome)
            return
        print(f"outputs of {attempt.name} could not be kept:", file=sys.stderr)
        traceback.print_exception(outcome, file=sys.stderr)
        sys.stderr.flush()
        if _succeeded(attempt):
            attempt.reason = _not_kept(outcome)
        self.over(attempt, collect.Collected())

    def _note(self, attempt: Attempt, notes: tuple[str, ...]) -> None:
        """Lines of our own at the end of its log."""
        if not notes or attempt.segment is None or attempt.muted:
            return
        text = "".join(f"groundplane: {note}\n" for note in notes)
        data = Redactor(attempt.launch.redact).clean(text.encode(errors="surrogateescape"), last=True)[0]
        at = time.time_ns() // 1000
        record = records.Record(attempt.launch.task, attempt.name, 1, at, data[: records.MAX_DATA])
        self._segments.gather(attempt.segment, records.encode(record))

    def over(self, attempt: Attempt, collected: collect.Collected) -> None:
        """Tells how it ended, and lets go of what it had."""
        attempt.stage = Stage.OVER
        if attempt.group is not None:
            attempt.group.remove()
        status, streams = attempt.status, attempt.streams
        told = Observation(
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
            report=collected.report,
            outputs=collected.outputs,
            missing=collected.missing,
            changed=collected.changed,
            lost=attempt.lost,
            usage=Usage(
                wall=round(attempt.exited - attempt.begun, 6) if attempt.begun else 0.0,
                cpu=round(attempt.cpu, 6),
                memory=attempt.peak,
            ),
            reason=attempt.reason,
        )
        self._ledger.ended(told)
        if attempt.segment is not None:
            self._segments.release(attempt.segment)
        if attempt.staged is not None and attempt.started_at:
            snapshot = self._snapshots.known(attempt.launch.snapshot)
            if snapshot is not None:
                self._spares.offer(attempt, snapshot)


def _succeeded(attempt: Attempt) -> bool:
    if attempt.status != 0 or attempt.reason is not None:
        return False
    return not attempt.launch.command.sentinel or attempt.streams[0].filter.seen


def _not_kept(error: Exception) -> Reason:
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
