"""From the end of an attempt's last process to its ending in the books: what it left is kept, and told."""

from __future__ import annotations

import sys
import traceback
from functools import partial
from pathlib import Path

from groundplane.agent import collect, outcome, staging
from groundplane.agent.attempts import Attempt, Stage
from groundplane.agent.ledger import Ledger
from groundplane.agent.segments import Segments
from groundplane.agent.snapshots import Snapshots
from groundplane.agent.spares import Spares
from groundplane.agent.threads import Pool


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
        work = partial(collect.collect, self._home, attempt.launch, staged, outcome.succeeded(attempt))
        self._pool.run(work, partial(self._collected, attempt))

    def _collected(self, attempt: Attempt, result: collect.Collected | Exception) -> None:
        del self.collecting[attempt.name]
        if isinstance(result, collect.Collected):
            attempt.reason = attempt.reason or result.reason
            self._note(attempt, result.notes)
            self.over(attempt, result)
            return
        print(f"outputs of {attempt.name} could not be kept:", file=sys.stderr)
        traceback.print_exception(result, file=sys.stderr)
        sys.stderr.flush()
        if outcome.succeeded(attempt):
            attempt.reason = outcome.not_kept(result)
        self.over(attempt, collect.Collected())

    def _note(self, attempt: Attempt, notes: tuple[str, ...]) -> None:
        """Lines of our own at the end of its log."""
        if not notes or attempt.segment is None or attempt.muted:
            return
        self._segments.gather(attempt.segment, outcome.note(attempt, notes))

    def _delete_private(self, attempt: Attempt) -> None:
        """Of one that never began, too: its working copy may have been made ahead."""
        try:
            staging.remove_private(self._home, attempt.launch)
        except OSError as error:
            print(f"secrets of {attempt.name} stay until its cleanup: {error}", file=sys.stderr, flush=True)

    def over(self, attempt: Attempt, collected: collect.Collected) -> None:
        """Tells how it ended, and lets go of what it had."""
        attempt.stage = Stage.OVER
        if attempt.group is not None:
            attempt.group.remove()
        if attempt.launch.private:
            self._delete_private(attempt)
        self._ledger.ended(outcome.observation(attempt, collected))
        if attempt.segment is not None:
            self._segments.release(attempt.segment)
        if attempt.staged is not None and attempt.started_at:
            snapshot = self._snapshots.known(attempt.launch.snapshot)
            if snapshot is not None:
                self._spares.offer(attempt, snapshot)
