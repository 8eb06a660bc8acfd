"""Erasure: a person's key is deleted, and with it what past events tell of that person; every other place where the
person is named calls it by one name that stands for nobody."""

from __future__ import annotations

import secrets

from groundplane.model.errors import Conflict, NotFound
from groundplane.services import gate
from groundplane.services.access import Actor
from groundplane.services.audit.people import FORGET
from groundplane.services.objects import Resource
from groundplane.services.platform import Platform
from groundplane.services.users import FORGOTTEN
from groundplane.store import audit, people, users


def forget(platform: Platform, actor: Actor, name: str) -> None:
    """Nobody can read any more what sealed fields of past events say of that person; the log stays whole. The account
    is gone, and runs, decisions, policies and secrets name `forgotten-…` instead.

    A later event of that name begins with a new key. Raises NotFound when nothing tells of such a person, Conflict for
    one whose account is enabled, Unavailable when the database's files could not be freed of what they held.
    """
    gate.require(platform, actor, "audit.forget", Resource("audit"))
    with platform.database.read() as connection:
        uids = audit.uids_of(connection, name)
        account = users.by_name(connection, name)
        named = people.is_named(connection, name)
    if not uids and not named:
        raise NotFound(f"nothing here tells of a person {name!r}", hint="ground audit list shows the newest events")
    if account is not None and account.disabled_at is None:
        raise Conflict(
            f"the account {name!r} is enabled, and would be gone with all that it was given",
            hint=f"ground users disable {name}",
        )
    instead = FORGOTTEN + secrets.token_hex(6)
    object_ = uids[0] if uids else instead
    with gate.change(platform, actor, FORGET, object_, people=list(uids)) as connection:
        audit.forget_person(connection, name)
        people.rename(connection, name, instead)
    platform.database.scrub()
