"""`ground licences …`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from groundplane.cli.commands import Lazy, json_option

if TYPE_CHECKING:
    from groundplane.model.documents import LicenceDocument

_HERE = "groundplane.cli.licences"

licences = Lazy(
    "licences",
    {
        "set": (f"{_HERE}:set_", "Say how many seats an engine's licence has."),
        "list": (f"{_HERE}:list_", "List pools of seats and who has them."),
        "remove": (f"{_HERE}:remove", "Forget a pool: nothing waits for its seats any more."),
    },
    help="Seats of licensed engines: a task takes one as it takes its CPUs, and waits while there is none.",
)


@click.command("set")
@click.argument("name", metavar="ENGINE")
@click.option(
    "--seats", type=click.IntRange(0), required=True, metavar="N", help="How many tasks may have one at once."
)
@click.option(
    "--server",
    metavar="PORT@HOST",
    help="Believe this FlexLM server's count of what others use; '' for none. Without it the server stays as it was.",
)
@json_option
def set_(name: str, seats: int, server: str | None, as_json: bool) -> None:
    """Say how many seats the licence of ENGINE (matlab, sas, spss, …) has.

    ENGINE may also be the program of a `command = [...]`. With 0 seats no new work of it is taken.
    """
    from groundplane.cli import output
    from groundplane.client import Client

    with Client() as client:
        pool = client.set_licence(name, seats, server)
    if as_json:
        output.print_json(pool)
        return
    print(f"{pool.name}: {_seats(pool.seats)}, {pool.used} in use, {pool.free} free")
    _note(pool)


@click.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List pools of seats, who has them, and how many tasks wait for one."""
    from groundplane.cli import output
    from groundplane.client import Client

    with Client() as client:
        found = client.licences()
    if as_json:
        output.print_json(found)
        return
    if not found:
        print("no pools yet: ground licences set ENGINE --seats N makes one", file=sys.stderr)
        return
    output.table(
        ("NAME", "SEATS", "USED", "FREE", "WAITING", "SERVER"),
        [(p.name, str(p.seats), str(p.used), str(p.free), str(p.waiting), p.server or "-") for p in found],
    )
    for pool in found:
        for seat in pool.holders:
            print(f"{pool.name}: run {seat.run} (step {output.printable(seat.task)}) on {seat.backend}, "
                  f"{output.age(seat.since)}")  # fmt: skip
        _note(pool)


@click.command()
@click.argument("name", metavar="ENGINE")
def remove(name: str) -> None:
    """Forget a pool: nothing waits for its seats any more."""
    from groundplane.client import Client

    with Client() as client:
        client.remove_licence(name)


def _seats(count: int) -> str:
    return "1 seat" if count == 1 else f"{count} seats"


def _note(pool: LicenceDocument) -> None:
    """What the reader of a pool should know beside its numbers."""
    from groundplane.cli.output import printable

    if pool.message:
        print(f"note: {printable(pool.message)}", file=sys.stderr)
    if pool.server:
        print("note: untested: this project has never met a real FlexLM server", file=sys.stderr)
    if not pool.known:
        print(
            f"note: no engine of the catalogue is called {pool.name}: what names that program as its command or "
            "in its #! line takes these seats (`ground toolchains list` shows the engines)",
            file=sys.stderr,
        )
