"""The tokens of `ground login`, by the address of the control plane: a file of this user alone."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Generator
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from groundplane.spi import files


def token_for(url: str) -> str | None:
    """The token that was kept for this address, while it holds."""
    found = _read().get(_key(url))
    if found is None or datetime.fromisoformat(found["expires_at"]).timestamp() <= time.time():
        return None
    return found["token"]


def keep(url: str, token: str, expires_at: str) -> Path:
    """Keeps it; where."""
    with _changed() as logins:
        logins[_key(url)] = {"token": token, "expires_at": expires_at}
    return _file()


def forget(url: str) -> bool:
    """Whether there was one."""
    with _changed() as logins:
        return logins.pop(_key(url), None) is not None


def _key(url: str) -> str:
    return url.rstrip("/")


def _file() -> Path:
    import platformdirs

    return Path(platformdirs.user_config_dir("groundplane", appauthor=False)) / "logins.json"


def _read() -> dict[str, dict[str, str]]:
    try:
        found: Any = json.loads(_file().read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return cast("dict[str, dict[str, str]]", found) if isinstance(found, dict) else {}


@contextlib.contextmanager
def _changed() -> Generator[dict[str, dict[str, str]]]:
    """What is kept, to be changed; nobody else changes it meanwhile."""
    path = _file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        logins = _read()
        yield logins
        files.write(path, json.dumps(logins).encode(), mode=0o600)
    finally:
        os.close(lock)
