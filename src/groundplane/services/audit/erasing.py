"""Erasure: a person's key is deleted, and with it what past events tell of that person."""

from __future__ import annotations

from groundplane.model.errors import NotFound
from groundplane.services import gate
from groundplane.services.access import Actor
from groundplane.services.objects import Resource
from groundplane.services.platform import Platform
from groundplane.store import audit


def forget(platform: Platform, actor: Actor, name: str) -> None:
    """Nobody can read any more what sealed fields of past events say of that person; the log stays whole.

    A later event of that name begins with a new key. Raises NotFound when no event tells of such a person.
    """
    gate.require(platform, actor, "audit.forget", Resource("audit"))
    with platform.database.read() as connection:
        uids = audit.uids_of(connection, name)
    if not uids:
        raise NotFound(f"no event of the audit log tells of a person {name!r}", hint="ground audit list shows them")
    with gate.change(platform, actor, "audit.forget", uids[0], people=list(uids)) as connection:
        audit.forget_person(connection, name)
