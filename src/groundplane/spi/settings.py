"""The variables that say how a control plane lets people in. It keeps those that it was started with."""

from __future__ import annotations

from collections.abc import Mapping

OF_LOGINS = (
    *("GROUND_PUBLIC_URL", "GROUND_OIDC_ISSUER", "GROUND_OIDC_CLIENT_ID", "GROUND_OIDC_CLIENT_SECRET"),
    *("GROUND_OIDC_GROUPS_CLAIM", "GROUND_SESSION_IDLE", "GROUND_SESSION_MAX"),
    *("GROUND_LOGIN_FAILURES", "GROUND_LOGIN_LOCKOUT", "GROUND_LOGIN_RATE"),
)


def digest(environ: Mapping[str, str]) -> str:
    """What tells whether two environments let in the same; "" for one that says nothing of it."""
    found = [(name, environ[name]) for name in OF_LOGINS if environ.get(name)]
    if not found:
        return ""
    import hashlib

    return hashlib.sha256(repr(found).encode(errors="surrogateescape")).hexdigest()
