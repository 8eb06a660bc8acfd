"""Whether anybody changed the log: every entry is hashed again, and compared with its row, with every checkpoint that
is known, and with the names that people's keys stand for."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from groundplane.model import notes
from groundplane.model.errors import GroundError
from groundplane.model.merkle import Tree
from groundplane.services import gate
from groundplane.services.access import Actor
from groundplane.services.audit import entries, log, people, retention, witness
from groundplane.services.audit.signing import Signer, signer
from groundplane.services.objects import Resource
from groundplane.services.platform import Platform, iso
from groundplane.store import audit

_PAGE = 5000
_LOWEST = -(2**63)
_FORGET = f'{{"action":"{people.FORGET}",'
_TELL_EVERY = 2.0
_STALLED_MICROSECONDS = 10_000_000


class _Found(Exception):
    """Something is wrong; the first thing that was found. number: of the event, uid: its id."""

    def __init__(self, message: str, number: int | None = None, uid: str | None = None) -> None:
        super().__init__(message)
        self.number, self.uid = number, uid


@dataclass(frozen=True, slots=True)
class _Head:
    """A size and root that the log is compared with. name: where it comes from. note: None for the witness's, which
    need only be read where they differ: nobody could forge one that agrees."""

    size: int
    root: bytes
    name: str
    note: str | None = None


@dataclass(slots=True)
class _Walk:
    """What was seen so far. wanted: sizes whose roots are asked for, ascending. bare: entries at the log's beginning
    of which only the hash is left. allowed: below which number retention has told that it drops. actors: what stands
    for each who acted, with the first event of theirs. forgotten: the same of those of whom an erasure told."""

    wanted: list[int]
    tree: Tree = field(default_factory=Tree)
    roots: dict[int, bytes] = field(default_factory=dict[int, bytes])
    bare: int = 0
    allowed: int = 0
    actors: dict[str, tuple[int, str, str]] = field(default_factory=dict[str, tuple[int, str, str]])
    forgotten: set[str] = field(default_factory=set[str])


def verify(
    platform: Platform, actor: Actor, given: Mapping[str, str], progress: Callable[[str], None]
) -> dict[str, Any]:
    """`ok`, `message`, `size` of the log, how many `checkpoints` it was compared with, and, when it is not ok, where:
    `number` and `id` of the first event, when it can be told.

    given: checkpoints kept elsewhere, by a name for them. Those that the witness has count too.
    """
    gate.require(platform, actor, "audit.verify", Resource("audit"))
    with platform.database.read() as connection:
        known = audit.everybody(connection)  # before: whose erasure comes later is still among them
    stalled = _integrate(platform)
    with platform.database.read() as connection:
        state = audit.log(connection)
    size = 0 if state is None else state.size
    compared: list[_Head] = []
    try:
        walk = _examine(platform, state, given, compared, progress)
        if not stalled:  # else erasures may wait for their place, too
            _compare_people(platform, walk, known)
    except _Found as found:
        return _verdict(str(found), size, compared, found)
    if stalled:
        return _verdict(stalled, size, compared, _Found(stalled))
    bare = f"; of the first {walk.bare} only the hashes are kept" if walk.bare else ""
    message = f"{size} events are as they were signed, by {_counted(len(compared))} kept elsewhere{bare}"
    return _verdict(message, size, compared, None)


def _counted(checkpoints: int) -> str:
    return f"{checkpoints} checkpoint" if checkpoints == 1 else f"{checkpoints} checkpoints"


def _verdict(message: str, size: int, compared: Sequence[object], found: _Found | None) -> dict[str, Any]:
    return {
        "ok": found is None,
        "message": message,
        "size": size,
        "checkpoints": len(compared),
        "number": None if found is None else found.number,
        "id": None if found is None else found.uid,
    }


def _examine(
    platform: Platform,
    state: Any,
    given: Mapping[str, str],
    compared: list[_Head],
    progress: Callable[[str], None],
) -> _Walk:
    """Looks at everything; what the log was compared with goes into `compared`. Raises _Found."""
    mine = signer(platform.home)
    for name, note in given.items():
        found = _checked(mine, name, note)
        compared.append(_Head(found.size, found.root, name, note))
    compared += _kept(platform)
    compared.sort(key=lambda each: each.size)
    _two_roots(platform, mine, compared)
    walk = _Walk(sorted({each.size for each in compared} | ({state.size} if state is not None else set())))
    _walk(platform, mine, walk, progress)
    if walk.bare > walk.allowed:
        message = f"event {walk.allowed} has lost its content, which no retention told of"
        raise _Found(message, walk.allowed, _uid(platform, walk.allowed))
    _compare(platform, mine, walk, compared)
    with platform.database.read() as connection:
        newest = audit.log(connection)
    _compare_head(mine, walk, state, newest)
    if (uid := log.forged(platform)) is not None:
        raise _Found(f"event {uid} waits for its place in the log, and no control plane wrote it so", None, uid)
    return walk


def stalled_since(platform: Platform) -> str:
    """Since when events wait for their place in the log, in words; "" when it keeps up."""
    with platform.database.read() as connection:
        count, since = audit.oldest_waiting(connection)
        at = platform.database.now(connection)
    if since is None or at - since < _STALLED_MICROSECONDS:
        return ""
    return f"the log is stalled: {count} events wait for their place in it, the first since {iso(since)}"


def _integrate(platform: Platform) -> str:
    try:
        log.integrate(platform)
    except GroundError as error:
        with platform.database.read() as connection:
            count, since = audit.oldest_waiting(connection)
        waiting = f", and {count} events wait for their place in it since {iso(since)}" if count else ""
        return f"the log is stalled{waiting}: {error.message}"
    return ""


def _checked(mine: Signer, name: str, note: str) -> notes.Checkpoint:
    try:
        return mine.check(note)
    except ValueError as error:
        raise _Found(f"the checkpoint {name} is not this log's: {error}") from None


def _kept(platform: Platform) -> list[_Head]:
    try:
        return [_Head(each.size, each.root, each.name) for each in witness.kept(platform)]
    except ValueError as error:
        raise _Found(f"the witness holds what is no checkpoint: {error}") from None


def _check(platform: Platform, mine: Signer, head: _Head) -> None:
    """Raises _Found when a head that differs is none that this log's key has signed."""
    note = witness.note(platform, head.name) if head.note is None else head.note
    found = _checked(mine, head.name, note)
    if (found.size, found.root) != (head.size, head.root):
        raise _Found(f"the checkpoint {head.name} says another size or root than its name")


