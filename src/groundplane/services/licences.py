"""Pools of licence seats: a task whose engine has one takes a seat as it takes its CPUs, and waits while there is none.

The open attempts are the count. Where a pool has a server, what that says of others is subtracted (engine/licences.py
has it asked); a server that does not answer leaves the count to us.
"""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from sqlalchemy import Connection

from groundplane.model.documents import LicenceDocument, SeatDocument
from groundplane.model.errors import GroundError, Invalid, NotFound
from groundplane.model.reasons import Fault, Reason
from groundplane.services import gate, licence_servers
from groundplane.services.access import Actor
from groundplane.services.notices import WORK
from groundplane.services.objects import Resource
from groundplane.services.plans import PlannedEngine, RunPlan
from groundplane.services.platform import Platform, iso
from groundplane.services.visibility import Sight
from groundplane.store import licences
from groundplane.toolchains import registry

NO_SEAT = "no_licence_seat"
FRESH = 10.0
"""Seconds for which a server's count is believed."""
REFUSED = 60.0
"""Seconds for which the engine's own licence manager is believed when it refused a seat that was free by our count."""
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]{0,62}", re.ASCII)
_VARIABLES = ("MLM_LICENSE_FILE", "LM_LICENSE_FILE")
_SHOWN = 6
Sees = Callable[[Any], bool]
"""Whether somebody may be told of a run; of a row with its team, project and actor."""


def name_of(engine: PlannedEngine) -> str:
    """What a pool for this engine is called: `matlab`, or the program of a command."""
    return PurePosixPath(engine.name).name


def is_name(name: str) -> bool:
    """Whether a pool may be called so."""
    return _NAME.fullmatch(name) is not None


# --- what a user does -------------------------------------------------------------------------------------------


def put(platform: Platform, actor: Actor, name: str, seats: int, server: str | None) -> LicenceDocument:
    """Makes a pool or changes it. server: "" for none, None for the one that it has."""
    gate.require(platform, actor, "licence.set", Resource("licence", name))
    if not is_name(name):
        raise Invalid(f"{name!r} is no name of an engine", hint="`ground toolchains list` shows the engines")
    if seats < 0:
        raise Invalid(f"{name}: {seats} seats", hint="write --seats 0 or more")
    if server and not licence_servers.SERVER.fullmatch(server):
        raise Invalid(f"--server {server!r} is no licence server", hint="write it as PORT@HOST, like 27000@licences")
    with gate.change(platform, actor, "licence.set", name, seats=seats, server=server) as connection:
        licences.locked(connection)
        known = licences.get(connection, name)
        kept = known.server if known is not None and server is None else server or None
        licences.put(connection, name, seats, kept)
    platform.notifier.notify(WORK)
    return show(platform, actor, name)


def remove(platform: Platform, actor: Actor, name: str) -> None:
    """Forgets a pool: nothing waits for its seats any more."""
    with gate.change(platform, actor, "licence.remove", name) as connection:
        names = [row.name for row in licences.locked(connection)]
        if not licences.remove(connection, name):
            raise NotFound(f"there is no pool {name!r}", hint=f"the pools are: {', '.join(names) or 'none yet'}")
    platform.notifier.notify(WORK)


