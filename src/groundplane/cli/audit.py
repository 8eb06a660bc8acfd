"""`ground audit …`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from groundplane.cli.commands import Lazy, json_option

_HERE = "groundplane.cli.audit"

audit = Lazy(
    "audit",
    {
        "list": (f"{_HERE}:list_", "List events, newest first."),
        "show": (f"{_HERE}:show", "Show an event, and its entry in the log."),
        "export": (f"{_HERE}:export", "Write the whole log, an event a line."),
        "verify": (f"{_HERE}:verify", "Find out whether anybody changed the log."),
        "checkpoint": (f"{_HERE}:checkpoint", "Write the log's signed head, to be kept elsewhere."),
        "key": (f"{_HERE}:key", "Print the key that checks checkpoints."),
        "verifier": (f"{_HERE}:verifier", "Write a program that verifies an exported log by itself."),
        "forget": (f"{_HERE}:forget", "Make past events tell nothing of a person."),
    },
    help="Who did what, and the proof that nobody changed it.",
)

_output = click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    default="-",
    metavar="FILE",
    help="Where to. Default: standard output.",
)


@click.command("list")
@click.option("--actor", "person", metavar="NAME", help="Only what that user did.")
@click.option("--action", metavar="ACTION", help="Only that: run.submit, backend.add, …")
@click.option("--outcome", metavar="OUTCOME", help="Only what ended so: done, denied.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, metavar="N", help="How many.")
@click.option("--cursor", metavar="CURSOR", help="Go on where a page ended (its `next`).")
@json_option
def list_(
    person: str | None, action: str | None, outcome: str | None, limit: int, cursor: str | None, as_json: bool
) -> None:
    """List events, newest first."""
    from groundplane.cli import output
    from groundplane.client import Client

    with Client() as client:
        page = client.events(limit, cursor, action=action, outcome=outcome, person=person)
    if as_json:
        output.print_json(page)
        return
    output.table(
        ("NUMBER", "TIME", "ACTOR", "FROM", "ACTION", "OBJECT", "OUTCOME"),
        [
            (
                "-" if event["number"] is None else str(event["number"]),
                output.when(event["time"]),
                event["actor"],
                event["source"] or "-",
                event["action"],
                event["object"],
                event["outcome"],
            )
            for event in page["events"]
        ],
    )
    if page["next"]:
        print(f"more: ground audit list --cursor {page['next']}", file=sys.stderr)


@click.command()
@click.argument("event")
@json_option
def show(event: str, as_json: bool) -> None:
    """Show an event, by its id or its number in the log."""
    import json

    from groundplane.cli import output
    from groundplane.client import Client

    with Client() as client:
        found = client.event(event)
    if as_json:
        output.print_json(found)
        return
    shown = {**found, "details": json.dumps(found.get("details"), ensure_ascii=False, indent=2)}
    output.pairs([(name, "" if value is None else str(value)) for name, value in shown.items()])


@click.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "ocsf", "cef", "syslog"]),
    default="jsonl",
    show_default=True,
    help="The log's own entries, or the words of another system.",
)
@click.option("--reveal", is_flag=True, help="With names in clear. That is an event too.")
@_output
def export(form: str, reveal: bool, path: Path) -> None:
    """Write the whole log, an event a line, in its order."""
    from groundplane.client import Client

    with Client() as client:
        pieces = client.export_events(form, reveal=reveal)
        if str(path) == "-":
            for piece in pieces:
                sys.stdout.buffer.write(piece)
            return
        fresh = path.with_name(f".{path.name}.part")
        try:
            with fresh.open("wb") as file:
                file.writelines(pieces)
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise


@click.command()
@click.option(
    "--checkpoint",
    "paths",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    metavar="FILE",
    help="A checkpoint that was kept elsewhere; may be given again. Those of GROUND_AUDIT_WITNESS count anyway.",
)
@json_option
def verify(paths: tuple[Path, ...], as_json: bool) -> int:
    """Find out whether anybody changed the log. Exit code 1 names the first event, or the sizes that differ."""
    from groundplane.cli import output, working
    from groundplane.cli.app import fail
    from groundplane.client import Client

    given = {str(path): path.read_text(encoding="utf-8", errors="replace") for path in paths}
    with Client() as client:
        found = working.told(client.verify_audit(given))
    if as_json:
        output.print_json(found)
    elif found["ok"]:
        print(found["message"])
    else:
        return fail(found["message"], "keep the database as it is: it is evidence; docs/audit.md says more", code=1)
    return 0 if found["ok"] else 1


@click.command()
@_output
def checkpoint(path: Path) -> None:
    """Write the log's signed head (C2SP tlog-checkpoint), to be kept where nobody here can change it."""
    from groundplane.client import Client

    with Client() as client:
        _write(path, client.checkpoint())


@click.command()
def key() -> None:
    """Print the key that checks checkpoints (C2SP: NAME+HEX+BASE64). Keep it elsewhere too."""
    from groundplane.client import Client

    with Client() as client:
        print(client.audit_key())


@click.command()
@_output
def verifier(path: Path) -> None:
    """Write a program that verifies an exported log by itself: Python and `cryptography` are all that it needs."""
    _write(path, Path(__file__).with_name("audit_verifier.py").read_text(encoding="utf-8"))


@click.command()
@click.argument("person")
def forget(person: str) -> None:
    """Make past events tell nothing of PERSON: the key that seals the name there is deleted, for good.

    So is the account, which has to be disabled; where runs and the like named the person, nobody's name stands then.
    """
    from groundplane.client import Client

    with Client() as client:
        client.forget(person)


def _write(path: Path, text: str) -> None:
    if str(path) == "-":
        sys.stdout.buffer.write(text.encode())
        return
    path.write_text(text, encoding="utf-8")
