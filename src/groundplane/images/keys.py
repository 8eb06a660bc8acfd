"""The keys that sign provenance: Ed25519, a file each, made on first use."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

NAME, ALGORITHM = "provenance", "ed25519"


def signing(folder: Path) -> Ed25519PrivateKey:
    """The private key; exactly one of several threads or processes that start at once makes it."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
    )

    path = folder / f"{NAME}.pem"
    if not path.is_file():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = folder / f".{NAME}.{os.getpid()}.{threading.get_ident()}"
        fresh.touch(mode=0o600)
        fresh.write_bytes(Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    key = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise TypeError(f"{path} is no Ed25519 key")
    return key


def public(folder: Path) -> Ed25519PublicKey:
    """Its public half."""
    return signing(folder).public_key()


def listing(folder: Path) -> list[dict[str, str]]:
    """name, algorithm, public_key (PEM) of each."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    text = public(folder).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return [{"name": NAME, "algorithm": ALGORITHM, "public_key": text}]
