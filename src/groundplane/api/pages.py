"""The one page: who is logged in, and how to log in or out. Others come later."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

STYLE = """\
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 26rem; margin: 12vh auto 0; padding: 0 1.5rem; }
h1 { font-size: 1.5rem; margin: 0 0 1.5rem; }
form { display: grid; gap: .75rem; margin-top: 1.5rem; }
label { display: grid; gap: .25rem; }
input, button, .button { font: inherit; padding: .5rem .75rem; border: 1px solid #8888; border-radius: .375rem; }
button, .button { display: block; text-align: center; text-decoration: none; background: #1f5fa8; color: #fff;
  border-color: #1f5fa8; cursor: pointer; }
.wrong { border-left: .25rem solid #b3261e; padding-left: .75rem; }
dl { display: grid; grid-template-columns: auto 1fr; gap: .25rem 1.5rem; margin: 0; }
dt { opacity: .7; }
dd { margin: 0; overflow-wrap: anywhere; }
"""


def login(*, provider: bool, password: bool, csrf: str, wrong: str = "") -> str:
    """The ways in. csrf: what the form has to carry. wrong: what was wrong the last time."""
    parts = [f'<p class="wrong" role="alert">{escape(wrong)}</p>'] if wrong else []
    if provider:
        parts.append('<a class="button" href="/auth/login">Log in with your organisation</a>')
    if password:
        parts.append(
            f'<form method="post" action="/auth/login"><input type="hidden" name="csrf" value="{escape(csrf)}">'
            '<label>Name <input name="name" autocomplete="username" required autofocus></label>'
            '<label>Password <input name="password" type="password" autocomplete="current-password" required></label>'
            "<button>Log in</button></form>"
        )
    if not provider and not password:
        parts.append(
            "<p>Nobody can log in here yet. Whoever runs this control plane makes accounts "
            "(<code>ground users create NAME --password</code>) or names a provider "
            "(<code>GROUND_OIDC_ISSUER</code>).</p>"
        )
    return _page("Log in", "".join(parts))


def home(*, name: str, email: str, teams: Sequence[str], roles: Sequence[str], csrf: str) -> str:
    """Who is logged in."""
    rows = [("Account", name), ("E-mail", email), ("Teams", ", ".join(teams)), ("Roles", ", ".join(roles))]
    told = "".join(f"<dt>{head}</dt><dd>{escape(text) or '–'}</dd>" for head, text in rows)
    return _page(
        "Logged in",
        f'<dl>{told}</dl><form method="post" action="/auth/logout">'
        f'<input type="hidden" name="csrf" value="{escape(csrf)}"><button>Log out</button></form>',
    )


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title} · Groundplane</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="stylesheet" href="/auth/style.css"></head>'
        f"<body><h1>Groundplane</h1><main>{body}</main></body></html>"
    )
