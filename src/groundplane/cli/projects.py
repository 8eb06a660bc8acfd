"""`ground projects …`."""

from __future__ import annotations

import sys

import click

from groundplane.cli.commands import Lazy, json_option

_HERE = "groundplane.cli.projects"

projects = Lazy(
    "projects",
    {
        "create": (f"{_HERE}:create", "Give a team a project."),
        "list": (f"{_HERE}:list_", "List projects and their teams."),
        "set": (f"{_HERE}:set_", "Say what a project's data is."),
    },
    help="Whose the runs of a project are: its name is that of `[project]` in ground.toml.",
)


@click.command()
@click.argument("name", metavar="NAME")
@click.option("--team", metavar="TEAM", required=True, help="Whose it is.")
@json_option
def create(name: str, team: str, as_json: bool) -> None:
    """Give a team the project NAME. Runs that it has already stay the owner's."""
    from groundplane.cli import output
    from groundplane.client import Client

    with Client() as client:
        found = client.create_project(name, team)
    if as_json:
        output.print_json(found)
    else:
        output.pairs([("project", found.name), ("team", found.team)])


@click.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List projects and their teams."""
    from groundplane.cli import output
    from groundplane.client import Client

    with Client() as client:
        found = client.projects()
    if as_json:
        output.print_json(found)
    elif not found:
        print("no projects yet: ground projects create NAME --team TEAM makes one", file=sys.stderr)
    else:
        output.table(("NAME", "TEAM"), [(project.name, project.team) for project in found])


@click.command("set")
@click.argument("name", metavar="NAME")
@click.option(
    "--labels", metavar="LABEL[,LABEL]...", required=True, help="All of them, like phi,internal; '' takes them away."
)
def set_(name: str, labels: str) -> None:
    """Say what all data of the project NAME is. Its runs have these labels from now on."""
    from groundplane.client import Client

    with Client() as client:
        client.set_labels(name, [word.strip() for word in labels.split(",") if word.strip()])
