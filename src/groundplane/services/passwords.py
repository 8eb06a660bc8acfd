"""Local passwords, by argon2id: for the first login of a shared server, before a provider is there."""

from __future__ import annotations

import threading
from functools import cache

from groundplane.model.errors import Invalid, Throttled

SHORTEST = 8
LONGEST = 1024
_AT_ONCE = threading.BoundedSemaphore(2)  # each takes 64 MiB and all of a core
_PATIENCE = 10.0


def hashed(password: str) -> str:
    """What is kept of a password. Raises Invalid for one that is too short or too long."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise Invalid(f"a password has {SHORTEST} to {LONGEST} characters", hint="a sentence is easy to remember")
    from argon2 import PasswordHasher

    return PasswordHasher().hash(_bytes(password))


def holds(kept: str | None, password: str) -> bool:
    """Whether it is that one. Takes as long when there is none to compare it with. Raises Throttled when too many ask
    at once."""
    from argon2 import PasswordHasher
    from argon2.exceptions import Argon2Error, InvalidHashError

    if not _AT_ONCE.acquire(timeout=_PATIENCE):
        raise Throttled("too many log in at once", hint="try again in a moment")
    try:
        return PasswordHasher().verify(kept or _nobodys(), _bytes(password[:LONGEST])) and kept is not None
    except (Argon2Error, InvalidHashError):
        return False
    finally:
        _AT_ONCE.release()


def _bytes(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")


@cache
def _nobodys() -> str:
    """The hash of a password that nobody knows."""
    import secrets

    return hashed(secrets.token_urlsafe(32))