def listing(platform: Platform, actor: Actor) -> list[LicenceDocument]:
    """Every pool with the runs that have its seats and that the actor may see. A server whose count is old is asked."""
    gate.require(platform, actor, "licence.see", Resource("licence"))
    with platform.database.read() as connection:
        asked = [row.name for row in licences.listing(connection) if row.server]
    threads = [threading.Thread(target=refresh, args=(platform, name)) for name in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with platform.database.read() as connection:
        at = platform.database.now(connection)
        pools = _pools(connection, licences.listing(connection))
        waiting = licences.waiting(connection, pools)
        holders = _holders(connection, pools)
        sees = Sight(platform, connection, actor).sees
        return [
            _document(pool, list(filter(sees, holders[name])), waiting.get(name, 0), at) for name, pool in pools.items()
        ]


def show(platform: Platform, actor: Actor, name: str) -> LicenceDocument:
    """One pool. Raises NotFound."""
    for pool in listing(platform, actor):
        if pool.name == name:
            return pool
    raise NotFound(f"there is no pool {name!r}", hint="`ground licences list` shows them")


def pool_of(platform: Platform, engine: str) -> tuple[str, int]:
    """Server and seats of the engine's pool; ("", 0) where it has none."""
    with platform.database.read() as connection:
        pool = licences.get(connection, engine)
    return (pool.server or "", pool.seats) if pool is not None else ("", 0)


# --- what is planned --------------------------------------------------------------------------------------------


def check(platform: Platform, plan: RunPlan) -> None:
    """Raises Invalid for a step that could never get a seat."""
    with platform.database.read() as connection:
        empty = {row.name for row in licences.listing(connection) if row.seats == 0}
    for step in plan.pipeline.steps:
        if (name := name_of(plan.engines[step.name])) in empty:
            raise Invalid(
                f"step {step.name!r} needs a seat of {name}, whose pool has none",
                hint=f"ground licences set {name} --seats N, or ground licences remove {name}",
                code="never_fits",
            )


def variables(name: str, server: str | None, known: Mapping[str, str]) -> dict[str, str]:
    """Where the engine finds the licence server of its pool, unless the caller has said it. known: what it gets."""
    if not server or any(variable in known for variable in _VARIABLES):
        return {}
    return {_VARIABLES[0 if name == "matlab" else 1]: server}


# --- who gets a seat --------------------------------------------------------------------------------------------


class Seats:
    """The seats while one transaction lasts, in which nobody else takes any. Nothing is read before it is needed.

    full: pools that have none now. ask: of these and others, those whose server is to be asked.
    """

    def __init__(self, platform: Platform, connection: Connection) -> None:
        self._platform = platform
        self._connection = connection
        self._found: dict[str, _Pool] | None = None
        self._at = 0
        self.full: set[str] = set()
        self.ask: set[str] = set()

    def lock(self) -> None:
        """From now on, not only from the first seat that is asked for."""
        _ = self._pools

    def free(self, name: str) -> bool:
        """Whether the pool has a seat, or is none any more."""
        pool = self._pools.get(name)
        if pool is None:
            return True
        free = pool.free(self._at) > 0
        if pool.row.server and (pool.old(self._at) if free else pool.taken < pool.row.seats):
            self.ask.add(name)
        if not free:
            self.full.add(name)
        return free

    def take(self, name: str) -> bool:
        """Whether there was one; it is taken then."""
        if not self.free(name):
            return False
        if pool := self._pools.get(name):
            pool.taken += 1
        return True

    def why(self, name: str) -> Reason:
        """Why a task of a full pool waits. For the record alone: it names every holder, `waits` those one may see."""
        return _reason(self._pools[name], _holders(self._connection, [name])[name], self._at)

    @property
    def _pools(self) -> dict[str, _Pool]:
        if self._found is None:
            rows = licences.locked(self._connection)
            self._at = self._platform.database.now(self._connection)
            self._found = _pools(self._connection, rows)
        return self._found


def waits(
    platform: Platform, connection: Connection, names: Iterable[str], *, sees: Sees, asking: bool = True
) -> dict[str, Reason]:
    """Pool -> why a task waits for its seat now; what of these names is no pool, or has a seat, is left out. sees: what
    of its holders may be told.

    asking: whether a server whose count is old is being asked; otherwise the old count is taken as it is.
    """
    wanted = set(names)
    rows = [row for row in licences.listing(connection) if row.name in wanted] if wanted else []
    if not rows:
        return {}
    at = platform.database.now(connection)
    full = {name: pool for name, pool in _pools(connection, rows).items() if pool.free(at, asking=asking) <= 0}
    holders = _holders(connection, full)
    return {name: _reason(pool, list(filter(sees, holders[name])), at) for name, pool in full.items()}


def refused(platform: Platform, connection: Connection, names: Collection[str]) -> None:
    """The licence manager gave these no seat: somebody else has it. For a while no more are given than ours were."""
    if not licences.locked(connection):
        return
    at, taken = platform.database.now(connection), licences.taken(connection, names)
    for name in names:
        licences.refused(connection, name, at, taken.get(name, 0))


def refresh(platform: Platform, name: str) -> float:
    """Asks the pool's server; 0 when its count is new now, else the seconds for which the present one is good."""
    with platform.database.read() as connection:
        pool = licences.get(connection, name)
        if pool is None or not pool.server:
            return 0.0
        at = platform.database.now(connection)
        if pool.asked_at is not None and (left := FRESH - (at - pool.asked_at) / 1e6) > 0:
            return left
        ours = licences.taken(connection, [name]).get(name, 0)  # what is claimed from here on may not be on its list
    answer = licence_servers.ask(pool.server, name)
    with platform.database.write() as connection:
        licences.answered(
            connection,
            name,
            pool.server,
            platform.database.now(connection),
            issued=answer.issued,
            others=answer.others(ours),
            error=answer.error or None,
        )
    return 0.0


# --- the count --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Pool:
    """row: of the table. taken: seats of open attempts."""

    row: Any
    taken: int

    @property
    def counted(self) -> bool:
        """Whether the server has said how many there are."""
        return bool(self.row.server) and self.row.asked_at is not None and not self.row.error

    @property
    def others(self) -> int:
        """Seats that others have by the server's word."""
        return self.row.others if self.counted else 0

    @property
    def ceiling(self) -> int:
        """Seats that we and nobody else may have now."""
        if not self.counted or self.row.issued is None:
            return self.row.seats
        return min(self.row.seats, self.row.issued - self.row.others)

    def free(self, at: int, *, asking: bool = True) -> int:
        """Seats that may be given now; none while its server's count is awaited."""
        if asking and self.awaited(at):
            return 0
        ceiling = min(self.ceiling, self.row.granted) if self.held_back(at) else self.ceiling
        return max(0, ceiling - self.taken)

    def old(self, at: int) -> bool:
        """Whether its server's last word is no longer believed."""
        return self.row.asked_at is None or at - self.row.asked_at > FRESH * 1e6

    def awaited(self, at: int) -> bool:
        """Whether its server must be asked first. One that did not answer last time is not waited for again."""
        return bool(self.row.server) and not self.row.error and self.old(at)

    def held_back(self, at: int) -> bool:
        """Whether the licence manager refused a seat lately, and its server has not said since that there is one."""
        since = self.row.refused_at
        if since is None or at - since > REFUSED * 1e6:
            return False
        return not (self.counted and self.row.asked_at > since)


def _pools(connection: Connection, rows: Sequence[Any]) -> dict[str, _Pool]:
    taken = licences.taken(connection, [row.name for row in rows]) if rows else {}
    return {row.name: _Pool(row, taken.get(row.name, 0)) for row in rows}


def _holders(connection: Connection, names: Iterable[str]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {name: [] for name in names}
    for holder in licences.holders(connection, found) if found else ():
        found[holder.licence].append(holder)
    return found


def _reason(pool: _Pool, holders: Sequence[Any], at: int) -> Reason:
    name, seats = pool.row.name, pool.row.seats
    hint = "it starts by itself; `ground licences list` shows who has the seats"
    if seats == 0:
        said, hint = "its pool has none", f"ground licences set {name} --seats N"
    elif pool.taken < seats and pool.awaited(at):
        said = f"{pool.row.server} is being asked"
    else:
        parts = [f"{pool.taken} of {seats} taken{_names(holders, pool.taken)}"] if pool.taken else []
        if pool.ceiling < seats:
            parts.append(f"{pool.row.server} has {pool.row.issued}, {pool.others} of them in use by others")
        if pool.taken < seats and pool.held_back(at):
            parts.append(f"the licence manager refused one{' more' * bool(pool.taken)} at {iso(pool.row.refused_at)}")
            hint = (
                "it is tried again after a minute; --server of `ground licences set` lets the server's own count tell"
            )
        said = "; ".join(parts)
    return Reason(NO_SEAT, f"waits for a seat of {name}: {said}", hint, Fault.BACKEND)


def _names(holders: Sequence[Any], taken: int) -> str:
    """` by run X (step fit), run Y (steps a[0], a[1])`. holders: those that may be named, of so many."""
    by_run: dict[str, list[str]] = defaultdict(list)
    for holder in holders[:_SHOWN]:
        by_run[holder.run_uid].append(holder.task)
    shown = [f"run {run} (step{'s'[: len(tasks) != 1]} {', '.join(tasks)})" for run, tasks in by_run.items()]
    more = taken - min(len(holders), _SHOWN)
    if not shown:
        return ""
    return f" by {', '.join(shown)}" + (f" and {more} more" if more > 0 else "")


def _document(pool: _Pool, holders: Sequence[Any], waiting: int, at: int) -> LicenceDocument:
    row = pool.row
    if not row.server:
        said = ""
    elif row.error:
        said = f"{row.server} was not counted ({row.error}): our own count goes on"
    elif row.issued is None:
        said = f"{row.server} does not count its seats"
    else:
        said = f"{row.server}: {row.issued} issued, {row.others} in use by others"
    return LicenceDocument(
        name=row.name,
        seats=row.seats,
        server=row.server,
        used=pool.taken,
        free=pool.free(at),
        waiting=waiting,
        elsewhere=pool.others,
        asked_at=iso(row.asked_at),
        message=said,
        known=_is_engine(row.name),
        holders=tuple(
            SeatDocument(run=held.run_uid, task=held.task, backend=held.backend, since=iso(held.claimed_at) or "")
            for held in holders
        ),
    )


def _is_engine(name: str) -> bool:
    for toolchain in registry.names():
        try:
            engines = registry.get(toolchain).engines
        except GroundError:  # a broken plugin's
            continue
        if any(spec.name == name for spec in engines):
            return True
    return False
