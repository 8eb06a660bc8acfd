"""Logging in and out: a provider or a local password at the page, a device code or a password at the command line."""

from __future__ import annotations

import hmac
import json
import secrets
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Request, Response

from groundplane.api import pages
from groundplane.api.limits import Rate
from groundplane.api.peers import Doors, Peer, bearer_of, cookie_of
from groundplane.api.problems import problem_reply
from groundplane.api.replies import Here, parse, reply
from groundplane.model.errors import Denied, GroundError, Throttled, Unauthenticated
from groundplane.services import identities, oidc, sessions, tokens, users
from groundplane.services.platform import Platform
from groundplane.services.variables import home_key

T = TypeVar("T")
router = APIRouter(include_in_schema=False)

_LOGIN_SECONDS = 600.0
_POLLS = 10
"""Times the rate of logins: device codes are asked for again and again, and pages are looked at."""


@dataclass(frozen=True, slots=True)
class PasswordRequest:
    """A local account's login at the command line."""

    name: str
    password: str


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """device_code: as /auth/device gave it."""

    device_code: str


class Logins:
    """What logins have in common while the control plane runs. For several threads."""

    def __init__(self, platform: Platform, doors: Doors) -> None:
        self.doors = doors
        rules = platform.logins
        self.provider = oidc.Provider(rules.provider) if rules.provider else None
        self._tries, self._asks = Rate(rules.rate), Rate(rules.rate * _POLLS)
        self._used: dict[str, float] = {}
        self._lock = threading.Lock()

    def count(self, address: str, *, a_try: bool = False) -> None:
        """One more from that address. a_try: with a password. Raises Throttled."""
        if not (self._tries if a_try else self._asks).take(address):
            raise Throttled("too many logins from this address", hint="try again in a minute")

    def once(self, state: str) -> bool:
        """Whether the state of a login comes back for the first time."""
        at = time.monotonic()
        with self._lock:
            self._used = {each: until for each, until in self._used.items() if until > at}
            return self._used.setdefault(state, at + _LOGIN_SECONDS) == at + _LOGIN_SECONDS


def _logins(request: Request) -> Logins:
    return request.app.state.logins


def _headers(request: Request) -> dict[bytes, bytes]:
    return dict(request.scope["headers"])


def _source(request: Request) -> str:
    peer: Peer = request.scope["state"]["peer"]
    return peer.address or "socket"


def _body(kind: type[T]) -> Callable[[Request], Awaitable[T]]:
    """A dependency that reads the request's body as `kind`; unlike `replies.body`, of whoever it may be."""

    async def read(request: Request) -> T:
        return parse(kind, await request.body())

    return read


async def _form(request: Request) -> dict[str, str]:
    text = (await request.body()).decode("utf-8", "replace")
    return {name: values[0] for name, values in parse_qs(text, keep_blank_values=True, max_num_fields=20).items()}


All = Annotated[Logins, Depends(_logins)]
From = Annotated[str, Depends(_source)]
Form = Annotated[dict[str, str], Depends(_form)]


# --- pages --------------------------------------------------------------------------------------------------------


@router.get("/")
def home(request: Request, platform: Here, logins: All, source: From) -> Response:
    """Who is logged in; else the ways to, with status 401."""
    logins.count(source)
    cookie = cookie_of(_headers(request), logins.doors.cookie)
    found = sessions.find(platform, cookie, source) if cookie else None
    if found is None:
        if b"text/html" not in _headers(request).get(b"accept", b""):
            raise Unauthenticated("this control plane wants to know who asks", hint="log in at /auth/login")
        return _login_page(request, platform, logins, 401)
    who = users.whoami(platform, found.actor)
    return _html(pages.home(name=who.user, email=who.email, teams=who.teams, roles=who.roles, csrf=found.csrf))


@router.get("/auth/style.css")
def style() -> Response:
    """How the pages look."""
    return Response(pages.STYLE, media_type="text/css", headers={"Cache-Control": "max-age=3600"})


