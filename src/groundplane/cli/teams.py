"""`ground teams …`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from groundplane.cli.commands import Lazy, json_option

if TYPE_CHECKING:
    from groundplane.model.accounts import TeamDocument

_HERE = "groundplane.cli.teams"

teams = Lazy(
    "teams",
    {
        "create": (f"{_HERE}:create", "Make a team."),
        "list": (f"{_HERE}:list_", "List teams."),
        "show": (f"{_HERE}:show", "Show a team's members and projects."),
        "add": (f"{_HERE}:add", "Give a user a role in a team."),
        "remove": (f"{_HERE}:remove", "Take a role from a user."),
    },
    help="Teams form a tree below `platform`; who has a role in one has it in all below.",
)


@click.command()
@click.argument("name", metavar="NAME")
@click.option("--parent", metavar="TEAM", help="The team above it; without this it lies below `platform`.")
@json_option
def create(name: str, parent: str | None, as_json: bool) -> None:
    """Make a team."""
    from groundplane.client import Client

    with Client() as client:
        _show(client.create_team(name, parent), as_json)


@click.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List teams."""
    from groundplane.cli import output
    from groundplane.client import Client

    with Client() as client:
        found = client.teams()
    if as_json:
        output.print_json(found)
        return
    if not found:
        print("no teams yet: ground teams create NAME makes one", file=sys.stderr)
        return
    output.table(
        ("NAME", "PARENT", "MEMBERS", "PROJECTS"),
        [(t.name, t.parent or "-", str(len({m.user for m in t.members})), ", ".join(t.projects)) for t in found],
    )


@click.command()
@click.argument("name", metavar="TEAM")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show a team's members and projects."""
    from groundplane.client import Client

    with Client() as client:
        _show(client.team(name), as_json)


@click.command()
@click.argument("team", metavar="TEAM")
@click.argument("user", metavar="USER")
@click.option(
    "--role",
    metavar="ROLE",
    required=True,
    help="viewer, member, maintainer, operator, auditor or owner.",
)
@json_option
def add(team: str, user: str, role: str, as_json: bool) -> None:
    """Give a user a role in a team, and so in all below it."""
    from groundplane.client import Client

    with Client() as client:
        _show(client.add_member(team, user, role), as_json)


@click.command()
@click.argument("team", metavar="TEAM")
@click.argument("user", metavar="USER")
@click.option("--role", metavar="ROLE", help="This role alone; without it, all.")
@json_option
def remove(team: str, user: str, role: str | None, as_json: bool) -> None:
    """Take a role from a user. One that the provider's groups give comes back at the next login."""
    from groundplane.client import Client

    with Client() as client:
        _show(client.remove_member(team, user, role), as_json)


def _show(team: TeamDocument, as_json: bool) -> None:
    from groundplane.cli import output

    if as_json:
        output.print_json(team)
        return
    output.pairs([("team", team.name), ("parent", team.parent or ""), ("projects", ", ".join(team.projects))])
    if team.members:
        output.table(("USER", "ROLE", "FROM"), [(m.user, m.role, m.origin) for m in team.members])
