"""What every service works on."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from groundplane.model.errors import GroundError, NotFound, Unavailable
from groundplane.model.ids import new_id
from groundplane.model.version import VERSION
from groundplane.services.cedar import InForce
from groundplane.services.login_rules import LoginRules
from groundplane.services.notices import Notifier
from groundplane.spi.driver import Driver
from groundplane.store.database import Database

_LARGEST_FLOOR = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Unloaded:
    """A backend that was added and cannot be used here: its driver's name, and why."""

    driver: str
    why: GroundError


@dataclass(slots=True)
class Platform:
    """One control plane: its home folder, database, drivers by backend name. `holder` names it in leases.

    `unloaded` are backends without a driver here, by name: their work waits. `in_force`: the policies, parsed. `stop`
    asks the process to end, with its agents when `end_agents`. audit_witness: where checkpoints of the audit log are
    kept, "" for beside the database. audit_retention: days for which its events are kept whole, None for ever.
    """

    home: Path
    database: Database
    drivers: Mapping[str, Driver]
    unloaded: Mapping[str, Unloaded] = field(default_factory=dict[str, Unloaded])
    url: str | None = None
    logins: LoginRules = field(default_factory=LoginRules)
    stop: Callable[[], None] = lambda: None
    end_agents: bool = False
    audit_witness: str = ""
    audit_retention: float | None = None
    notifier: Notifier = field(default_factory=Notifier)
    in_force: InForce = field(default_factory=InForce)
    holder: str = field(default_factory=new_id)
    version: str = VERSION
    started_at: int = field(default_factory=lambda: time.time_ns() // 1000)
    pid: int = field(default_factory=os.getpid)

    def driver(self, backend: str) -> Driver:
        """The backend's driver. Raises NotFound that lists the backends, and Unavailable for one that has none here."""
        if found := self.drivers.get(backend):
            return found
        if lost := self.unloaded.get(backend):
            why = f"backend {backend!r} cannot be used: {lost.why.message}"
            raise Unavailable(why, hint=lost.why.hint, code="backend_unavailable")
        raise NotFound(f"there is no backend {backend!r}", hint=f"the backends are: {', '.join(self.drivers)}")

    def require_space(self) -> None:
        """Raises Unavailable `no_space` while the disk under the home has too little left for new work."""
        usage = shutil.disk_usage(self.home)
        floor = min(_LARGEST_FLOOR, usage.total // 50)
        if usage.free < floor:
            raise Unavailable(
                f"the disk that holds {self.home} is full ({usage.free >> 20} MiB left): no new work starts",
                hint="make space there; queued work goes on by itself",
                code="no_space",
            )


def now() -> int:
    """µs UTC by this host's clock."""
    return time.time_ns() // 1000


def iso(at: int | None) -> str | None:
    """µs UTC as RFC 3339 text."""
    if at is None:
        return None
    seconds, micros = divmod(at, 1_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{micros:06d}Z"
