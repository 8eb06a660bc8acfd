"""The audit log: events, the order that the log gives them, and people's keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Executable, bindparam, delete, func, insert, select, text, update

from groundplane.store import upserts
from groundplane.store.audit_tables import audit_log, events, people

_ONE = 1
_IS_WAITING = text("number IS NULL")  # in the words of its partial index
_ENTER = (
    update(events)
    .where(events.c.id == bindparam("event"))
    .values(number=bindparam("place"), hash=bindparam("hashed"), mark=bindparam("marked"))
)


def add(connection: Connection, row: Mapping[str, Any]) -> None:
    """One fact that waits for its place in the log: uid at action outcome person leaf mark."""
    connection.execute(insert(events), row)


def some_wait(connection: Connection) -> bool:
    """Whether there are committed events without a place."""
    return connection.execute(select(events.c.id).where(_IS_WAITING).limit(1)).first() is not None


def waiting(connection: Connection, above: int, limit: int) -> Sequence[Any]:
    """Committed events without a place, as they were written, from behind that `id` on: id uid leaf mark."""
    query = select(events.c.id, events.c.uid, events.c.leaf, events.c.mark).where(_IS_WAITING, events.c.id > above)
    return connection.execute(query.order_by(events.c.id).limit(limit)).all()


def oldest_waiting(connection: Connection) -> tuple[int, int | None]:
    """How many wait for their place, and since when the first does."""
    row = connection.execute(select(func.count(), func.min(events.c.at)).where(_IS_WAITING)).one()
    return row[0], row[1]


def enter(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Gives events their place: event (its id) place hashed marked."""
    connection.execute(_ENTER, rows)


def numbered(connection: Connection, start: int, limit: int) -> Sequence[Any]:
    """Entries of the log from that number on: number uid leaf hash mark at action outcome person."""
    return connection.execute(_entries(start, limit)).all()


def entries(connection: Connection, start: int, limit: int) -> Sequence[Any]:
    """The same for who reads all of them: as the driver gives them, at two thirds of the cost."""
    cursor: Any = connection.execute(_entries(start, limit)).cursor
    return cursor.fetchall()


def page(
    connection: Connection, after: Any | None, limit: int, *, action: str | None, outcome: str | None,
    people: Sequence[str] | None,
) -> Sequence[Any]:  # fmt: skip
    """Newest first, from behind that row on: id number uid leaf hash. First those that wait for their place, then in
    the order of the log. Those whose leaf retention has dropped are left out."""
    query = select(events).where(events.c.leaf.is_not(None))
    if action is not None:
        query = query.where(events.c.action == action)
    if outcome is not None:
        query = query.where(events.c.outcome == outcome)
    if people is not None:
        query = query.where(events.c.person.in_(people))
    waiting = query.where(_IS_WAITING).order_by(events.c.id.desc())
    placed = query.where(events.c.number.is_not(None)).order_by(events.c.number.desc())
    found: list[Any] = []
    if after is not None and after.number is not None:
        placed = placed.where(events.c.number < after.number)
    else:
        if after is not None:
            waiting = waiting.where(events.c.id < after.id)
        found += connection.execute(waiting.limit(limit)).all()
    if len(found) < limit:
        found += connection.execute(placed.limit(limit - len(found))).all()
    return found


def by_uid(connection: Connection, uid: str) -> Any | None:
    """The event of that id."""
    return connection.execute(select(events).where(events.c.uid == uid)).first()


def by_number(connection: Connection, number: int) -> Any | None:
    """The event at that place of the log."""
    return connection.execute(select(events).where(events.c.number == number)).first()


# --- the log ----------------------------------------------------------------------------------------------------------


def log(connection: Connection) -> Any | None:
    """The log's state; None before the first event entered it."""
    return connection.execute(select(audit_log)).first()


