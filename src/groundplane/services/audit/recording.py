"""An event comes to be, in the transaction of what it tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from sqlalchemy import Connection

from groundplane.model.canonical import canonical
from groundplane.model.ids import new_id
from groundplane.services.access import Actor
from groundplane.services.audit.people import Person, Private, Sealing
from groundplane.services.audit.signing import written
from groundplane.services.platform import Platform, iso, now
from groundplane.store import audit

RECORDED = "audit"
"""The topic that is notified when there are new events."""

_SAFE_INTEGER = 2**53
_NO_PLACE = ("", "socket")


def record(
    platform: Platform,
    connection: Connection,
    actor: Actor,
    action: str,
    object_: str,
    outcome: str = "done",
    facts: Mapping[str, Any] | None = None,
) -> str:
    """Writes the event into the caller's write transaction; its id.

    object_, and any text in `facts`: a `Person` where it names one, `Private` where it tells of the actor; it is sealed
    then. facts: what JSON can say;
    numbers that are not whole become text, and so does whatever else there is.
    """
    uid, at = new_id(), now()
    sealing = Sealing(platform.home, connection, uid)
    name, source, person = _clean(actor.name), _clean(actor.source), None
    plain = _Plain(sealing, None if actor.kind == "platform" else name)
    if actor.kind != "platform":
        person = sealing.uid(name)
        source = source if source in _NO_PLACE else sealing.seal(name, "source", source)
        name = sealing.seal(name, "actor", name)
    by = {"kind": actor.kind, **({"credential": actor.credential} if actor.credential else {})}
    leaf = {
        "id": uid,
        "time": iso(at),
        "actor": name,
        "source": source,
        "action": action,
        "object": plain.of("object", object_),
        "outcome": outcome,
        "details": {**plain.of("details", facts or {}), "actor": by},
    }
    data = canonical(leaf)
    row = {"uid": uid, "at": at, "action": action, "outcome": outcome, "person": person}
    audit.add(connection, {**row, "leaf": data.decode(), "mark": written(platform.home, data)})
    platform.notifier.notify(RECORDED, local=True)
    return uid


def tell(platform: Platform, actor: Actor, action: str, object_: str, outcome: str = "done", /, **facts: Any) -> str:
    """The event alone, in a transaction of its own: a read of labelled data, a login, an attempt that was denied."""
    with platform.database.write() as connection:
        return record(platform, connection, actor, action, object_, outcome, facts)


class _Plain:
    """Values as RFC 8785 takes them, what tells of people sealed. actor: whose key seals what is private."""

    def __init__(self, sealing: Sealing, actor: str | None) -> None:
        self._sealing, self._actor = sealing, actor

    def of(self, place: str, value: Any) -> Any:
        if isinstance(value, str):
            text = _clean(value)
            owner = text if isinstance(value, Person) else self._actor if isinstance(value, Private) else None
            return text if owner is None else self._sealing.seal(owner, place, text)
        if value is None or isinstance(value, bool) or (isinstance(value, int) and abs(value) <= _SAFE_INTEGER):
            return value
        if isinstance(value, Mapping):
            items = cast("Mapping[Any, Any]", value)
            return {_clean(str(name)): self.of(f"{place}.{name}", part) for name, part in items.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            several = cast("Iterable[Any]", value)
            parts = sorted(several) if isinstance(value, (set, frozenset)) else list(several)
            return [self.of(f"{place}.{index}", part) for index, part in enumerate(parts)]
        return _clean(str(value))


def _clean(text: str) -> str:
    """As a plain text that any database takes: bytes of a file name that are no UTF-8 become `\\xff`."""
    text = str(text)  # and no subclass
    if text.isascii() and "\0" not in text:
        return text
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace").replace("\0", "\\x00")
