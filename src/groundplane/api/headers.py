"""What a browser is told with every answer over TCP: to run nothing, to show it nowhere else, to keep nothing."""

from __future__ import annotations

from starlette.types import Message, Send

_PAGES = "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
# What a run made may be a page with scripts: opened here it must not act as whoever looks at it.
_DATA = "default-src 'none'; frame-ancestors 'none'; sandbox"
_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),  # with no-referrer a form's Origin would be `null`
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_YEAR = (b"strict-transport-security", b"max-age=31536000")


def hardened(send: Send, *, page: bool, secure: bool) -> Send:
    """Sends with these headers. page: one of ours. secure: people reach us by https."""
    more = [*_ALWAYS, (b"content-security-policy", (_PAGES if page else _DATA).encode())]
    if secure:
        more.append(_YEAR)

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            if not any(name == b"cache-control" for name, _ in headers):
                headers.append((b"cache-control", b"no-store"))
            message = {**message, "headers": [*headers, *more]}
        await send(message)

    return sent
