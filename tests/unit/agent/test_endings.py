"""Whose fault it is that outputs could not be kept."""

from __future__ import annotations

import errno

import pytest

from groundplane.agent.outcome import not_kept


@pytest.mark.parametrize(
    ("error", "code", "fault"),
    [
        (OSError(errno.ENOSPC, "full", "x"), "no_space", "platform"),
        (OSError(errno.EIO, "input/output error"), "start_failed", "platform"),
        (PermissionError(errno.EACCES, "permission denied", "x"), "unkept_output", "user"),
        (RecursionError("too deep"), "unkept_output", "user"),
    ],
)
def test_only_what_passes_is_the_platforms(error: Exception, code: str, fault: str) -> None:
    reason = not_kept(error)
    assert (reason.code, reason.fault) == (code, fault)
    assert "could not be kept" in reason.message
