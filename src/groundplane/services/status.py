"""The control plane itself: what it is, and its end."""

from __future__ import annotations

import logging
import time

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from groundplane.model.documents import StatusDocument
from groundplane.services import gate, visibility
from groundplane.services import runs as run_service
from groundplane.services.access import PLATFORM, Actor
from groundplane.services.audit import health
from groundplane.services.objects import Resource
from groundplane.services.platform import Platform, iso
from groundplane.spi.driver import CanStop
from groundplane.store import runs

log = logging.getLogger(__name__)

_PATIENCE = 10.0
_POLL = 0.05


def show(platform: Platform, actor: Actor) -> StatusDocument:
    """What runs here; where it keeps what, for those who run it alone."""
    gate.require(platform, actor, "status.see", Resource("status"))
    with platform.database.read() as connection:
        sight = visibility.Sight(platform, connection, actor)
        count = sum(map(sight.sees, runs.open_runs(connection)))
        whole = gate.decide(platform, connection, actor, "control_plane.see", Resource("control_plane")).allowed
    local = platform.drivers.get("local")
    return StatusDocument(
        version=platform.version,
        url=platform.url,
        pid=platform.pid,
        agent_pid=local.pid() if whole and isinstance(local, CanStop) else None,
        database=platform.database.shown_url if whole else "",
        home=str(platform.home) if whole else "",
        started_at=iso(platform.started_at) or "",
        open_runs=count,
        audit=health.show(platform) if whole else None,
    )


def is_idle(platform: Platform) -> bool:
    """Whether there is no work; False while that cannot be known."""
    try:
        with platform.database.read() as connection:
            return runs.count_open(connection) == 0
    except DBAPIError:
        return False


def stop(platform: Platform, actor: Actor, end_work: bool) -> None:
    """Ends the control plane. Running work runs on, unless `end_work` ends it and its agents too.

    A database that fails does not keep it from ending: the work then ends with its agents.
    """
    try:
        with gate.change(platform, actor, "control_plane.stop", platform.holder, end_work=end_work):
            pass
        if end_work:
            _cancel_all(platform)
    except SQLAlchemyError:
        log.exception("ending although the database fails")
    if end_work:
        platform.end_agents = True
    platform.stop()


def _cancel_all(platform: Platform) -> None:
    with platform.database.read() as connection:
        open_runs = [row.uid for row in runs.open_runs(connection)]
    for uid in open_runs:
        run_service.cancel(platform, PLATFORM, uid)
    deadline = time.monotonic() + _PATIENCE
    while not is_idle(platform) and time.monotonic() < deadline:
        time.sleep(_POLL)


def end_agents(platform: Platform) -> None:
    """The last thing that a control plane does when its work was to end too: nobody is left to start them again."""
    for driver in platform.drivers.values():
        if isinstance(driver, CanStop):
            driver.shutdown(end_work=True)
