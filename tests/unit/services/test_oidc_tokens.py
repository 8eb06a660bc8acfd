"""Which ID tokens are believed. A provider's own keys are made here: no real one would sign these."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, RSAKey

from groundplane.services.login_rules import ProviderRules
from groundplane.services.oidc import checked_claims

RULES = ProviderRules("https://login.example", "ground")
KEY = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})
OTHER = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})
CURVE = ECKey.generate_key("P-256", {"kid": "two", "use": "sig"})
KEYS = KeySet([KEY, CURVE])


def claims(**words: Any) -> dict[str, Any]:
    at = int(time.time())
    plain = {"iss": RULES.issuer, "aud": RULES.client_id, "sub": "1", "iat": at, "exp": at + 300, "nonce": "n"}
    return {name: value for name, value in {**plain, **words}.items() if value is not None}


def token(key: Any = KEY, alg: str = "RS256", kid: str | None = "one", **words: Any) -> str:
    head = {"alg": alg} if kid is None else {"alg": alg, "kid": kid}
    return jwt.encode(head, claims(**words), key, algorithms=[alg])


def by_hand(alg: str, secret: bytes = b"") -> str:
    """Unsigned, or signed by a secret: no library makes these of a provider's keys any more."""
    parts = [json.dumps(part).encode() for part in ({"alg": alg, "kid": "one"}, claims())]
    body = ".".join([_coded(part) for part in parts])
    return f"{body}.{_coded(hmac.digest(secret, body.encode(), 'sha256')) if secret else ''}"


def _coded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


RIGHT: dict[str, Callable[[], str]] = {
    "plain": token,
    "a curve's": lambda: token(CURVE, "ES256", "two"),
    "a list of one": lambda: token(aud=["ground"]),
    "another padding": lambda: token(alg="PS256"),
    "of several, for this one": lambda: token(aud=["ground", "other"], azp="ground"),
}
"""Made when the test runs: what is made when it is collected is over before a long run comes to it."""


@pytest.mark.parametrize("what", RIGHT)
def test_a_right_one_is_believed(what: str) -> None:
    assert checked_claims(RIGHT[what](), KEYS, RULES, "n")["sub"] == "1"


def test_a_device_has_no_nonce() -> None:
    assert checked_claims(token(nonce=None), KEYS, RULES, None)["sub"] == "1"


WRONG: dict[str, Callable[[], str]] = {
    "unsigned": lambda: by_hand("none"),
    "signed by the client's id as a secret": lambda: by_hand("HS256", b"ground"),
    "signed by the public key as a secret": lambda: by_hand("HS256", KEY.as_pem(private=False)),
    "another's key under the same name": lambda: token(OTHER),
    "an unknown key": lambda: token(OTHER, kid="three"),
    "another issuer": lambda: token(iss="https://evil.example"),
    "no issuer": lambda: token(iss=None),
    "another client's": lambda: token(aud="other"),
    "of several, for another": lambda: token(aud=["ground", "other"], azp="other"),
    "of several, and for nobody": lambda: token(aud=["ground", "other"]),
    "over": lambda: token(exp=int(time.time()) - 120),
    "without an end": lambda: token(exp=None),
    "of nobody": lambda: token(sub=None),
    "of another login": lambda: token(nonce="m"),
    "of no login": lambda: token(nonce=None),
    "cut": lambda: token()[:-6],
    "no token": lambda: "x",
    "empty": lambda: "",
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_one_is_not(what: str) -> None:
    with pytest.raises((JoseError, ValueError)):
        checked_claims(WRONG[what](), KEYS, RULES, "n")
