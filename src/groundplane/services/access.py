"""Who acts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Actor:
    """Whoever a request comes from, as the edge found out.

    kind: `owner` (the operating-system user whose control plane it is: no account, may do all), `user` or `service`
    (an account), `platform` for what it does by itself.
    source: where from: `socket`, an address, "" for the platform. credential: id of the token or session shown.
    scopes: the actions that a token is limited to; None: all that its user may.
    methods, level: how the login was made, as the provider said (`amr`, `acr`).
    """

    name: str
    kind: str = "user"
    email: str = ""
    source: str = ""
    credential: str = ""
    scopes: frozenset[str] | None = None
    methods: frozenset[str] = frozenset()
    level: str = ""


PLATFORM = Actor("groundplane", "platform")
