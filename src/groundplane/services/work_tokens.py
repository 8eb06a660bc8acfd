"""Short tokens for programs: signed (JWT), bound to this installation, some to an attempt and then only good while it
is open."""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

from groundplane.model.errors import Denied, Invalid, Unauthenticated
from groundplane.model.pipelines import Step
from groundplane.services import scopes
from groundplane.services.access import Actor
from groundplane.services.plans import RunPlan
from groundplane.services.platform import Platform
from groundplane.services.variables import home_key
from groundplane.store import attempts, users

_ALGORITHM = "HS256"
_ISSUER = "groundplane"
_ATTEMPT = "attempt:"
"""What the credential of an attempt's work begins with."""
_LONGEST = 24 * 3600.0
"""Seconds that one of an attempt holds, however long that runs."""


def is_one(text: str) -> bool:
    """Whether it has a JWT's form."""
    return text.count(".") == 2


def check(platform: Platform, actor: Actor, plan: RunPlan) -> None:
    """Raises Invalid for a step that asks for scopes and could not be given a token, Denied for scopes beyond those of
    the token that the run is started with."""
    for step in plan.pipeline.steps:
        if not step.scopes:
            continue
        scopes.check(step.scopes)
        if actor.kind not in ("user", "service"):
            raise Invalid(
                f"step {step.name!r} asks for scopes, and {actor.name} has no account that its work could act for",
                hint="start it with an account's token: GROUND_TOKEN",
            )
        if not _address(platform):
            raise Invalid(
                f"step {step.name!r} asks for scopes, and this control plane has no address", hint="ground up"
            )
        if actor.scopes is not None and not scopes.within(step.scopes, actor.scopes):
            raise Denied(
                f"step {step.name!r} asks for more than the token may that starts it",
                hint=f"its scopes are: {', '.join(sorted(actor.scopes))}",
            )


def warnings(without_network: Sequence[Step]) -> list[str]:
    """Sentences for the caller. without_network: steps whose work reaches nothing."""
    return [
        f"step {step.name!r} has scopes and no network to ask the control plane by: set network = true"
        for step in without_network
        if step.scopes
    ]


def environment(platform: Platform, account: str, attempt: str, given: Sequence[str]) -> dict[str, str]:
    """The variables by which an attempt's work acts for that account, within the scopes that it is given,
    while it is open; none without scopes."""
    if not given:
        return {}
    claims = {"sub": account, "attempt": attempt, "scopes": sorted(set(given))}
    return {"GROUND_URL": _address(platform), "GROUND_TOKEN": signed(platform, claims, _LONGEST)}


def refuse(actor: Actor, what: str) -> None:
    """Raises Denied for the work of an attempt."""
    if actor.credential.startswith(_ATTEMPT):
        raise Denied(f"the work of an attempt {what}", hint="its own token holds as long as it runs")


def _address(platform: Platform) -> str:
    return platform.logins.url or platform.url or ""


def actor_of_attempt(platform: Platform, claims: Mapping[str, Any], source: str) -> Actor:
    """Who shows it. Raises Unauthenticated when the attempt has ended, or the account is disabled or forgotten (another
    may have its name since), or all that let it in has ended since the token was made."""
    with platform.database.read() as connection:
        row = attempts.open_of(connection, claims["attempt"])
        account = users.by_name(connection, claims["sub"])
    if row is None or row.actor != claims["sub"] or account is None or not _holds(account, claims["iat"]):
        raise Unauthenticated("the work that this token was made for has ended", hint="it holds only while that runs")
    return Actor(
        account.name,
        account.kind,
        email=account.email,
        source=source,
        credential=_ATTEMPT + claims["attempt"],
        scopes=frozenset(claims["scopes"]),
    )


def _holds(account: Any, made_at: int) -> bool:
    return account.disabled_at is None and made_at * 1_000_000 > (account.credentials_from or 0)


def signed(platform: Platform, claims: Mapping[str, Any], seconds: float) -> str:
    """The claims, with issuer, audience (this installation) and times."""
    from joserfc import jwt
    from joserfc.jwk import OctKey

    at = int(time.time())
    whole = {"iss": _ISSUER, "aud": audience(platform), "iat": at, "exp": at + max(1, int(seconds)), **claims}
    return jwt.encode({"alg": _ALGORITHM, "typ": "JWT"}, whole, OctKey.import_key(_key(platform)))


def verified(platform: Platform, text: str) -> Mapping[str, Any]:
    """Its claims. Raises Unauthenticated for another issuer, audience, key or algorithm, and for one that is over."""
    from joserfc import jwt
    from joserfc.errors import JoseError
    from joserfc.jwk import OctKey

    rules = jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": _ISSUER},
        aud={"essential": True, "value": audience(platform)},
        exp={"essential": True},
        sub={"essential": True},
    )
    try:
        token = jwt.decode(text, OctKey.import_key(_key(platform)), algorithms=[_ALGORITHM])
        rules.validate(token.claims)
    except (JoseError, ValueError) as error:
        raise Unauthenticated(
            "the token was not made here, or does not hold any more", hint="`ground tokens create` makes one"
        ) from error
    return cast("Mapping[str, Any]", token.claims)


def audience(platform: Platform) -> str:
    """This installation: all control planes that share its key."""
    return "groundplane:" + hmac.digest(home_key(platform.home), b"groundplane audience", "sha256").hex()[:16]


def _key(platform: Platform) -> bytes:
    return hmac.digest(home_key(platform.home), b"groundplane work tokens", "sha256")
