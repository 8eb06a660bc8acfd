"""`ground connections …`."""

from __future__ import annotations

import sys

import click

from groundplane.cli.commands import Lazy, json_option

_HERE = "groundplane.cli.connections"

connections = Lazy(
    "connections",
    {
        "add": (f"{_HERE}:add", "Name a database or bucket."),
        "list": (f"{_HERE}:list_", "List connections."),
        "show": (f"{_HERE}:show", "Show where one leads and what a task gets of it."),
        "check": (f"{_HERE}:check", "Look whether what one leads to answers."),
        "rm": (f"{_HERE}:rm", "Forget a connection."),
    },
    help="Databases and buckets, named once: each toolchain finds them in its own idiom.",
)
_project = click.option("--project", metavar="P", help="Of this project alone; its own goes before that of all.")


@click.command()
@click.argument("name")
@click.argument("url")
@click.option("--password-secret", "secret", metavar="SECRET", help="Name of the secret that is its password.")
@_project
@json_option
def add(name: str, url: str, secret: str | None, project: str | None, as_json: bool) -> None:
    """Name the database or bucket at URL; the same name again changes where it leads.

    URL: postgresql://USER@HOST:PORT/DATABASE, or s3://KEY-ID@BUCKET/PREFIX, without its password.
    """
    from groundplane.cli import output
    from groundplane.client import Client

    with Client() as client:
        found = client.add_connection(name, url, secret, project)
        known = {each.name for each in client.secrets()} if secret else set[str | None]()
    if as_json:
        output.print_json(found)
    else:
        print(f"{found.name}: {output.printable(found.url)}")
    if secret and secret not in known:
        print(
            f"note: there is no secret {secret} yet: printf %s PASSWORD | ground secrets set {secret}", file=sys.stderr
        )


@click.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List connections."""
    from groundplane.cli import output
    from groundplane.client import Client

    with Client() as client:
        found = client.connections()
    if as_json:
        output.print_json(found)
        return
    if not found:
        print("no connections yet: ground connections add NAME postgresql://USER@HOST/DATABASE", file=sys.stderr)
        return
    rows = [(c.name, c.project or "(all)", output.printable(c.url), c.secret or "-") for c in found]
    output.table(("NAME", "PROJECT", "URL", "PASSWORD"), rows)


@click.command()
@click.argument("name")
@_project
@json_option
def show(name: str, project: str | None, as_json: bool) -> None:
    """Show where the connection NAME leads, and which variables a task has of it."""
    from groundplane.cli import output
    from groundplane.client import Client

    with Client() as client:
        found = client.connection(name, project)
    if as_json:
        output.print_json(found)
        return
    print(f"{found.name}: {output.printable(found.url)}")
    print(f"  project: {found.project or '(all)'}")
    print(f"  password: {f'secret {found.secret}' if found.secret else 'none'}")
    if found.url.startswith("postgresql:"):
        print(f"  ODBC data source and libpq service: {found.name}")
    print(f"  variables: {', '.join(found.variables)}")


@click.command()
@click.argument("name")
@_project
@json_option
def check(name: str, project: str | None, as_json: bool) -> int:
    """Look whether what NAME leads to answers the control plane. Exit code 3 when not."""
    from groundplane.cli import output
    from groundplane.client import Client

    with Client() as client:
        found = client.check_connection(name, project)
    if as_json:
        output.print_json(found)
    else:
        print(f"{found.name}: {output.paint('ok' if found.ok else 'error', sys.stdout)}: {found.message}")
        if found.hint:
            print(f"  hint: {found.hint}")
    return 0 if found.ok else 3


@click.command()
@click.argument("name")
@_project
def rm(name: str, project: str | None) -> None:
    """Forget the connection NAME."""
    from groundplane.client import Client

    with Client() as client:
        client.remove_connection(name, project)
