"""C2SP signed notes and log checkpoints: their text. Pure; who signs and checks signatures is elsewhere.

groundplane/3f2a…        origin
17                       entries
qINS1GRFLKM3…=           root, base64
                         an empty line ends what is signed
— groundplane/3f2a… Zm9v…   signature: base64 of the key's 4 bytes and Ed25519's 64
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from dataclasses import dataclass
from hashlib import sha256

from groundplane.model.merkle import HASH_BYTES

_ED25519 = b"\1"
_PRIVATE = "PRIVATE+KEY+"
_SEED_BYTES = 32
_ID_BYTES = 4
_LARGEST = 2**63


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log. signed: the text that the signatures are over. signatures: (name, key's 4 bytes, signature).

    Its `note` is all of it.
    """

    origin: str
    size: int
    root: bytes
    signed: str
    signatures: tuple[tuple[str, bytes, bytes], ...]

    @property
    def note(self) -> str:
        lines = [f"— {name} {b64encode(key + mark).decode()}\n" for name, key, mark in self.signatures]
        return self.signed + "\n" + "".join(lines)


def body(origin: str, size: int, root: bytes) -> str:
    """What is signed."""
    return f"{origin}\n{size}\n{b64encode(root).decode()}\n"


def parse(note: str) -> Checkpoint:
    """A checkpoint, its signatures unchecked. Raises ValueError that says what is wrong."""
    signed, blank, tail = note.rpartition("\n\n")
    if not blank:
        raise ValueError("it is no signed note: it has no empty line before its signatures")
    signed += "\n"
    lines = signed.split("\n")
    if len(lines) < 4 or not lines[0]:
        raise ValueError("it is no checkpoint: origin, size and root stand on a line each")
    origin, size, root = lines[:3]
    if not (size.isascii() and size.isdecimal()) or (size[0] == "0" and size != "0") or int(size) >= _LARGEST:
        raise ValueError(f"its size {size[:40]!r} is no number of entries")
    decoded = _decoded(root)
    if len(decoded) != HASH_BYTES:
        raise ValueError(f"its root {root[:80]!r} is no hash")
    if not tail.endswith("\n"):
        raise ValueError("its last line has no end")
    return Checkpoint(origin, int(size), decoded, signed, tuple(_signature(line) for line in tail[:-1].split("\n")))


def key_id(name: str, public: bytes) -> bytes:
    """The 4 bytes that tell an Ed25519 key of that name from others."""
    return sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:_ID_BYTES]


def verifier_key(name: str, public: bytes) -> str:
    """An Ed25519 public key as C2SP writes it: NAME+HEX+BASE64."""
    return f"{name}+{key_id(name, public).hex()}+{b64encode(_ED25519 + public).decode()}"


def signer_key(name: str, public: bytes, seed: bytes) -> str:
    """An Ed25519 private key, as the tools of C2SP's notes write it: PRIVATE+KEY+NAME+HEX+BASE64."""
    return f"{_PRIVATE}{name}+{key_id(name, public).hex()}+{b64encode(_ED25519 + seed).decode()}"


def seed(text: str) -> bytes:
    """The 32 bytes of an Ed25519 private key that `signer_key` wrote. Raises ValueError."""
    parts = text.strip().removeprefix(_PRIVATE).split("+", 2)
    raw = _decoded(parts[-1])
    if not text.startswith(_PRIVATE) or len(parts) != 3 or raw[:1] != _ED25519 or len(raw) != 1 + _SEED_BYTES:
        raise ValueError("it is not of the form PRIVATE+KEY+NAME+HEX+BASE64")
    return raw[1:]


def _signature(line: str) -> tuple[str, bytes, bytes]:
    dash, _, rest = line.partition(" ")
    name, _, text = rest.partition(" ")
    decoded = _decoded(text)
    if dash != "—" or not name or len(decoded) <= _ID_BYTES:
        raise ValueError(f"{line[:80]!r} is no signature of a note")
    return name, decoded[:_ID_BYTES], decoded[_ID_BYTES:]


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