def locked(connection: Connection, origin: str) -> Any:
    """The log's state, made if need be, so that nobody else adds to it before this transaction has ended."""
    query = select(audit_log).with_for_update()
    found = connection.execute(query).first()
    if found is None:
        row = {
            "id": _ONE,
            "origin": origin,
            "size": 0,
            "peaks": b"",
            "note": "",
            "holder": "",
            "expires_at": 0,
            "pushed_size": 0,
        }
        upserts.keep(connection, audit_log, row)
        found = connection.execute(query).one()
    return found


def grow(connection: Connection, size: int, peaks: bytes, note: str) -> None:
    """The log's new state. The caller has it `locked`."""
    connection.execute(update(audit_log).values(size=size, peaks=peaks, note=note))


def hold(connection: Connection, holder: str, until: int) -> None:
    """That control plane puts events into the log, until then. The caller has it `locked`."""
    connection.execute(update(audit_log).values(holder=holder, expires_at=until))


def let_go(connection: Connection, holder: str) -> None:
    """That control plane ends: another one need not wait."""
    connection.execute(update(audit_log).where(audit_log.c.holder == holder).values(expires_at=0))


def pushed(connection: Connection, size: int, at: int) -> None:
    """The witness has the checkpoint of that size."""
    connection.execute(update(audit_log).values(pushed_size=size, pushed_at=at, push_error=None))


def not_pushed(connection: Connection, error: str) -> None:
    """The witness did not take it."""
    connection.execute(update(audit_log).values(push_error=error))


# --- retention --------------------------------------------------------------------------------------------------------


def first_since(connection: Connection, at: int, below: int) -> int:
    """The number of the first entry that is not older; `below` when all before that number are."""
    query = select(func.min(events.c.number)).where(events.c.at >= at, events.c.number < below)
    found = connection.execute(query).scalar_one()
    return below if found is None else found


def first_whole(connection: Connection) -> int | None:
    """The number of the first entry whose leaf is there; None when no entry has one."""
    query = select(func.min(events.c.number)).where(events.c.leaf.is_not(None))
    return connection.execute(query).scalar_one()


def drop_leaves(connection: Connection, start: int, end: int) -> None:
    """Entries of numbers from `start` to below `end` keep their hash alone."""
    entries = (events.c.number >= start) & (events.c.number < end)
    connection.execute(update(events).where(entries).values(leaf=None, person=None))


# --- people -----------------------------------------------------------------------------------------------------------


def person(connection: Connection, name: str, under: str) -> Any | None:
    """The person's key under that home's: uid sealed."""
    query = select(people.c.uid, people.c.sealed).where(people.c.name == name, people.c.under == under)
    return connection.execute(query).first()


def people_of(connection: Connection, uids: Sequence[str]) -> Sequence[Any]:
    """The keys of those people who are not forgotten: name under uid sealed."""
    return connection.execute(select(people).where(people.c.uid.in_(uids))).all()


def everybody(connection: Connection) -> Sequence[Any]:
    """Everybody's keys: name under uid sealed."""
    return connection.execute(select(people)).all()


def uids_of(connection: Connection, name: str) -> Sequence[str]:
    """What stands for the person in events."""
    return connection.execute(select(people.c.uid).where(people.c.name == name).order_by(people.c.uid)).scalars().all()


def add_person(connection: Connection, name: str, under: str, uid: str, sealed: bytes) -> None:
    """A key for the person, unless there is one."""
    upserts.keep(connection, people, {"name": name, "under": under, "uid": uid, "sealed": sealed})


def forget_person(connection: Connection, name: str) -> None:
    """Deletes the person's keys."""
    connection.execute(delete(people).where(people.c.name == name))


def _entries(start: int, limit: int) -> Executable:
    query = select(
        events.c.number, events.c.uid, events.c.leaf, events.c.hash, events.c.mark,
        events.c.at, events.c.action, events.c.outcome, events.c.person,
    )  # fmt: skip
    return query.where(events.c.number >= start).order_by(events.c.number).limit(limit)
