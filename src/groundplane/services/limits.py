"""What a task takes beside its place on a backend, all or nothing: a licence seat, and its part of each quota."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection

from groundplane.model.reasons import Reason
from groundplane.services import licences, shares
from groundplane.services.platform import Platform
from groundplane.services.shares import Shares
from groundplane.store import tasks

QUOTAS = "*"
"""Stands among the names of pools for all quotas: no engine is called so."""


class Limits:
    """Seats and quotas while one transaction lasts, in which nobody else takes any.

    Nothing is read before it is needed, and where there are quotas those and the pools are locked before anything else
    is: so two control planes wait for each other in one order only. rows: as `store.tasks.claimable` gives them.
    """

    def __init__(self, platform: Platform, connection: Connection) -> None:
        self._connection = connection
        self._seats = licences.Seats(platform, connection)
        self._shares: Shares | None = None
        self._begun: dict[int, int] = {}  # run -> the task that it began with
        self._lacking: dict[Reason | str, list[int]] = {}

    @property
    def ask(self) -> set[str]:
        """Pools whose server is to be asked."""
        return self._seats.ask

    @property
    def full(self) -> set[str]:
        """Pools that have no seat now."""
        return self._seats.full

    @property
    def beyond(self) -> list[ColumnElement[bool]]:
        """Of tasks that wait for what quotas have no more of."""
        return self._shares.beyond() if self._shares is not None else []

    def look(self, rows: Sequence[Any]) -> set[str]:
        """Locks what these rows may need; names of it."""
        if rows and rows[0].quotas and self._shares is None:
            self._seats.lock()
            self._shares = shares.load(self._connection, lock=True)
        return {row.pool for row in rows if row.pool is not None} | ({QUOTAS} if self._shares is not None else set())

    def holds_back(self, row: Any) -> bool:
        """Whether the row is known to wait, and still has to."""
        if row.waiting is None:
            return False
        if row.pool is not None and not self._seats.free(row.pool):
            return True
        lack = self._lack(row)
        if lack is not None:
            lack[0].full = True
        return lack is not None

    def may_begin(self, row: Any) -> bool:
        """Whether its run has begun, or may: it has then. Otherwise it waits."""
        if self._shares is None or not self._begins(row):
            return True
        lack = self._shares.lack(_NOTHING, row.project, row.team, begins=True)
        if lack is None:
            self._shares.begin(row.project, row.team)
            self._begun[row.run_id] = row.id
            return True
        lack[0].full = True
        self._lacking.setdefault(lack[0].why(lack[1]), []).append(row.id)
        return False

    def take(self, row: Any) -> bool:
        """Whether there is all that it needs; it is taken then. Otherwise it waits, and its run has not begun by it."""
        if self._take(row):
            return True
        if self._shares is not None and self._begun.get(row.run_id) == row.id:
            del self._begun[row.run_id]
            self._shares.begin(row.project, row.team, -1)
        return False

    def _take(self, row: Any) -> bool:
        lack = self._lack(row)
        if lack is not None:
            self._lacking.setdefault(lack[0].why(lack[1]), []).append(row.id)
            lack[0].full = True
            return False
        if row.pool is not None and not self._seats.take(row.pool):
            self._lacking.setdefault(row.pool, []).append(row.id)
            return False
        if self._shares is not None:
            self._shares.take(row, row.project, row.team)
        return True

    def note(self) -> None:
        """Writes why those wait that have to since the last time."""
        for why, ids in self._lacking.items():
            tasks.set_waiting(self._connection, ids, self._seats.why(why) if isinstance(why, str) else why)
        self._lacking.clear()

    def _lack(self, row: Any) -> tuple[shares.Quota, int] | None:
        if self._shares is None:
            return None
        return self._shares.lack(row, row.project, row.team, begins=self._begins(row))

    def _begins(self, row: Any) -> bool:
        return row.run_state == "queued" and row.run_id not in self._begun


_NOTHING = shares.Asked(0, 0, "")
