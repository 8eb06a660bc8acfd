"""`ground policy …`."""

from __future__ import annotations

import re
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import click

from groundplane.cli.commands import Lazy, json_option
from groundplane.model.errors import Invalid

_HERE = "groundplane.cli.policy"

policy = Lazy(
    "policy",
    {
        "list": (f"{_HERE}:list_", "List the policies in force."),
        "add": (f"{_HERE}:add", "Put a file of policies in force."),
        "rm": (f"{_HERE}:rm", "Take a file out of force."),
        "check": (f"{_HERE}:check", "Say what is wrong with a file, and where."),
        "test": (f"{_HERE}:test", "Try policies on cases."),
        "explain": (f"{_HERE}:explain", "Say which rule decided, or would decide."),
        "simulate": (f"{_HERE}:simulate", "Say which runs of last month a file would have denied."),
        "schema": (f"{_HERE}:schema", "Print what policies may speak of."),
    },
    help="Who may do what: roles, and the firm's own rules, in Cedar.",
)
_file = click.argument("file", type=click.Path(path_type=Path), metavar="FILE")


@click.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the policies in force: the roles that ship, and what was added."""
    from groundplane.cli import output
    from groundplane.client import Client

    with Client() as client:
        found = client.policies()
    if as_json:
        output.print_json(found)
        return
    output.table(
        ("FILE", "RULE", "EFFECT", "ADDED"),
        [
            (file["name"], rule["name"], rule["effect"], f"{output.age(file['added_at'])} by {file['actor']}")
            if file["added_at"]
            else (file["name"], rule["name"], rule["effect"], "ships")
            for file in found
            for rule in file["rules"]
        ],
    )


@click.command()
@_file
@json_option
def add(file: Path, as_json: bool) -> None:
    """Put the policies of FILE in force at once, in the place of those of a file of the same name."""
    from groundplane.cli import output
    from groundplane.client import Client

    text = _read(file)
    with Client() as client, _placing(file):
        found = client.add_policy(file.stem, text)
    if as_json:
        output.print_json(found)
    else:
        print(f"{found['name']}: {', '.join(found['rules'])}")


@click.command()
@click.argument("name")
def rm(name: str) -> None:
    """Take the file NAME (`ground policy list`) out of force."""
    from groundplane.client import Client

    with Client() as client:
        client.remove_policy(name)


@click.command()
@_file
def check(file: Path) -> int:
    """Say what is wrong with FILE, as FILE:LINE: and the word. Exit code 2 when something is."""
    from groundplane.client import Client

    text = _read(file)
    with Client() as client, _placing(file):
        found = client.check_policy(file.stem, text)
    print(f"{file}: {found['policies']} {'policy' if found['policies'] == 1 else 'policies'}, nothing wrong")
    return 0


@click.command()
@_file
@json_option
def test(file: Path, as_json: bool) -> int:
    """Try policies on the cases of FILE (YAML). Exit code 1 when a decision is not the expected one.

    `policies:` names the files to try, beside FILE; without it those in force are tried. Each of `cases:` has
    `principal`, `action`, `resource` and `expect: allow` or `deny`, and may have `name` and `rule`.
    """
    from groundplane.cli import output
    from groundplane.client import Client

    given = _yaml(file)
    named = given.get("policies")
    files = None
    if named is not None:
        paths = [file.parent / str(each) for each in (named if isinstance(named, list) else [named])]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        files = [{"name": path.stem, "text": _read(path)} for path in paths]
    with Client() as client:
        found = client.test_policies(given["cases"], files)
    if as_json:
        output.print_json(found)
        return 1 if found["failed"] else 0
    for case in found["cases"]:
        mark = "ok" if case["ok"] else "error"
        because = f" ({case['rule'] or case['why']})"
        wrong = "" if case["ok"] else f", expected {case['expect']}"
        print(f"{output.paint(mark, sys.stdout)}: {output.printable(case['name'])}: {case['outcome']}{because}{wrong}")
    print(f"{found['passed']} as expected, {found['failed']} not")
    return 1 if found["failed"] else 0


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="RUN|EVENT | ACTION OBJECT")
@click.option("--as", "user", metavar="USER", help="Say what would be decided if USER did ACTION to OBJECT.")
@json_option
def explain(words: tuple[str, ...], user: str | None, as_json: bool) -> None:
    """Say which rule decided on a run or on what an event tells of; or, with --as, what would be decided now.

    `ground policy explain --as ana run.submit trial` asks for a launch into the project `trial`.
    """
    from groundplane.cli import output
    from groundplane.client import Client

    if len(words) != (1 if user is None else 2):
        raise click.UsageError("name a run or an event" if user is None else "name an action and an object")
    with Client() as client:
        found = client.explain(words[0]) if user is None else client.explain_for(user, words[0], words[1])
    if as_json:
        output.print_json(found)
        return
    if user is not None:
        first = "" if found["asked"] == words[0] else f", for {found['asked']} is asked first"
        _say(f"{user} {words[0]} {words[1]}", found, first)
        if found["hint"]:
            print(f"hint: {output.printable(found['hint'])}", file=sys.stderr)
        return
    for step in found["steps"]:
        _say(", ".join(step["steps"]) if "steps" in step else f"{step['action']} {step['object']}", step)


@click.command()
@_file
@json_option
def simulate(file: Path, as_json: bool) -> None:
    """Say which runs of the last 30 days would have been denied had the policies of FILE been in force."""
    from groundplane.cli import output
    from groundplane.client import Client

    text = _read(file)
    with Client() as client, _placing(file):
        found = client.simulate_policy(file.stem, text)
    if as_json:
        output.print_json(found)
        return
    if found["denied"]:
        output.table(
            ("RUN", "PROJECT", "BY", "STEP", "RULE"),
            [
                (each["run"], each["project"], each["actor"], each["step"], each["rule"] or "no rule permits it")
                for each in found["denied"]
            ],
        )
    print(f"{len(found['denied'])} of {found['runs']} runs would have been denied")


@click.command()
def schema() -> None:
    """Print what policies may speak of, as a Cedar schema."""
    from groundplane.client import Client

    with Client() as client:
        print(client.policy_schema(), end="")


def _say(what: str, decided: dict[str, Any], more: str = "") -> None:
    from groundplane.cli.output import printable

    because = f"rule {decided['rule']}" if decided["rule"] else decided.get("error") or "no rule permits it"
    print(f"{printable(what)}: {decided['outcome']}: {printable(because)}{more}")
    shown = decided.get("resource")
    if shown:
        print("  " + printable(" ".join(f"{name}={_plain(value)}" for name, value in shown.items())))


def _plain(value: object) -> str:
    return ",".join(map(str, cast("list[object]", value))) if isinstance(value, list) else str(value)


@contextmanager
def _placing(file: Path) -> Generator[None]:
    """What is wrong is told with the file's own path, each mistake in a line that begins with it."""
    try:
        yield
    except Invalid as error:
        named = re.compile(rf"(?:(?<=^)|(?<= in )){re.escape(file.stem)}\.cedar(?=$|:\d)")
        lines = [named.sub(lambda _: str(file), line, count=1) for line in error.message.split("\n")]
        raise Invalid("\n".join(lines), hint=error.hint, code=error.code) from None


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Invalid(f"{file} is no text", hint="save it as UTF-8") from error
    except OSError as error:
        raise Invalid(f"{file} cannot be read: {error.strerror}", hint="name a file that you can read") from error


def _yaml(file: Path) -> dict[str, Any]:
    import yaml

    try:
        given: Any = yaml.safe_load(_read(file))
    except yaml.YAMLError as error:
        raise Invalid(f"{file} is no YAML: {error}", hint="see docs/policies.md") from error
    if not isinstance(given, dict) or not isinstance(cast("dict[str, Any]", given).get("cases"), list):
        raise Invalid(f"{file} has no list `cases`", hint="see docs/policies.md")
    return cast("dict[str, Any]", given)
