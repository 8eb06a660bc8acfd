"""`ground tokens …`."""

from __future__ import annotations

import sys

import click

from groundplane.cli.commands import Lazy, json_option

_HERE = "groundplane.cli.tokens"

tokens = Lazy(
    "tokens",
    {
        "create": (f"{_HERE}:create", "Make a token; it is shown once."),
        "list": (f"{_HERE}:list_", "List tokens, and when each was used last."),
        "revoke": (f"{_HERE}:revoke", "End a token at once."),
    },
    help="What a program shows as GROUND_TOKEN to say for whom it acts.",
)


@click.command()
@click.option("--user", metavar="USER", help="Whose it is; your own without this.")
@click.option(
    "--scope",
    "scopes",
    metavar="ACTION",
    multiple=True,
    help="Only this action (run.see), all of a noun (run.*) or a group (see); repeat. run.submit is enough for "
    "`ground run`: to launch, and to see, follow and cancel the account's own runs.",
)
@click.option("--expires", metavar="TIME", help="How long it holds: 1h, 30d (default 30d; 1h for a service account).")
@json_option
def create(user: str | None, scopes: tuple[str, ...], expires: str | None, as_json: bool) -> None:
    """Make a token. It is shown this once, and kept nowhere."""
    from groundplane.cli import output
    from groundplane.client import Client
    from groundplane.model.quantities import parse_duration

    lifetime = None if expires is None else parse_duration(expires, "--expires")
    with Client() as client:
        made = client.create_token(user, scopes, lifetime)
    if as_json:
        output.print_json(made)
        return
    print(made.token)
    print(f"token {made.id} holds until {made.expires_at}; it is not shown again", file=sys.stderr)


@click.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List tokens, and when each was used last."""
    from groundplane.cli import output
    from groundplane.client import Client

    with Client() as client:
        found = client.tokens()
    if as_json:
        output.print_json([{k: v for k, v in output.wire.plain(token).items() if k != "token"} for token in found])
        return
    if not found:
        print("no tokens yet: ground tokens create makes one", file=sys.stderr)
        return
    output.table(
        ("ID", "USER", "SCOPES", "EXPIRES", "USED"),
        [
            (t.id, t.user or "the owner", ", ".join(t.scopes or ()) or "all", t.expires_at or "-",
             output.age(t.used_at) or "never")
            for t in found
        ],
    )  # fmt: skip


@click.command()
@click.argument("token_id", metavar="ID")
def revoke(token_id: str) -> None:
    """End a token at once."""
    from groundplane.client import Client

    with Client() as client:
        client.revoke_token(token_id)
