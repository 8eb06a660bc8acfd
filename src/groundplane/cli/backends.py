"""`ground backends …`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from groundplane.cli.commands import Lazy, json_option

_HERE = "groundplane.cli.backends"

backends = Lazy(
    "backends",
    {
        "list": (f"{_HERE}:list_", "List where work can run."),
        "check": (f"{_HERE}:check", "Look at a backend's health now."),
        "add": (f"{_HERE}:add", "Add a backend."),
        "remove": (f"{_HERE}:remove", "Forget a backend that was added."),
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


@click.command()
@click.argument("name")
@click.option("--driver", required=True, metavar="DRIVER", help="How work runs there: docker.")
@click.option("--host", metavar="URL", help="The engine: unix:///PATH, tcp://HOST:PORT or ssh://USER@HOST.")
@click.option("--tls", metavar="DIR", help="Folder with ca.pem, cert.pem and key.pem, where it asks for them.")
@json_option
def add(name: str, driver: str, host: str | None, tls: str | None, as_json: bool) -> None:
    """Add a backend called NAME; `--on NAME` then runs work there."""
    from groundplane.cli import output
    from groundplane.client import Client

    folder = None if tls is None else str(Path(tls).absolute())
    options = {key: value for key, value in (("host", host), ("tls", folder)) if value is not None}
    with Client() as client:
        backend = client.add_backend(name, driver, options)
    if as_json:
        output.print_json(backend)
        return
    print(f"{backend.name}: {output.paint('ok' if backend.ok else 'error', sys.stdout)}: {backend.message}")
    if backend.hint and not backend.ok:
        print(f"  hint: {backend.hint}")


@click.command()
@click.argument("name")
def remove(name: str) -> None:
    """Forget a backend that was added. Not while a run that has not ended needs it."""
    from groundplane.client import Client

    with Client() as client:
        client.remove_backend(name)