@router.get("/auth/login")
def login(request: Request, platform: Here, logins: All, source: From) -> Response:
    """To the provider; without one, the form for a local password."""
    logins.count(source)
    if logins.provider is None:
        return _login_page(request, platform, logins)
    begun = {
        "state": secrets.token_urlsafe(32),
        "nonce": secrets.token_urlsafe(32),
        "verifier": secrets.token_urlsafe(48),
        "redirect": _redirect_uri(request, logins.doors),
    }
    url = logins.provider.authorization_url(begun["redirect"], begun["state"], begun["nonce"], begun["verifier"])
    answer = Response(status_code=303, headers={"Location": url})
    _set_cookie(answer, logins.doors, "login", _sealed(platform, {**begun, "at": time.time()}), _LOGIN_SECONDS)
    return answer


@router.get("/auth/callback")
def callback(request: Request, platform: Here, logins: All, source: From) -> Response:
    """Whom the provider sends back. A problem when it is not who began."""
    logins.count(source)
    try:
        cookie = _returned(request, platform, logins, source)
    except GroundError as error:
        answer = problem_reply(error)
        _drop_cookie(answer, logins.doors, "login")
        return answer
    return _let_in(request, platform, logins, cookie, source)


@router.post("/auth/login")
def log_in(request: Request, platform: Here, logins: All, source: From, form: Form) -> Response:
    """By a local password, from the form."""
    logins.count(source, a_try=True)
    shown = cookie_of(_headers(request), _name(logins.doors, "form"))
    if not shown or not hmac.compare_digest(sessions.csrf(platform, shown).encode(), form.get("csrf", "").encode()):
        raise Denied("the form is not of a page of ours, or too old", hint="open /auth/login again", code="no_csrf")
    try:
        name, password = form.get("name", ""), form.get("password", "")
        cookie = sessions.by_password(platform, name, password, source, sessions.opened)
    except Unauthenticated as error:
        return _login_page(request, platform, logins, 401, error.message)
    return _let_in(request, platform, logins, cookie, source)


@router.api_route("/auth/logout", methods=["GET", "POST"])
def log_out(request: Request, platform: Here, logins: All, source: From, form: Form) -> Response:
    """Ends the session, or takes back the token that is shown. Not from another site's page."""
    headers = _headers(request)
    bearer = bearer_of(headers)
    if bearer:
        actor = tokens.actor_of(platform, bearer, source)
        tokens.revoke(platform, actor, actor.credential)
        return reply({"ok": True})
    cookie = cookie_of(headers, logins.doors.cookie)
    if cookie:
        csrf = form.get("csrf") or headers.get(b"x-csrf-token", b"").decode("latin-1")
        ours = hmac.compare_digest(csrf.encode(), sessions.csrf(platform, cookie).encode())
        if request.method == "GET":  # typed, or a link of ours: browsers say so
            ours = headers.get(b"sec-fetch-site", b"none") in (b"none", b"same-origin")
        if not ours:
            raise Denied("the request does not come from a page of ours", hint="log out at /", code="no_csrf")
        sessions.end(platform, cookie, source)
    answer = Response(status_code=303, headers={"Location": "/"})
    _drop_cookie(answer, logins.doors, "")
    return answer


# --- the command line ---------------------------------------------------------------------------------------------


@router.post("/auth/token")
def token(
    platform: Here, logins: All, source: From, request: Annotated[PasswordRequest, Depends(_body(PasswordRequest))]
) -> Response:
    """A token for a local password."""
    logins.count(source, a_try=True)
    return reply(sessions.by_password(platform, request.name, request.password, source, tokens.of_login), 201)


@router.post("/auth/device")
def device(logins: All, source: From) -> Response:
    """Begins a login that is confirmed in a browser elsewhere."""
    logins.count(source)
    if logins.provider is None:
        raise Denied(
            "this control plane has no provider to log in with",
            hint="`ground login --user NAME` takes a local password; or set GROUND_TOKEN",
            code="no_provider",
        )
    return reply(logins.provider.begin_device())


@router.post("/auth/device/token")
def device_token(
    platform: Here, logins: All, source: From, request: Annotated[DeviceRequest, Depends(_body(DeviceRequest))]
) -> Response:
    """The token, once it was confirmed; until then 202 with what the provider says instead."""
    logins.count(source)
    if logins.provider is None:
        raise Denied("this control plane has no provider to log in with", code="no_provider")
    found = logins.provider.poll_device(request.device_code)
    if isinstance(found, str):
        return reply({"pending": found}, 202)
    return reply(identities.logged_in(platform, found, source, tokens.of_login), 201)


# --- how ----------------------------------------------------------------------------------------------------------


