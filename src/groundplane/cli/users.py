"""`ground users …`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from groundplane.cli.commands import Lazy, json_option
from groundplane.model.errors import Invalid

if TYPE_CHECKING:
    from groundplane.model.accounts import UserDocument

_HERE = "groundplane.cli.users"

users = Lazy(
    "users",
    {
        "create": (f"{_HERE}:create", "Make an account."),
        "list": (f"{_HERE}:list_", "List accounts."),
        "set": (f"{_HERE}:set_", "Change an account."),
        "disable": (f"{_HERE}:disable", "Let an account in no more; its tokens and sessions end at once."),
        "enable": (f"{_HERE}:enable", "Let it in again; a lock after wrong passwords ends."),
    },
    help="Accounts of people and programs. You, at this machine's own control plane, need none.",
)


def password(*, anew: bool = True) -> str:
    """A password: asked for at a terminal, else the first line of standard input."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=anew, err=True))
    found = sys.stdin.readline().rstrip("\n")
    if not found:
        raise Invalid("there is no password on standard input", hint="printf '%s' \"$PASSWORD\" | ground … --password")
    return found


@click.command()
@click.argument("name", metavar="NAME")
@click.option("--password", "with_password", is_flag=True, help="With a local password: asked for, or standard input.")
@click.option("--email", metavar="ADDRESS", default="", help="Whose provider's account may take it over.")
@click.option("--service", is_flag=True, help="Of a program: it has short tokens alone.")
@json_option
def create(name: str, with_password: bool, email: str, service: bool, as_json: bool) -> None:
    """Make an account. The provider's login of that name is let in by it; it is made then, when it is not there."""
    from groundplane.client import Client

    given = password() if with_password else None
    with Client() as client:
        _show(client.create_user(name, service=service, email=email, password=given), as_json)


@click.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List accounts."""
    from groundplane.cli import output
    from groundplane.client import Client

    with Client() as client:
        found = client.users()
    if as_json:
        output.print_json(found)
        return
    if not found:
        print("no accounts yet: ground users create NAME makes one", file=sys.stderr)
        return
    output.table(
        ("NAME", "KIND", "E-MAIL", "LOGIN", "SEEN", "STATE"),
        [(u.name, u.kind, u.email, _login(u), output.age(u.seen_at), _state(u)) for u in found],
    )


@click.command("set")
@click.argument("name", metavar="NAME")
@click.argument("attributes", metavar="[KEY=VALUE]...", nargs=-1)
@click.option("--password", "with_password", is_flag=True, help="Another password: asked for, or standard input.")
@click.option("--no-password", is_flag=True, help="No local password any more.")
@click.option("--email", metavar="ADDRESS", help="Another address.")
@json_option
def set_(
    name: str,
    attributes: tuple[str, ...],
    with_password: bool,
    no_password: bool,
    email: str | None,
    as_json: bool,
) -> None:
    """Change an account. KEY=VALUE: what policies may ask for, such as training=gcp@2027-05-01; KEY= takes it away."""
    from groundplane.client import Client

    if with_password and no_password:
        raise Invalid("--password and --no-password contradict each other", hint="leave one of them away")
    pairs = dict(_pair(text) for text in attributes)
    given = password() if with_password else "" if no_password else None
    with Client() as client:
        _show(client.set_user(name, email=email, password=given, attributes=pairs), as_json)


@click.command()
@click.argument("name", metavar="NAME")
@json_option
def disable(name: str, as_json: bool) -> None:
    """Let an account in no more; its tokens and sessions end at once."""
    from groundplane.client import Client

    with Client() as client:
        _show(client.disable_user(name), as_json)


@click.command()
@click.argument("name", metavar="NAME")
@json_option
def enable(name: str, as_json: bool) -> None:
    """Let it in again; a lock after wrong passwords ends."""
    from groundplane.client import Client

    with Client() as client:
        _show(client.enable_user(name), as_json)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise Invalid(f"{text!r} is no KEY=VALUE", hint="ground users set NAME clearance=phi")
    return key, value


def _show(user: UserDocument, as_json: bool) -> None:
    from groundplane.cli import output

    if as_json:
        output.print_json(user)
        return
    output.pairs(
        [
            ("name", user.name),
            ("kind", user.kind),
            ("e-mail", user.email),
            ("login", _login(user)),
            ("state", _state(user)),
            *user.attributes.items(),
        ]
    )


def _login(user: UserDocument) -> str:
    return user.provider or ("password" if user.password else "tokens" if user.kind == "service" else "none yet")


def _state(user: UserDocument) -> str:
    return "disabled" if user.disabled_at else "locked" if user.locked_until else "enabled"
