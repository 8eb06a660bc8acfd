"""The keys of the log, which are never in the database: Ed25519 in `GROUND_HOME/keys/audit.key` signs its head, one
that follows from `GROUND_HOME/key` marks every row."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b, sha256
from pathlib import Path
from typing import TYPE_CHECKING

from groundplane.model import notes
from groundplane.model.errors import Unavailable
from groundplane.services.variables import home_key
from groundplane.spi import files

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_MARK_BYTES = 16


@dataclass(frozen=True, slots=True)
class Signer:
    """origin: the log's name, which follows from the key. public: its 32 bytes."""

    origin: str
    public: bytes
    key: Ed25519PrivateKey
    marks: bytes

    @property
    def verifier_key(self) -> str:
        """As C2SP writes it."""
        return notes.verifier_key(self.origin, self.public)

    def sign(self, size: int, root: bytes) -> str:
        """A checkpoint."""
        signed = notes.body(self.origin, size, root)
        signature = (self.origin, notes.key_id(self.origin, self.public), self.key.sign(signed.encode()))
        return notes.Checkpoint(self.origin, size, root, signed, (signature,)).note

    def check(self, note: str) -> notes.Checkpoint:
        """A checkpoint of this log. Raises ValueError that says why it is none."""
        from cryptography.exceptions import InvalidSignature

        found = notes.parse(note)
        if found.origin != self.origin:
            raise ValueError(f"its origin is {found.origin}, and this log's is {self.origin}")
        mine = notes.key_id(self.origin, self.public)
        for name, key, signature in found.signatures:
            if (name, key) != (self.origin, mine):
                continue
            try:
                self.key.public_key().verify(signature, found.signed.encode())
            except InvalidSignature:
                raise ValueError("its signature is not that of this log's key") from None
            return found
        raise ValueError("it is not signed by this log's key")

    def placed(self, number: int, hashed: bytes) -> bytes:
        """The mark of an entry that the log itself put there: whoever can only write to the database cannot make it."""
        return blake2b(number.to_bytes(8, "big") + hashed, key=self.marks, digest_size=_MARK_BYTES).digest()


def written(home: Path, leaf: bytes) -> bytes:
    """The mark of an event that a control plane wrote, until it has its place."""
    return blake2b(b"written" + leaf, key=_marks(home_key(home)), digest_size=_MARK_BYTES).digest()


@lru_cache(maxsize=4)
def _marks(key: bytes) -> bytes:
    return hmac.digest(key, b"groundplane: marks of the audit log", "sha256")


@lru_cache(maxsize=4)
def signer(home: Path) -> Signer:
    """The home's. Its file is made on first use from the home's key: control planes that share that one share both."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path = home / "keys" / "audit.key"
    if not path.is_file():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        seed = hmac.digest(home_key(home), b"groundplane: the key that signs the audit log", "sha256")
        public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
        text = notes.signer_key(_origin(public), public, seed)
        files.write(path, f"{text}\n".encode(), mode=0o600, durable=True)
    try:
        key = Ed25519PrivateKey.from_private_bytes(notes.seed(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise Unavailable(
            f"{path} holds no key: {error}", hint="put back the one that signed the log, or remove it if there was none"
        ) from error
    public = key.public_key().public_bytes_raw()
    return Signer(_origin(public), public, key, _marks(home_key(home)))


def _origin(public: bytes) -> str:
    return f"groundplane/{sha256(public).hexdigest()[:16]}"