def _returned(request: Request, platform: Platform, logins: Logins, source: str) -> str:
    """The session of who logged in at the provider, from what the browser brings back: its cookie. Raises Denied."""
    query = request.query_params
    sealed = cookie_of(_headers(request), _name(logins.doors, "login"))
    begun = _unsealed(platform, sealed)
    if logins.provider is None or begun is None or time.time() - begun["at"] > _LOGIN_SECONDS:
        raise Denied("no login of this browser waits for an answer", hint="log in again", code="login_refused")
    if not hmac.compare_digest(query.get("state", "").encode(), begun["state"].encode()):
        raise Denied("the answer is not to this browser's login", hint="log in again", code="login_refused")
    if not logins.once(begun["state"]):
        raise Denied("this answer has been used already", hint="log in again", code="login_refused")
    if "error" in query:
        told = query.get("error_description") or query["error"]
        raise Denied(f"the provider refused the login: {told}", hint="log in again", code="login_refused")
    if "iss" in query and platform.logins.provider and query["iss"] != platform.logins.provider.issuer:
        raise Denied("the answer is another provider's", hint="log in again", code="login_refused")
    if not query.get("code"):
        raise Denied("the answer has no code", hint="log in again", code="login_refused")
    claims = logins.provider.exchange(begun["redirect"], query["code"], begun["nonce"], begun["verifier"])
    return identities.logged_in(platform, claims, source, sessions.opened)


def _let_in(request: Request, platform: Platform, logins: Logins, cookie: str, source: str) -> Response:
    """Hands the session out; one that the browser had ends."""
    before = cookie_of(_headers(request), logins.doors.cookie)
    if before:
        sessions.end(platform, before, source)
    answer = Response(status_code=303, headers={"Location": "/"})
    _set_cookie(answer, logins.doors, "", cookie, platform.logins.longest)
    _drop_cookie(answer, logins.doors, "login")
    _drop_cookie(answer, logins.doors, "form")
    return answer


def _login_page(request: Request, platform: Platform, logins: Logins, status: int = 200, wrong: str = "") -> Response:
    name = _name(logins.doors, "form")
    shown = cookie_of(_headers(request), name) or secrets.token_urlsafe(32)
    text = pages.login(
        provider=logins.provider is not None,
        password=sessions.has_password(platform),
        csrf=sessions.csrf(platform, shown),
        wrong=wrong,
    )
    answer = _html(text, status)
    _set_cookie(answer, logins.doors, "form", shown, _LOGIN_SECONDS)
    return answer


def _html(text: str, status: int = 200) -> Response:
    return Response(text, status, media_type="text/html")


def _redirect_uri(request: Request, doors: Doors) -> str:
    """Where the provider sends browsers back to. The Host was found to be one of ours."""
    scheme = "https" if doors.tls else "http"
    host = _headers(request).get(b"host", b"").decode("latin-1")
    return f"{doors.url or f'{scheme}://{host}'}/auth/callback"


def _name(doors: Doors, what: str) -> str:
    """The name of a cookie beside the session's."""
    return f"{doors.cookie}-{what}" if what else doors.cookie


def _set_cookie(answer: Response, doors: Doors, what: str, value: str, seconds: float) -> None:
    # Lax: a browser that the provider sends back has to show it.
    answer.set_cookie(
        _name(doors, what), value, max_age=int(seconds), path="/", secure=doors.secure, httponly=True, samesite="lax"
    )


def _drop_cookie(answer: Response, doors: Doors, what: str) -> None:
    answer.delete_cookie(_name(doors, what), path="/", secure=doors.secure, httponly=True, samesite="lax")


def _sealed(platform: Platform, begun: dict[str, Any]) -> str:
    """A login that has begun, for the browser to keep: unreadable, and not to be made up."""
    import base64

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = secrets.token_bytes(12)
    box = AESGCM(_login_key(platform)).encrypt(nonce, json.dumps(begun).encode(), b"login")
    return base64.urlsafe_b64encode(nonce + box).decode().rstrip("=")


def _unsealed(platform: Platform, text: str) -> dict[str, Any] | None:
    import base64

    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return json.loads(AESGCM(_login_key(platform)).decrypt(raw[:12], raw[12:], b"login"))
    except (InvalidTag, ValueError):
        return None


def _login_key(platform: Platform) -> bytes:
    return hmac.digest(home_key(platform.home), b"groundplane logins", "sha256")
