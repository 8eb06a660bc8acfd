"""Attempts whose process only stands for work that runs elsewhere, such as in a container."""

from __future__ import annotations

import signal
from pathlib import Path

from groundplane.agent.attempts import Attempt
from groundplane.model.reasons import Fault, Reason
from groundplane.spi import layout, wire
from groundplane.spi.launch import Verdict

AT_ONCE = signal.SIGUSR1
"""Tells a proxy that the grace is over; SIGTERM has told it that the work shall end."""
EXTRA_GRACE = 10.0
"""Seconds that a proxy has, beyond the work's own grace, to end what it stands for and to say how that ended."""


def settle(home: Path, attempt: Attempt) -> None:
    """At its proxy's end: the work's own ending is the attempt's."""
    if not attempt.started_at:
        return
    try:
        verdict = wire.decode(Verdict, wire.parse(layout.verdict(home, attempt.name).read_bytes()))
    except (OSError, ValueError) as error:
        text = f"the process that followed it ended without a word ({type(error).__name__})"
        attempt.reason = attempt.reason or Reason(
            "lost", text, "it is run again by itself, unless the step says rerun = false", Fault.PLATFORM
        )
        attempt.status = None
        return
    code = verdict.exit_code
    attempt.status = 128 - code if code is not None and 128 < code < 160 else code
    attempt.cpu, attempt.peak = verdict.cpu, verdict.memory
    attempt.reason = attempt.reason or verdict.reason
