"""`ground doctor` and `ground schema`."""

from __future__ import annotations

import sys

import click

from groundplane.cli.commands import json_option


@click.command()
@json_option
def doctor(as_json: bool) -> int:
    """Look at this machine, its engines and limits, and say what is missing. Exit code 3 when something is broken."""
    from groundplane.cli import output
    from groundplane.client import Client

    with Client() as client:
        found = client.doctor()
    if as_json:
        output.print_json(found)
    for finding in () if as_json else found:
        level = output.paint(finding.level, sys.stdout, finding.level.ljust(7))
        print(f"{level}  {finding.name}: {finding.message}")
        if finding.hint and finding.level != "ok":
            print(f"         hint: {finding.hint}")
    return 3 if any(finding.level == "error" for finding in found) else 0


@click.command()
def schema() -> None:
    """Print the JSON Schema of ground.toml, for editors."""
    import json

    from groundplane.client import Client

    with Client() as client:
        print(json.dumps(client.schema(), indent=2, ensure_ascii=False))
