"""Who follows which attempts. A control plane holds its attempts until its own row expires; others of the same site
then take them over, one epoch up."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from groundplane.services.platform import Platform
from groundplane.store import attempts

DURATION = 15.0
"""Seconds that a lease lasts without being renewed."""
DEADLINE = DURATION / 2 - 1
"""Seconds within which a launch must have been accepted: below half the lease."""


def enter(platform: Platform, site: str) -> None:
    """This control plane appears; on SQLite it is the only one, so all others are gone."""
    with platform.database.write() as connection:
        at = platform.database.now(connection)
        attempts.register(connection, platform.holder, site, os.getpid(), at, at + round(DURATION * 1e6))
        if platform.database.sqlite:
            attempts.expire_others(connection, platform.holder)
        attempts.adopt(connection, platform.holder, site, at)
        attempts.forget_gone(connection, at)


def renew(platform: Platform, site: str) -> bool:
    """Prolongs this one's lease, and adopts the attempts of those that let theirs expire; whether any did."""
    with platform.database.write() as connection:
        at = platform.database.now(connection)
        until = at + round(DURATION * 1e6)
        if not attempts.renew(connection, platform.holder, until):
            attempts.register(connection, platform.holder, site, os.getpid(), at, until)
        adopted = attempts.adopt(connection, platform.holder, site, at)
        return bool(attempts.forget_gone(connection, at) + adopted)


def leave(platform: Platform) -> None:
    """This control plane ends in good order; the next one need not wait."""
    with platform.database.write() as connection:
        attempts.leave(connection, platform.holder)


def held(platform: Platform) -> Sequence[Any]:
    """Every open attempt that this control plane follows."""
    with platform.database.read() as connection:
        return attempts.all_held(connection, platform.holder)
