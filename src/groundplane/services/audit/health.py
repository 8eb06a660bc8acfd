"""How the log is doing, for `ground status` and `ground doctor`."""

from __future__ import annotations

from groundplane.model.documents import AuditDocument, Finding
from groundplane.services.audit import verifying, witness
from groundplane.services.platform import Platform, iso
from groundplane.store import audit


def show(platform: Platform) -> AuditDocument:
    """The log's size, its witness, and what is wrong with either."""
    with platform.database.read() as connection:
        state = audit.log(connection)
        waiting, _ = audit.oldest_waiting(connection)
    problem = verifying.stalled_since(platform)
    if state is not None and state.push_error and not problem:
        since = f", the last time at {iso(state.pushed_at)}" if state.pushed_at else ""
        problem = f"{state.push_error} (it has {state.pushed_size} of {state.size} events{since})"
    return AuditDocument(
        events=waiting + (0 if state is None else state.size),
        witness=witness.where(platform),
        pushed=0 if state is None else state.pushed_size,
        pushed_at=None if state is None else iso(state.pushed_at),
        problem=problem,
    )


def finding(platform: Platform) -> Finding:
    """What `doctor` says of it."""
    found = show(platform)
    if found.problem:
        return Finding("audit log", "error", found.problem, "control.log says more; `ground audit verify` looks at all")
    beside = "" if platform.audit_witness else ", beside the database: GROUND_AUDIT_WITNESS names a place elsewhere"
    return Finding("audit log", "ok", f"{found.events} events, checkpoints are kept in {found.witness}{beside}")
