"""One build of a thing at a time, in all processes; whoever waited finds it built."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


def busy(folder: Path, name: str) -> bool:
    """Whether somebody builds it now."""
    handle = _file(folder, name)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


@contextmanager
def alone(folder: Path, name: str) -> Generator[None]:
    """Waits for its turn."""
    handle = _file(folder, name)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _file(folder: Path, name: str) -> int:
    locks = folder / "locks-of-builds"
    locks.mkdir(parents=True, exist_ok=True)
    return os.open(locks / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
