"""`ground toolchains …`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import click

from groundplane.cli.commands import Lazy, json_option

_HERE = "groundplane.cli.toolchains"

toolchains = Lazy(
    "toolchains",
    {
        "list": (f"{_HERE}:list_", "List toolchains and the engines found here."),
        "show": (f"{_HERE}:show", "Show a toolchain with its catalogue of versions."),
        "install": (f"{_HERE}:install", "Install a toolchain's open engine."),
    },
    help="Languages and their engines on this machine.",
)


@click.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List toolchains and the engines found on this shell's PATH."""
    from groundplane.cli import output
    from groundplane.client import Client

    with Client() as client:
        found = client.toolchains()
    if as_json:
        output.print_json(found)
        return
    rows: list[tuple[str, ...]] = []
    for toolchain in found:
        for number, engine in enumerate(toolchain.engines):
            here = f"{engine.version or 'version unknown'}" if engine.path else "not here"
            note = engine.note if engine.tested else " ".join(filter(None, ("untested", engine.note)))
            rows.append((toolchain.name if number == 0 else "", engine.name, here, " ".join(toolchain.suffixes), note))
    output.table(("TOOLCHAIN", "ENGINE", "VERSION", "FILES", "NOTE"), rows)


@click.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show a toolchain: its engines, the versions known, where each may come from, until when it is supported."""
    from groundplane.cli import output
    from groundplane.client import Client

    with Client() as client:
        found = client.toolchain(name)
    if as_json:
        output.print_json(found)
    else:
        print("\n".join(_lines(found)))


def _lines(value: Any) -> list[str]:
    """Nested names and values as indented lines; a list of words is one line."""
    if isinstance(value, Mapping):
        found: list[str] = []
        for name, part in cast("Mapping[str, Any]", value).items():
            below = _lines(part)
            if isinstance(part, Mapping) or len(below) > 1:
                found += [f"{name}:", *(f"  {line}" for line in below)]
            elif below and below[0]:
                found.append(f"{name}: {below[0]}")
        return found
    if isinstance(value, list | tuple):
        parts = cast("Sequence[Any]", value)
        if not any(isinstance(part, Mapping) for part in parts):
            return [", ".join(map(str, parts))]
        blocks = [_lines(part) for part in parts]
        return [f"{'  ' if number else '- '}{line}" for block in blocks for number, line in enumerate(block)]
    if isinstance(value, bool):
        return ["yes" if value else "no"]
    return ["" if value is None else str(value)]


@click.command()
@click.argument("name")
def install(name: str) -> None:
    """Install a toolchain's open engine (through apt as root on Debian or Ubuntu), or say what to do."""
    from groundplane.client import Client

    with Client() as client:
        for line in client.install_toolchain(name):
            click.echo(line, err=True)
