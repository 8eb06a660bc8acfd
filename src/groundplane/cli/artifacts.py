"""`ground artifacts …`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from groundplane.cli.commands import Lazy, json_option

_HERE = "groundplane.cli.artifacts"

artifacts = Lazy(
    "artifacts",
    {
        "list": (f"{_HERE}:list_", "List a run's artifacts."),
        "get": (f"{_HERE}:get", "Fetch one artifact."),
        "declassify": (f"{_HERE}:declassify", "Take a label off an artifact."),
    },
    help="List and fetch what runs made.",
)


@click.command("list")
@click.argument("run_id", metavar="RUN")
@json_option
def list_(run_id: str, as_json: bool) -> None:
    """List a run's artifacts."""
    from groundplane.cli import output
    from groundplane.client import Client
    from groundplane.model.quantities import format_size

    with Client() as client:
        found = client.artifacts(run_id)
    if as_json:
        output.print_json(found)
    elif found:
        rows = [(a.name, a.kind, format_size(a.size), a.sha256[:12], ", ".join(a.labels)) for a in found]
        columns = 5 if any(a.labels for a in found) else 4
        heading = ("NAME", "KIND", "SIZE", "SHA256", "LABELS")
        output.table(heading[:columns], [row[:columns] for row in rows])
    else:
        print("the run has no artifacts", file=sys.stderr)


@click.command()
@click.argument("run_id", metavar="RUN")
@click.argument("name", metavar="TASK/NAME")
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="PATH",
    help="Where to; a folder, a file, or `-` for standard output. Default: its own name, here.",
)
def get(run_id: str, name: str, path: Path | None) -> None:
    """Fetch the artifact TASK/NAME of a run."""
    from groundplane.cli import delivery, output
    from groundplane.cli.commands import close
    from groundplane.client import Client
    from groundplane.model.errors import NotFound

    with Client() as client:
        found = {artifact.name: artifact for artifact in client.artifacts(run_id)}
        if name not in found:
            raise NotFound(
                f"run {run_id} has no artifact {name!r}", hint=close(name, found).strip() if found else "it has none"
            )
        if path is not None and str(path) == "-":
            delivery.print_content(client, run_id, name)
            return
        own = name.rpartition("/")[2]
        target = Path(own) if path is None else path / own if path.is_dir() else path
        delivery.fetch(client, run_id, found[name], target)
    print(output.printable(str(target)), file=sys.stderr)


@click.command()
@click.argument("run_id", metavar="RUN")
@click.argument("name", metavar="TASK/NAME")
@click.argument("label", metavar="LABEL")
@click.option("--reason", required=True, metavar="TEXT", help="Why it may lose the label; kept with who did it.")
@json_option
def declassify(run_id: str, name: str, label: str, reason: str, as_json: bool) -> None:
    """Take LABEL off the artifact TASK/NAME of a run.

    That content has the label no more in its project: what is made from it from now on does not get it from there.
    """
    from groundplane.cli import output
    from groundplane.client import Client

    with Client() as client:
        found = client.declassify(run_id, name, label, reason)
    if as_json:
        output.print_json(found)
    else:
        print(f"{output.printable(found.name)}: {', '.join(found.labels) or 'no labels'}")
