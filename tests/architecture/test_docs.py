"""docs/reference.md names every command, option and variable that there is; a page of docs/ every code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest

from groundplane.cli.app import ROOT as COMMANDS
from groundplane.cli.commands import Lazy
from groundplane.client.context import NAMES, PREFIXES
from groundplane.model import documents, reasons
from groundplane.model.errors import GroundError
from groundplane.model.states import State

PROJECT = Path(__file__).parents[2]
SOURCE = PROJECT / "src" / "groundplane"
DOCS = "\n".join(path.read_text() for path in sorted((PROJECT / "docs").glob("*.md")))
REFERENCE = (PROJECT / "docs" / "reference.md").read_text()


def commands(group: Lazy, prefix: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, Lazy):
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


EVERY = dict(commands(COMMANDS, "ground"))


@pytest.mark.parametrize("path", EVERY)
def test_every_command_and_option_is_documented(path: str) -> None:
    assert f"`{path}" in REFERENCE
    for parameter in EVERY[path].params:
        for name in parameter.opts if isinstance(parameter, click.Option) else ():
            assert re.search(rf"`{re.escape(name)}[` ]", REFERENCE), f"{path} {name}"


def test_no_command_is_documented_that_does_not_exist() -> None:
    for path in re.findall(r"^\| `(ground [a-z ]+[a-z])", REFERENCE, re.M):
        assert path in EVERY, path


def test_every_code_is_documented() -> None:
    named = re.search(r"Codes in use: (.*?)\.", reasons.Reason.__doc__ or "", re.S)
    assert named is not None
    codes = {code.strip() for code in named[1].split(",")}
    codes |= {kind.default_code for kind in kinds(GroundError)}
    for path in SOURCE.rglob("*.py"):
        codes |= set(codes_of(ast.parse(path.read_text())))
    assert len(codes) >= 20
    assert not {code for code in codes if f"`{code}`" not in DOCS}


def kinds(kind: type[GroundError]) -> Iterator[type[GroundError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from kinds(below)


def codes_of(tree: ast.AST) -> Iterator[str]:
    """What is written as `code="…"` of a call, and as the first argument of `Reason(…)`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from (k.value.value for k in node.keywords if k.arg == "code" and is_text(k.value))
            if isinstance(node.func, ast.Name) and node.func.id == "Reason" and node.args and is_text(node.args[0]):
                yield node.args[0].value


def is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def test_every_variable_is_documented() -> None:
    read = set()
    for path in SOURCE.rglob("*.py"):
        read |= set(re.findall(r"""environ(?:\.get\(|\[)\s*["'](\w+)["']""", path.read_text()))
    read = {name for name in read if name.startswith("GROUND_") or name == "NO_COLOR"}
    assert len(read) >= 6
    assert not {name for name in read if f"`{name}`" not in DOCS}
    for name in NAMES:
        assert f"`{name}`" in REFERENCE or f"`{name.upper()}`" in REFERENCE, name
    for prefix in PREFIXES:
        assert f"`{prefix}*`" in REFERENCE


@pytest.mark.parametrize(
    "kind", [documents.RunDocument, documents.TaskDocument, documents.OutputDocument, documents.InputDocument,
             documents.LogLine, documents.StatusDocument, reasons.Reason, documents.RunPage],
)  # fmt: skip
def test_every_json_key_is_documented(kind: type) -> None:
    for field in fields(kind):
        assert re.search(rf'[`"]{field.name}[`"]', REFERENCE), field.name


def test_every_state_is_documented() -> None:
    assert not {state for state in State if f"`{state}`" not in REFERENCE}
