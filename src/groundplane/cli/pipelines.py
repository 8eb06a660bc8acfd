"""`ground pipelines …`: pipelines as files of other systems, and back."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from groundplane.cli.commands import Lazy, json_option

_HERE = "groundplane.cli.pipelines"

pipelines = Lazy(
    "pipelines",
    {
        "compile": (f"{_HERE}:compile_", "Write a pipeline as a file for Kubeflow Pipelines."),
        "import": (f"{_HERE}:import_", "Write a compiled Kubeflow pipeline as a project."),
    },
    help="Pipelines as files of other systems, and back.",
)


@click.command("compile")
@click.argument("name")
@click.option("--to", "target", required=True, metavar="SYSTEM", help="What it is for: kubeflow.")
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="The file."
)
@click.option(
    "-p", "--param", "parameters", multiple=True, metavar="NAME=VALUE", help="Another default of a parameter."
)
@click.option("--env", "runs_in", metavar="NAME", help="Environment of ground.toml that all steps run in.")
@click.option("--fresh", is_flag=True, help="Let Kubeflow reuse nothing of earlier runs.")
@json_option
def compile_(
    name: str,
    target: str,
    out: Path,
    parameters: tuple[str, ...],
    runs_in: str | None,
    fresh: bool,
    as_json: bool,
) -> None:
    """Write the pipeline NAME of the current folder's ground.toml as a file that the kfp SDK and Kubeflow take."""
    from groundplane.cli import output
    from groundplane.client import Client, context, requests
    from groundplane.model.errors import Invalid

    request = requests.request(name, parameters=context.parameters(parameters), runs_in=runs_in, fresh=fresh)
    with Client() as client:
        found = client.compile(request, target)
    try:
        out.write_text(found["text"], encoding="utf-8")
    except OSError as error:
        raise Invalid(f"{out} cannot be written: {error.strerror}", hint="name another file with -o") from None
    if as_json:
        output.print_json({"pipeline": found["pipeline"], "file": str(out), "bytes": out.stat().st_size})
    else:
        print(f"{found['pipeline']} is in {out}")


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="A new or an empty folder."
)
@json_option
def import_(file: Path, out: Path, as_json: bool) -> None:
    """Write FILE, a pipeline that the kfp SDK compiled, as a Groundplane project: ground.toml and a script a step."""
    from groundplane.cli import output
    from groundplane.client import imports

    found = imports.written(file, out)
    if as_json:
        output.print_json(
            {"pipeline": found.name, "folder": str(out), "files": sorted(found.files), "notes": list(found.notes)}
        )
        return
    for note in found.notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"{found.name} is in {out}; run it: ground run {out}")
