"""What tells of a person is sealed in events with a key of that person's own: when the key is deleted nobody can read
it any more, and the log is still whole."""

from __future__ import annotations

import os
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Connection

from groundplane.model.errors import Unavailable
from groundplane.model.ids import new_id
from groundplane.services.variables import home_key
from groundplane.store import audit

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEY_BYTES = 32
_NONCE_BYTES = 12
_SEALED = re.compile(r"sealed:([0-9a-f-]{36}):([A-Za-z0-9_-]+=*)")
FORGET = "audit.forget"
"""The action of an erasure; its event tells in `people` what stood for the person."""
FORGOTTEN = "(forgotten)"
UNREADABLE = "(sealed under another home's key)"


class Person(str):
    """A name that tells of a person: it is sealed wherever it stands in an event, with that person's key."""

    __slots__ = ()


class Private(str):
    """A text that tells of who acts, such as a folder in a home: it is sealed with the actor's key."""

    __slots__ = ()


class Sealing:
    """Seals what one event says."""

    def __init__(self, home: Path, connection: Connection, event: str) -> None:
        self._home, self._connection, self._event = home, connection, event
        self._keys: dict[str, tuple[str, AESGCM]] = {}

    def uid(self, person: str) -> str:
        """What stands for the person."""
        return self._key(person)[0]

    def seal(self, person: str, place: str, text: str) -> str:
        """The text for that place of the event, as only the person's key can open it."""
        uid, key = self._key(person)
        nonce = os.urandom(_NONCE_BYTES)
        data = key.encrypt(nonce, text.encode(), f"{self._event} {place}".encode())
        return f"sealed:{uid}:{urlsafe_b64encode(nonce + data).decode()}"

    def _key(self, person: str) -> tuple[str, AESGCM]:
        if person not in self._keys:
            under = _name_of_key(self._home)
            row = audit.person(self._connection, person, under)
            if row is None:
                uid = new_id()
                fresh = _wrap(self._home, uid, os.urandom(_KEY_BYTES))
                audit.add_person(self._connection, person, under, uid, fresh)
                row = audit.person(self._connection, person, under)  # another transaction may have been first
                assert row is not None  # noqa: S101 - it was just put there
            self._keys[person] = row.uid, _unwrap(self._home, row.uid, row.sealed)
        return self._keys[person]


class Opening:
    """Opens what the given leaves say of people who are not forgotten."""

    def __init__(self, home: Path, connection: Connection, leaves: Iterable[str]) -> None:
        uids = {found[1] for leaf in leaves for found in _SEALED.finditer(leaf)}
        mine = _name_of_key(home)
        rows = audit.people_of(connection, sorted(uids)) if uids else ()
        self._keys = {row.uid: _unwrap(home, row.uid, row.sealed) for row in rows if row.under == mine}
        self._others = {row.uid for row in rows if row.under != mine}

    def readable(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """The event with everything in clear that can be."""
        return {name: self._open(event["id"], name, value) for name, value in event.items()}

    def _open(self, event: str, place: str, value: Any) -> Any:
        if isinstance(value, dict):
            items = cast("dict[str, Any]", value)
            return {name: self._open(event, f"{place}.{name}", part) for name, part in items.items()}
        if isinstance(value, list):
            parts = cast("list[Any]", value)
            return [self._open(event, f"{place}.{index}", part) for index, part in enumerate(parts)]
        found = _SEALED.fullmatch(value) if isinstance(value, str) else None
        return value if found is None else self._text(event, place, found)

    def _text(self, event: str, place: str, found: re.Match[str]) -> str:
        key = self._keys.get(found[1])
        if key is None:
            return UNREADABLE if found[1] in self._others else FORGOTTEN
        text = _opened(key, event, place, found)
        return found[0] if text is None else text  # somebody's own words that only look like it


def is_named_so(home: Path, row: Any, event: str, sealed: str) -> bool:
    """Whether the person of that row, by its key and name, is the actor whose name is sealed in the event."""
    found = _SEALED.fullmatch(sealed)
    if row.under != _name_of_key(home) or found is None or found[1] != row.uid:
        return False
    try:
        key = _unwrap(home, row.uid, row.sealed)
    except Unavailable:
        return False
    return _opened(key, event, "actor", found) == row.name


def _opened(key: AESGCM, event: str, place: str, sealed: re.Match[str]) -> str | None:
    """The text at that place of the event; None when the key does not open it."""
    from cryptography.exceptions import InvalidTag

    try:
        data = urlsafe_b64decode(sealed[2])
        return key.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], f"{event} {place}".encode()).decode()
    except (InvalidTag, ValueError):
        return None


def _name_of_key(home: Path) -> str:
    """Tells homes' keys apart, without telling them."""
    return _named(home_key(home))


@lru_cache(maxsize=4)
def _named(key: bytes) -> str:
    import hmac

    return hmac.digest(key, b"groundplane: the name of this key", "sha256").hex()[:16]


def _wrap(home: Path, uid: str, key: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(home_key(home)).encrypt(nonce, key, uid.encode())


@lru_cache(maxsize=1024)
def _unwrap(home: Path, uid: str, sealed: bytes) -> AESGCM:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        key = AESGCM(home_key(home)).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], uid.encode())
    except InvalidTag as error:
        raise Unavailable(
            f"the key of the person {uid} in the audit log was changed",
            hint="ground audit verify; restore the database",
        ) from error
    return AESGCM(key)