def _two_roots(platform: Platform, mine: Signer, compared: Sequence[_Head]) -> None:
    for one, other in pairwise(compared):
        if one.size == other.size and one.root != other.root:
            _check(platform, mine, one)
            _check(platform, mine, other)
            raise _Found(
                f"two roots were signed at size {one.size}: {one.name} and {other.name} cannot both be of one log"
            )


def _walk(platform: Platform, mine: Signer, walk: _Walk, progress: Callable[[str], None]) -> None:
    """Every entry in its order. Raises _Found for the first that is not as the log put it there."""
    told = time.monotonic()
    add, fault, actors = walk.tree.add, entries.fault, walk.actors  # a million times each
    tree, place = walk.tree, 0
    if walk.wanted and walk.wanted[0] == 0:
        walk.roots[0], place = tree.root(), 1
    while True:
        with platform.database.read() as connection:
            rows = audit.entries(connection, tree.size or _LOWEST, _PAGE)
        for row in rows:
            number, uid, leaf, hashed, *_, person = row
            if number < 0:
                raise _Found(f"event {uid} has the number {number}, which no log gives", None, uid)
            if number != tree.size:
                raise _Found(f"event {tree.size} is missing: the next one there is {number} ({uid})", tree.size)
            if leaf is None:
                if walk.bare < number:
                    raise _Found(f"event {number} ({uid}) has lost its content", number, uid)
                walk.bare = number + 1
            if found := fault(mine, row):
                raise _Found(f"event {number} ({uid}) {found}", number, uid)
            if leaf is not None:
                if person is not None and person not in actors:
                    actors[person] = number, uid, leaf
                if leaf.startswith(retention.BEGINNING):
                    walk.allowed = max(walk.allowed, retention.told(leaf))
                elif leaf.startswith(_FORGET):
                    walk.forgotten.update(_forgotten(leaf))
            add(hashed)
            if place < len(walk.wanted) and walk.wanted[place] == tree.size:
                walk.roots[tree.size], place = tree.root(), place + 1
        if len(rows) < _PAGE:
            return
        if time.monotonic() - told > _TELL_EVERY:
            told = time.monotonic()
            progress(f"{tree.size} events")


