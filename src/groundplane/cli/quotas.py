"""`ground quotas …`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from groundplane.cli.commands import Lazy, json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from groundplane.model.documents import QuotaDocument

_HERE = "groundplane.cli.quotas"

quotas = Lazy(
    "quotas",
    {
        "set": (f"{_HERE}:set_", "Limit what a team or a project may have at once."),
        "list": (f"{_HERE}:list_", "List quotas and what is used of them."),
        "rm": (f"{_HERE}:rm", "Forget quotas of a team or a project."),
    },
    help="What a team, with all below it, or a project may have at once. Beyond it work waits, or is denied.",
)


@click.command("set")
@click.argument("name", metavar="TEAM|PROJECT")
@click.argument("limits", metavar="RESOURCE=NUMBER...", nargs=-1, required=True)
@click.option(
    "--over",
    type=click.Choice(["queue", "deny"]),
    help="Beyond it: wait until enough is given back, or refuse the launch. Default: as it was, else queue.",
)
@json_option
def set_(name: str, limits: tuple[str, ...], over: str | None, as_json: bool) -> None:
    """Limit what TEAM, with all teams below it, or PROJECT may have at once.

    RESOURCE is gpus, cpus, runs (that are under way) or seats:ENGINE. A name that is no team's is a project's: the
    `name` of [project] in ground.toml. Where both are called so, write team:NAME or project:NAME.
    """
    from groundplane.cli import output
    from groundplane.client import Client

    wanted = dict(map(_limit, limits))
    with Client() as client:
        found = client.set_quota(name, wanted, over)
    if as_json:
        output.print_json(found)
    else:
        _table(found)


@click.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List quotas, what is used of each, and how much waits for it."""
    from groundplane.cli import output
    from groundplane.client import Client

    with Client() as client:
        found = client.quotas()
    if as_json:
        output.print_json(found)
    elif found:
        _table(found)
    else:
        print("no quotas yet: ground quotas set TEAM gpus=4 makes one", file=sys.stderr)


@click.command()
@click.argument("name", metavar="TEAM|PROJECT")
@click.argument("resources", metavar="[RESOURCE]...", nargs=-1)
def rm(name: str, resources: tuple[str, ...]) -> None:
    """Forget these quotas of a team or a project, or all that it has."""
    from groundplane.client import Client

    with Client() as client:
        client.remove_quota(name, resources)


def _limit(text: str) -> tuple[str, float]:
    resource, _, number = text.partition("=")
    try:
        return resource, float(number)
    except ValueError:
        raise click.UsageError(f"{text!r} is no limit: write it like gpus=4") from None


def _table(found: Sequence[QuotaDocument]) -> None:
    from groundplane.cli import output

    output.table(
        ("NAME", "KIND", "RESOURCE", "LIMIT", "USED", "WAITING", "OVER"),
        [
            (output.printable(q.name), q.kind, q.resource, f"{q.limit:g}", f"{q.used:g}", str(q.waiting), q.over)
            for q in found
        ],
    )
