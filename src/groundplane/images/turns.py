"""One build of a thing at a time, in all processes; whoever waited finds it built."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from groundplane.spi.images import Progress


@contextmanager
def alone(folder: Path, name: str, progress: Progress) -> Generator[None]:
    """Waits for its turn, and says so."""
    locks = folder / "locks-of-builds"
    locks.mkdir(parents=True, exist_ok=True)
    handle = os.open(locks / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another build that makes the same")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