def _forgotten(leaf: str) -> Iterable[str]:
    event = json.loads(leaf)
    return event["details"].get("people", ()) if event["outcome"] == "done" else ()


def _compare_people(platform: Platform, walk: _Walk, before: Sequence[Any]) -> None:
    """Raises _Found for who acted and is not whom the table of people names, or is not there and was not forgotten."""
    with platform.database.read() as connection:
        known = {row.uid: row for row in (*before, *audit.everybody(connection))}
    for person, (number, uid, leaf) in walk.actors.items():
        row = known.get(person)
        if row is None and person not in walk.forgotten:
            raise _Found(
                f"event {number} ({uid}): the key of who acted is gone, and no erasure told of it", number, uid
            )
        if row is not None and not people.is_named_so(platform.home, row, uid, json.loads(leaf)["actor"]):
            raise _Found(f"event {number} ({uid}): who acted is not whom the table of people says", number, uid)


def _compare(platform: Platform, mine: Signer, walk: _Walk, compared: Iterable[_Head]) -> None:
    """Raises _Found for the smallest checkpoint that the log does not agree with."""
    agreed = 0
    for each in compared:
        if each.size > walk.tree.size:
            _check(platform, mine, each)
            raise _Found(
                f"the log has {walk.tree.size} events, and {each.size} were signed by the checkpoint {each.name}: "
                f"events {walk.tree.size} to {each.size - 1} are gone", walk.tree.size,
            )  # fmt: skip
        if walk.roots[each.size] != each.root:
            _check(platform, mine, each)
            uid = _uid(platform, agreed)
            raise _Found(
                f"the first {each.size} events are not those of the checkpoint {each.name}: the log agrees up to size "
                f"{agreed}, and from event {agreed} ({uid}) on it may differ", agreed, uid,
            )  # fmt: skip
        agreed = each.size


def _compare_head(mine: Signer, walk: _Walk, state: Any, newest: Any) -> None:
    """Raises _Found when the database's own head is not that of its events. state: before they were read; newest:
    after."""
    size = walk.tree.size
    if state is None:
        if size:
            raise _Found(f"the log's head is gone, and there are {size} events", 0)
        return
    if state.size > size:
        raise _Found(f"the log has {size} events, and {state.size} by its head: event {size} is missing", size)
    try:
        noted = mine.check(state.note)
    except ValueError as error:
        raise _Found(f"the log's head was changed: {error}") from None
    if noted.size != state.size:
        raise _Found(f"the log's head was changed: {noted.size} events were signed, and it says {state.size}")
    if noted.root != walk.roots[noted.size]:
        raise _Found(f"the first {noted.size} events are not those that the log's head was signed over", 0)
    if newest is None or newest.size < size:
        raise _Found(f"the log's head was changed: it is of {state.size} events, and the log has {size}", state.size)


def _uid(platform: Platform, number: int) -> str | None:
    with platform.database.read() as connection:
        row = audit.by_number(connection, number)
    return None if row is None else row.uid
