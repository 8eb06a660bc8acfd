"""`ground backends …`."""

from __future__ import annotations

import sys

import click

from groundplane.cli.commands import Lazy, json_option

_HERE = "groundplane.cli.backends"

backends = Lazy(
    "backends",
    {
        "list": (f"{_HERE}:list_", "List where work can run."),
        "check": (f"{_HERE}:check", "Look at a backend's health now."),
    },
    help="Where work can run.",
)


@click.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List where work can run."""
    from groundplane.cli import output
    from groundplane.client import Client
    from groundplane.model.quantities import format_size

    with Client() as client:
        found = client.backends()
    if as_json:
        output.print_json(found)
        return
    rows = [
        (b.name, b.driver, "ok" if b.ok else "error", f"{b.cpus:g}", format_size(b.memory), str(b.gpus), b.message)
        for b in found
    ]
    output.table(("NAME", "DRIVER", "HEALTH", "CPUS", "MEMORY", "GPUS", "SAYS"), rows, states=2)


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@json_option
def check(names: tuple[str, ...], as_json: bool) -> int:
    """Look at the health of these backends now, or of all. Exit code 3 when one cannot take work."""
    from groundplane.cli import output
    from groundplane.client import Client

    with Client() as client:
        wanted = names or tuple(backend.name for backend in client.backends())
        found = [client.check_backend(name) for name in wanted]
    if as_json:
        output.print_json(found)
    for backend in () if as_json else found:
        print(f"{backend.name}: {output.paint('ok' if backend.ok else 'error', sys.stdout)}: {backend.message}")
        for name, value in backend.facts.items():
            print(f"  {name}: {value}")
        if backend.devices is not None:
            for device in backend.devices.devices:
                print(f"  {device.shown}, {backend.devices.shown}")
            for text in backend.devices.unread:
                print(f"  {text}")
        if backend.hint:
            print(f"  hint: {backend.hint}")
    return 0 if all(backend.ok for backend in found) else 3
