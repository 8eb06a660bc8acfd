"""The one gate: every change that an actor makes passes here, may be refused here, and leaves its event here."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection

from groundplane.model.errors import Denied
from groundplane.services.access import Actor
from groundplane.services.platform import Platform, now
from groundplane.store import events


@contextmanager
def change(platform: Platform, actor: Actor, action: str, object_: str, **facts: Any) -> Generator[Connection]:
    """A write transaction in which the actor does `action` to `object_`; the event commits with the change.

    Raises Denied when a veto says so; the denial is an event too.
    """
    try:
        for veto in platform.vetoes:
            veto(actor.name, action, object_)
    except Denied as denial:
        with platform.database.write() as connection:
            _record(connection, actor, action, object_, "denied", {**facts, "reason": denial.message})
        raise
    with platform.database.write() as connection:
        yield connection
        _record(connection, actor, action, object_, "done", facts)


def _record(
    connection: Connection, actor: Actor, action: str, object_: str, outcome: str, facts: dict[str, Any]
) -> None:
    body = json.dumps(facts, sort_keys=True)
    events.add(connection, at=now(), actor=actor.name, action=action, object_=object_, outcome=outcome, body=body)
