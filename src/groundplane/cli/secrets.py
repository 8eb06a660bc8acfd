"""`ground secrets …`."""

from __future__ import annotations

import sys

import click

from groundplane.cli.commands import Lazy, json_option

_HERE = "groundplane.cli.secrets"

secrets = Lazy(
    "secrets",
    {
        "set": (f"{_HERE}:set_", "Set a secret to what standard input gives."),
        "list": (f"{_HERE}:list_", "List secrets, never their values."),
        "rm": (f"{_HERE}:rm", "Forget a secret."),
    },
    help="Values that work is given and nobody is shown: kept sealed, out of logs.",
)
_project = click.option("--project", metavar="P", help="Of this project alone; its own goes before that of all.")


@click.command("set")
@click.argument("name")
@_project
@json_option
def set_(name: str, project: str | None, as_json: bool) -> None:
    """Set the secret NAME to what standard input gives, byte for byte.

    A newline at its end belongs to it: printf %s VALUE | ground secrets set NAME leaves it out. On a terminal, it is
    asked for and not shown.
    """
    from groundplane.cli import output
    from groundplane.client import Client

    if sys.stdin.isatty():
        value = click.prompt(f"value of {name}", hide_input=True, err=True).encode()
    else:
        value = sys.stdin.buffer.read()
    with Client() as client:
        found = client.set_secret(name, value, project)
    if as_json:
        output.print_json(found)
        return
    print(f"{found.name}: version {found.version}, of {_whose(found.project)}")


@click.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List secrets, never their values."""
    from groundplane.cli import output
    from groundplane.client import Client

    with Client() as client:
        found = client.secrets()
    if as_json:
        output.print_json(found)
        return
    if not found:
        print("no secrets yet: printf %s VALUE | ground secrets set NAME", file=sys.stderr)
        return
    output.table(
        ("NAME", "PROJECT", "VERSION", "SET", "BY"),
        [(s.name, s.project or "(all)", str(s.version), output.age(s.set_at), s.set_by) for s in found],
    )


@click.command()
@click.argument("name")
@_project
def rm(name: str, project: str | None) -> None:
    """Forget the secret NAME: work that names it is refused from now on."""
    from groundplane.client import Client

    with Client() as client:
        client.remove_secret(name, project)


def _whose(project: str | None) -> str:
    return f"project {project}" if project else "all projects"
