"""Events enter the log: each gets the next number, and the new head is signed."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from groundplane.model.errors import Unavailable
from groundplane.model.merkle import Tree, leaf_hash
from groundplane.services import gate
from groundplane.services.access import Actor
from groundplane.services.audit.signing import Signer, signer, written
from groundplane.services.objects import Resource
from groundplane.services.platform import Platform
from groundplane.store import audit

LEASE = 5.0
"""Seconds for which the control plane that last put events into the log goes on to do so."""
_BATCH = 1000


def integrate(platform: Platform, *, in_turn: bool = False) -> int:
    """Puts every committed event into the log; how many. One transaction at a time does so, on any control plane.

    in_turn: leaves it to the control plane that has the lease, and takes the lease when nobody has it.
    Raises Unavailable when the log's state is not the one that was signed last, or signed with another key.
    """
    entered = 0
    while some_wait(platform):
        with platform.database.write() as connection:
            count = _integrate(platform, connection, in_turn)
        entered += count
        if count < _BATCH:
            break
    return entered


def leave(platform: Platform) -> None:
    """This control plane ends; another one need not wait for its lease."""
    with platform.database.write() as connection:
        audit.let_go(connection, platform.holder)


def head(platform: Platform, actor: Actor) -> str:
    """The log's checkpoint, now."""
    gate.require(platform, actor, "audit.checkpoint", Resource("audit"))
    integrate(platform)
    mine = signer(platform.home)
    with platform.database.read() as connection:
        state = audit.log(connection)
        if state is None:
            return mine.sign(0, Tree().root())
        _signed(mine, connection, state)
    return state.note


def key(platform: Platform, actor: Actor) -> str:
    """The C2SP verifier key."""
    gate.require(platform, actor, "audit.key", Resource("audit"))
    return signer(platform.home).verifier_key


def some_wait(platform: Platform) -> bool:
    """Whether there are events that are not in the log yet."""
    with platform.database.read() as connection:
        return audit.some_wait(connection)


def forged(platform: Platform) -> str | None:
    """The id of the first event that waits for a place and will have none: no control plane wrote it so."""
    above = 0
    while True:
        with platform.database.read() as connection:
            rows = audit.waiting(connection, above, _BATCH)
        for row in rows:
            if row.mark != written(platform.home, (row.leaf or "").encode()):
                return row.uid
        if len(rows) < _BATCH:
            return None
        above = rows[-1].id


def _integrate(platform: Platform, connection: Connection, in_turn: bool) -> int:
    mine = signer(platform.home)
    state = audit.locked(connection, mine.origin)
    if in_turn:
        at = platform.database.now(connection)
        if state.holder != platform.holder and state.expires_at > at:
            return 0
        audit.hold(connection, platform.holder, at + round(LEASE * 1e6))
    tree = _signed(mine, connection, state)
    if audit.by_number(connection, tree.size) is not None:
        raise Unavailable(
            f"the audit log's head was changed: it is an older one, of {tree.size} events, and there are more",
            hint="ground audit verify",
        )
    entries: list[dict[str, Any]] = []
    above, first = 0, tree.size == 0
    while first or len(entries) < _BATCH:
        rows = audit.waiting(connection, above, _BATCH)  # under the lock: nobody else gives them numbers
        for row in rows:
            leaf = (row.leaf or "").encode()
            if row.mark != written(platform.home, leaf) and not (first and row.mark is None):
                continue  # what an older version wrote has no mark, and comes before all others
            hashed = leaf_hash(leaf)
            place = tree.size
            entries.append({"event": row.id, "place": place, "hashed": hashed, "marked": mine.placed(place, hashed)})
            tree.add(hashed)
        if len(rows) < _BATCH:
            break
        above = rows[-1].id
    if entries:
        audit.enter(connection, entries)
        audit.grow(connection, tree.size, tree.peaks, mine.sign(tree.size, tree.root()))
    return len(entries)


def _signed(mine: Signer, connection: Connection, state: Any) -> Tree:
    """The tree as it is in the database: the one whose root this key has signed, or nothing is added to it."""
    if state.origin != mine.origin:
        raise Unavailable(
            f"the audit log is {state.origin}, and this control plane's key is that of {mine.origin}",
            hint="give all control planes of a database the same GROUND_HOME/key and GROUND_HOME/keys/audit.key",
        )
    try:
        tree = Tree(state.size, state.peaks)
        if state.size == 0 and not state.note and audit.by_number(connection, 0) is None:
            return tree
        noted = mine.check(state.note)
    except ValueError as error:
        raise Unavailable(f"the audit log's head was changed: {error}", hint="ground audit verify") from error
    if (noted.size, noted.root) != (tree.size, tree.root()):
        raise Unavailable(
            f"the audit log's head was changed: {noted.size} events were signed, and it says {tree.size}",
            hint="ground audit verify",
        )
    return tree
