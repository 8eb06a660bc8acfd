"""Why a run, task or attempt is as it is, in words that a user can act on."""

from __future__ import annotations

from dataclasses import dataclass

from groundplane.model.faults import Fault

__all__ = ["Fault", "Reason"]


@dataclass(frozen=True, slots=True)
class Reason:
    """A stable `code`, what happened, what to do about it, and whose fault it was.

    Codes in use: error, timeout, out_of_memory, missing_output, unkept_output, missing_engine, missing_input,
    unreadable_table, conversion_failed, conversion_refused, input_changed, cancelled, upstream_failed, lost, no_space,
    start_failed, no_licence_seat, quota_exceeded, staging_failed, result_not_stored, result_too_large,
    sidecar_restarted, missing_secret, missing_connection, query_failed, connection_failed.
    """

    code: str
    message: str
    hint: str = ""
    fault: Fault = Fault.USER
