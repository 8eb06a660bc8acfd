"""What an OpenID provider is asked, and how its answers are checked: authorization code with PKCE, device code.

Everything that it says is checked before it is believed: an ID token needs an asymmetric signature by a key that the
provider publishes, its issuer, this client as its audience, and the nonce of this login.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

from groundplane.model.errors import Denied, Unavailable
from groundplane.services.login_rules import ProviderRules

ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA", "Ed25519"),
)
_DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_PATIENCE = 10.0
_FRESH = 3600.0
_LEEWAY = 60
_LEAST_BETWEEN_KEYS = 10.0


@dataclass(frozen=True, slots=True)
class Claims:
    """What the provider says of a person. groups: None when it says nothing of groups."""

    issuer: str
    subject: str
    names: tuple[str, ...]
    full_name: str
    email: str
    email_verified: bool
    groups: tuple[str, ...]
    methods: frozenset[str]
    level: str


@dataclass(frozen=True, slots=True)
class Begun:
    """A login at the command line: where the person confirms it, and with which code."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    interval: float
    expires_in: float


class Provider:
    """One provider, as its own description says. For several threads."""

    def __init__(self, rules: ProviderRules) -> None:
        self._rules = rules
        self._lock = threading.Lock()
        self._described: Mapping[str, Any] = {}
        self._described_at = float("-inf")
        self._keys: Any = None
        self._keys_at = float("-inf")

    def authorization_url(self, redirect_uri: str, state: str, nonce: str, verifier: str) -> str:
        """Where a browser is sent to log in."""
        with self._client(redirect_uri) as client:
            url, _ = client.create_authorization_url(
                self._endpoint("authorization_endpoint"), state=state, code_verifier=verifier, nonce=nonce
            )
        return str(url)

    def exchange(self, redirect_uri: str, code: str, nonce: str, verifier: str) -> Claims:
        """Who logged in, by the code that the browser brought back. Raises Denied."""
        with self._client(redirect_uri) as client:
            answer = self._token(client, grant_type="authorization_code", code=code, code_verifier=verifier)
            return self._claims(client, answer, nonce)

    def begin_device(self) -> Begun:
        """Begins a login at the command line. Raises Denied when the provider has no such way."""
        with self._client() as client:
            url = self._endpoint("device_authorization_endpoint", "it has no device code: log in at the pages")
            body = {"scope": client.scope}  # the client's id is the authentication's
            answer = self._answer(
                client, "POST", url, data=body, auth=client.client_auth(client.token_endpoint_auth_method)
            )
        try:
            return Begun(
                str(answer["device_code"]),
                str(answer["user_code"]),
                str(answer["verification_uri"]),
                str(answer.get("verification_uri_complete") or ""),
                float(answer.get("interval") or 5),
                float(answer["expires_in"]),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise _refused(f"its answer to a device login lacks {error}") from error

    def poll_device(self, device_code: str) -> Claims | str:
        """Who confirmed the login, or why there is nobody yet: `authorization_pending` or `slow_down`. Raises Denied
        when it was refused, or is too old."""
        with self._client() as client:
            answer = self._token(
                client, ("authorization_pending", "slow_down"), grant_type=_DEVICE_GRANT, device_code=device_code
            )
            return answer if isinstance(answer, str) else self._claims(client, answer, None)

    # --- how ---------------------------------------------------------------------------------------------------------

    def _client(self, redirect_uri: str | None = None) -> Any:
        from authlib.integrations.httpx_client import OAuth2Client  # pyright: ignore[reportMissingTypeStubs]

        described = self._description()
        ways = described.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        method = "none"
        if self._rules.secret:
            method = "client_secret_basic" if "client_secret_basic" in ways else "client_secret_post"
        offered = described.get("scopes_supported") or ()
        scopes = ["openid", "profile", "email", *(["groups"] if "groups" in offered else [])]
        return OAuth2Client(
            client_id=self._rules.client_id,
            client_secret=self._rules.secret or None,
            token_endpoint_auth_method=method,
            scope=" ".join(scopes),
            redirect_uri=redirect_uri,
            code_challenge_method="S256",
            timeout=_PATIENCE,
        )

    def _description(self) -> Mapping[str, Any]:
        import httpx2

        with self._lock:
            if time.monotonic() - self._described_at < _FRESH:
                return self._described
            url = self._rules.issuer.rstrip("/") + "/.well-known/openid-configuration"
            with httpx2.Client(timeout=_PATIENCE, follow_redirects=False) as client:
                found = _json(client, "GET", url)
            if found.get("issuer") != self._rules.issuer:
                raise Unavailable(
                    f"the provider calls itself {found.get('issuer')!r}, not {self._rules.issuer!r}",
                    hint="set GROUND_OIDC_ISSUER to exactly what it calls itself",
                    code="provider_failed",
                )
            self._described, self._described_at = found, time.monotonic()
            return found

    def _endpoint(self, name: str, hint: str = "") -> str:
        url = self._description().get(name)
        plain = urlsplit(self._rules.issuer).scheme == "http"
        if not isinstance(url, str) or urlsplit(url).scheme not in (("http", "https") if plain else ("https",)):
            raise _refused(f"its description has no {name} that can be used", hint)
        return url

    def _token(self, client: Any, waits: tuple[str, ...] = (), **body: str) -> Any:
        """The token endpoint's answer; one of `waits` when it says so. Raises Denied."""
        from authlib.integrations.base_client import OAuthError  # pyright: ignore[reportMissingTypeStubs]

        try:
            return client.fetch_token(self._endpoint("token_endpoint"), **body)
        except OAuthError as error:
            if error.error in waits:
                return str(error.error)
            raise _refused(f"it says {error.error}: {error.description or 'no more'}") from error
        except ValueError as error:
            raise _refused(f"its answer is none: {error}") from error
        except _http_error() as error:
            raise _unreachable(error) from error

    def _answer(self, client: Any, method: str, url: str, **words: Any) -> Mapping[str, Any]:
        found = _json(client, method, url, withhold_token="auth" not in words, **words)
        if "error" in found:
            raise _refused(f"it says {found['error']}: {found.get('error_description') or 'no more'}")
        return found

    def _claims(self, client: Any, answer: Mapping[str, Any], nonce: str | None) -> Claims:
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise _refused("its answer has no ID token")
        said = self._checked(token, nonce)
        if self._description().get("userinfo_endpoint") and answer.get("access_token"):
            url = self._endpoint("userinfo_endpoint")
            bearer = {"Authorization": f"Bearer {answer['access_token']}"}
            more = _json(client, "GET", url, withhold_token=True, headers=bearer)
            if more.get("sub") != said["sub"]:
                raise _refused("its userinfo speaks of somebody else")
            said = {**more, **said}
        groups = said.get(self._rules.groups)
        if isinstance(groups, str):
            groups = [groups]
        return Claims(
            issuer=self._rules.issuer,
            subject=str(said["sub"]),
            names=tuple(str(said[name]) for name in ("preferred_username", "sub") if said.get(name)),
            full_name=_text(said.get("name")),
            email=_text(said.get("email")),
            email_verified=said.get("email_verified") is True,
            groups=tuple(str(group) for group in groups) if isinstance(groups, list) else (),  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            methods=frozenset(str(method) for method in said.get("amr") or ()),
            level=_text(said.get("acr")),
        )

    def _checked(self, token: str, nonce: str | None) -> dict[str, Any]:
        """The ID token's claims. Raises Denied for one that proves nothing."""
        from joserfc.errors import JoseError

        try:
            try:
                return checked_claims(token, self._key_set(), self._rules, nonce)
            except _UnknownKeyError:
                return checked_claims(token, self._key_set(anew=True), self._rules, nonce)
        except (JoseError, ValueError) as error:
            raise _refused(f"its ID token does not hold: {error}") from error

    def _key_set(self, *, anew: bool = False) -> Any:
        """The provider's keys; asked for again when it signs with one that was not among them."""
        import httpx2
        from joserfc.jwk import KeySet

        url = self._endpoint("jwks_uri")
        with self._lock:
            age = time.monotonic() - self._keys_at
            if self._keys is None or age > _FRESH or (anew and age > _LEAST_BETWEEN_KEYS):
                with httpx2.Client(timeout=_PATIENCE, follow_redirects=False) as client:
                    found = _json(client, "GET", url)
                self._keys, self._keys_at = KeySet.import_key_set(cast("Any", found)), time.monotonic()
            return self._keys


class _UnknownKeyError(ValueError):
    """The ID token names a key that the provider's set did not have."""


def checked_claims(token: str, keys: Any, rules: ProviderRules, nonce: str | None) -> dict[str, Any]:
    """The claims of an ID token that this client may believe. nonce: of the login, None for a device's.

    Raises joserfc's JoseError, or ValueError: unsigned, signed by a secret, by an unknown key, of another issuer, for
    another client, over, or of another login."""
    from authlib.oidc.core import CodeIDToken  # pyright: ignore[reportMissingTypeStubs]
    from joserfc import jws, jwt

    head = jws.extract_compact(token.encode()).headers()
    if head.get("alg") not in ALGORITHMS:
        raise ValueError(f"its signature is {head.get('alg')!r}, which proves nothing here")
    known = {key.kid for key in keys.keys}
    if head.get("kid") is not None and head["kid"] not in known:
        raise _UnknownKeyError(f"its key {head['kid']!r} is not the provider's")
    decoded = jwt.decode(token, keys, algorithms=list(ALGORITHMS))
    options = {
        "iss": {"essential": True, "values": [rules.issuer]},
        "aud": {"essential": True, "value": rules.client_id},
    }
    claims: Any = CodeIDToken(decoded.claims, decoded.header, options, {"nonce": nonce, "client_id": rules.client_id})
    claims.validate(leeway=_LEEWAY)
    return dict(decoded.claims)


def _json(client: Any, method: str, url: str, **words: Any) -> Mapping[str, Any]:
    """An answer's JSON object, of whatever status below 500."""
    try:
        reply = client.request(method, url, **words)
        found = reply.json() if reply.status_code < 500 else None
    except _http_error() as error:
        raise _unreachable(error) from error
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Unavailable(
            f"the provider's answer at {url} is none (status {reply.status_code})",  # pyright: ignore[reportPossiblyUnboundVariable]
            hint="is GROUND_OIDC_ISSUER right?",
            code="provider_failed",
        )
    return cast("Mapping[str, Any]", found)


def _http_error() -> type[Exception]:
    import httpx2

    return httpx2.HTTPError


def _unreachable(error: Exception) -> Unavailable:
    return Unavailable(f"the provider does not answer: {error}", hint="try again", code="provider_failed")


def _refused(why: str, hint: str = "") -> Denied:
    return Denied(f"the provider's login is not accepted: {why}", hint=hint or "log in again", code="login_refused")


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
