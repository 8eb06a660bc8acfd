"""Envelopes: each value sealed with a data key of its own (AES-GCM), which a keeper wraps.

The keeper is a key of this host (RFC 5649), derived from the home's key or in the file that GROUND_SECRETS_KEY names,
or the transit engine of a Vault or OpenBao (`vault:MOUNT/KEY`). Whoever has the database alone can open nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from groundplane.model.errors import Invalid, Unavailable
from groundplane.services.variables import home_key

_KEY_BYTES = 32
_NONCE_BYTES = 12
_LEAST_FILE = 32
_PURPOSE = b"groundplane secrets 1"
_VAULT = "vault:"


@dataclass(frozen=True, slots=True)
class Envelope:
    """keeper: who wrapped the data key. sealed: nonce and cipher text."""

    keeper: str
    wrapped: bytes
    sealed: bytes


class Keeper(Protocol):
    """Has the key-encryption key. Both methods raise Unavailable."""

    @property
    def name(self) -> str:
        """Tells it from another keeper, and nothing of its key."""
        ...

    def wrap(self, key: bytes) -> bytes: ...

    def unwrap(self, wrapped: bytes) -> bytes: ...


def seal(home: Path, value: bytes, *bound: str | int) -> Envelope:
    """bound: what the value belongs to; it opens with the very same words alone."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    keeper = _keeper(home)
    key, nonce = os.urandom(_KEY_BYTES), os.urandom(_NONCE_BYTES)
    sealed = nonce + AESGCM(key).encrypt(nonce, value, _associated(bound))
    return Envelope(keeper.name, keeper.wrap(key), sealed)


def open_(home: Path, envelope: Envelope, what: str, *bound: str | int) -> bytes:
    """The value. what: its name for people. Raises Unavailable where it was sealed elsewhere, or was changed."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    keeper = _keeper(home)
    if envelope.keeper != keeper.name:
        raise Unavailable(
            f"{what} was sealed by {envelope.keeper}, and this control plane has {keeper.name}",
            hint="give it the same key (GROUND_HOME/key, or GROUND_SECRETS_KEY), or set the secret anew",
            code="sealed_elsewhere",
        )
    try:
        key = keeper.unwrap(envelope.wrapped)
        nonce, sealed = envelope.sealed[:_NONCE_BYTES], envelope.sealed[_NONCE_BYTES:]
        return AESGCM(key).decrypt(nonce, sealed, _associated(bound))
    except InvalidTag as error:
        raise _changed(what) from error


def _changed(what: str) -> Unavailable:
    return Unavailable(
        f"{what} cannot be opened: somebody has changed it in the database",
        hint="set it anew, and find out who writes to the database beside Groundplane",
        code="sealed_elsewhere",
    )


def _associated(bound: tuple[str | int, ...]) -> bytes:
    return json.dumps(bound, separators=(",", ":")).encode()


def _keeper(home: Path) -> Keeper:
    named = os.environ.get("GROUND_SECRETS_KEY", "")
    if named.startswith(_VAULT):
        from groundplane.services.vault import Transit

        return Transit(named.removeprefix(_VAULT), os.environ)
    return HostKey(_of_file(Path(named)) if named else home_key(home))


class HostKey:
    """A key of this host. secret: what it is derived from."""

    def __init__(self, secret: bytes) -> None:
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        self._key = HKDF(SHA256(), _KEY_BYTES, salt=None, info=_PURPOSE).derive(secret)

    @property
    def name(self) -> str:
        return "key " + hashlib.sha256(_PURPOSE + self._key).hexdigest()[:16]

    def wrap(self, key: bytes) -> bytes:
        from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding

        return aes_key_wrap_with_padding(self._key, key)

    def unwrap(self, wrapped: bytes) -> bytes:
        from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap_with_padding

        try:
            return aes_key_unwrap_with_padding(self._key, wrapped)
        except InvalidUnwrap as error:
            raise _changed("a secret's data key") from error


def _of_file(path: Path) -> bytes:
    try:
        status = path.stat()
        secret = path.read_bytes()
    except OSError as error:
        raise Unavailable(f"GROUND_SECRETS_KEY: {path}: {error.strerror}", hint="name a file that is there") from error
    if status.st_mode & 0o077:
        raise Invalid(f"GROUND_SECRETS_KEY: others may read {path}", hint=f"chmod 600 {path}")
    if len(secret) < _LEAST_FILE:
        raise Invalid(
            f"GROUND_SECRETS_KEY: {path} has {len(secret)} bytes, fewer than {_LEAST_FILE}",
            hint=f"head -c 32 /dev/urandom > {path}",
        )
    return secret
