"""`ground login`, `logout` and `whoami`."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import click

from groundplane.cli.commands import json_option
from groundplane.model.errors import Denied, Invalid

if TYPE_CHECKING:
    from groundplane.client import Client
    from groundplane.model.accounts import TokenDocument


def _url() -> str:
    url = os.environ.get("GROUND_URL")
    if not url:
        raise Invalid("GROUND_URL names no control plane", hint="your own one on this machine needs no login")
    return url


@click.command()
@click.option("--user", metavar="NAME", help="By a local password, asked for or on standard input.")
def login(user: str | None) -> None:
    """Log in at the control plane that GROUND_URL names. Prints an address and a code, and ends when you have confirmed
    it in a browser, on any machine. The token is kept for 12 hours in a file that only you can read."""
    from groundplane.cli import output
    from groundplane.cli.users import password
    from groundplane.client import Client, logins

    url = _url()
    with Client() as client:
        made = _confirmed(client) if user is None else client.log_in(user, password(anew=False))
    path = logins.keep(url, made.token or "", made.expires_at or "")
    until = output.moment(made.expires_at or "").astimezone()
    print(f"logged in as {output.printable(made.user)} until {until:%Y-%m-%d %H:%M}; kept in {path}", file=sys.stderr)


def _confirmed(client: Client) -> TokenDocument:
    """Waits until the person has confirmed; the token. Raises Denied when that takes too long."""
    from groundplane.cli import output

    begun = client.begin_login()
    where = output.printable(str(begun["verification_uri_complete"] or begun["verification_uri"]))
    print(f"open  {where}", flush=True)
    print(f"code  {output.printable(str(begun['user_code']))}", flush=True)
    interval = float(begun["interval"])
    limit = time.monotonic() + float(begun["expires_in"])
    while time.monotonic() < limit:
        time.sleep(interval)
        found = client.finish_login(str(begun["device_code"]))
        if not isinstance(found, str):
            return found
        if found == "slow_down":
            interval += 5
    raise Denied("nobody confirmed the login in time", hint="ground login again")


@click.command()
def logout() -> None:
    """End the login at the control plane that GROUND_URL names."""
    from groundplane.client import Client, logins
    from groundplane.model.errors import Unauthenticated

    url = _url()
    token = logins.token_for(url)
    if token is not None:
        with Client(token=token) as client:
            try:
                client.log_out()
            except Unauthenticated:
                pass  # it has ended already
    if not logins.forget(url):
        print("you were not logged in there", file=sys.stderr)


@click.command()
@json_option
def whoami(as_json: bool) -> None:
    """Show for whom your commands act, with its teams and roles."""
    from groundplane.cli import output
    from groundplane.client import Client

    with Client() as client:
        found = client.whoami()
    if as_json:
        output.print_json(found)
        return
    output.pairs(
        [
            ("user", found.user),
            ("name", found.name),
            ("e-mail", found.email),
            ("teams", ", ".join(found.teams)),
            ("roles", ", ".join(found.roles)),
        ]
    )
