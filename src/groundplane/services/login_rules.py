"""How logins are made and how long they hold: what the environment says when the control plane starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from groundplane.model.errors import Invalid
from groundplane.model.quantities import parse_duration

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class ProviderRules:
    """An OpenID provider. secret: "" for a public client. groups: the claim that holds the names of teams."""

    issuer: str
    client_id: str
    secret: str = ""
    groups: str = "groups"


@dataclass(frozen=True, slots=True)
class LoginRules:
    """idle, longest: seconds that a session lasts without a request, and at all. failures: wrong passwords after which
    an account is locked for `lockout` seconds. rate: login attempts a minute from one address. url: where people reach
    the control plane, "" where they name one of its own addresses."""

    idle: float = 15 * 60.0
    longest: float = 12 * 3600.0
    failures: int = 10
    lockout: float = 30 * 60.0
    rate: int = 60
    url: str = ""
    provider: ProviderRules | None = None


def from_environment(environ: Mapping[str, str]) -> LoginRules:
    """Raises Invalid that names the variable."""
    plain = LoginRules()
    return LoginRules(
        idle=_seconds("GROUND_SESSION_IDLE", environ.get("GROUND_SESSION_IDLE"), plain.idle),
        longest=_seconds("GROUND_SESSION_MAX", environ.get("GROUND_SESSION_MAX"), plain.longest),
        failures=_count("GROUND_LOGIN_FAILURES", environ.get("GROUND_LOGIN_FAILURES"), plain.failures),
        lockout=_seconds("GROUND_LOGIN_LOCKOUT", environ.get("GROUND_LOGIN_LOCKOUT"), plain.lockout),
        rate=_count("GROUND_LOGIN_RATE", environ.get("GROUND_LOGIN_RATE"), plain.rate),
        url=_public_url(environ.get("GROUND_PUBLIC_URL") or ""),
        provider=_provider(environ),
    )


def _provider(environ: Mapping[str, str]) -> ProviderRules | None:
    issuer = environ.get("GROUND_OIDC_ISSUER") or ""
    client = environ.get("GROUND_OIDC_CLIENT_ID") or ""
    if not issuer:
        if client:
            raise Invalid("GROUND_OIDC_CLIENT_ID is set, but no GROUND_OIDC_ISSUER", hint="set it to the provider's")
        return None
    if not client:
        raise Invalid(
            "GROUND_OIDC_ISSUER is set, but no GROUND_OIDC_CLIENT_ID",
            hint="set it to what the provider calls this control plane",
        )
    parts = urlsplit(issuer)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise Invalid(f"GROUND_OIDC_ISSUER {issuer!r} is no address", hint="write it like https://login.example")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise Invalid(
            f"GROUND_OIDC_ISSUER {issuer!r} is plain HTTP beyond loopback: whoever is on the way could log in",
            hint="use the provider's https address",
        )
    return ProviderRules(
        issuer,
        client,
        environ.get("GROUND_OIDC_CLIENT_SECRET") or "",
        environ.get("GROUND_OIDC_GROUPS_CLAIM") or "groups",
    )


def _public_url(text: str) -> str:
    parts = urlsplit(text)
    if not text:
        return ""
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise Invalid(f"GROUND_PUBLIC_URL {text!r} is no address", hint="write it like https://ground.example")
    return text.rstrip("/")


def _seconds(name: str, text: str | None, default: float) -> float:
    if not text:
        return default
    seconds = parse_duration(text, name)
    if seconds <= 0:
        raise Invalid(f"{name}={text!r} is no time", hint=f"write it like {default:g}")
    return seconds


def _count(name: str, text: str | None, default: int) -> int:
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise Invalid(f"{name}={text!r} is no number of them", hint=f"write it like {default}")
    return int(text)
