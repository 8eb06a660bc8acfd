"""A small file written whole or not at all: beside its place, and renamed into it."""

from __future__ import annotations

import os
import threading
from pathlib import Path


def write(path: Path, data: bytes, *, mode: int = 0o644, durable: bool = False) -> None:
    """Replaces the file, whoever else does so at the same time. durable: it has reached the disk before it has its
    name. Raises OSError, and leaves nothing beside it."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            if durable:
                os.fsync(descriptor)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
