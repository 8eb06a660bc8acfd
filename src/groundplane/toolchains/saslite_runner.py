"""Runs one SAS program under saslite, as `sas -sysin` would: listing on stdout, log on stderr, an end at the first
error. Not part of the platform's process: its text travels to the support folder and is started by the Python that
has saslite.

    python saslite_runner.py MACROS.json PROGRAM.sas

Exit status: 0, or 2 after an error (SAS's own number). Standard library and saslite only.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TextIO

# saslite substitutes macro variables as plain text. What would end a statement or a string stands masked until the
# program has been parsed: SAS's own macro quoting does the same.
_MASKED = {ord(character): 0xE000 + ord(character) for character in ";&%'\"*/\n\r\\"}
_UNMASKED = {masked: plain for plain, masked in _MASKED.items()}
_LITERAL = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")


class _Stop(BaseException):
    """The first error has been told. No Exception: saslite would catch it and go on."""


class _Log:
    """saslite's reporter: notes, warnings and errors on stderr; what a PROC prints on stdout."""

    def __init__(self, program: Path) -> None:
        self.listing = False
        self.step = str(program)
        self._program = program

    def note(self, message: str) -> None:
        _say(f"NOTE: {message}", sys.stderr)

    def warning(self, message: str) -> None:
        _say(f"WARNING: {message}", sys.stderr)

    def error(self, message: str) -> None:
        """The first error is the end."""
        _say(f"ERROR: {_told(message, self._program, self.step)}", sys.stderr)
        raise _Stop

    def log(self, message: str) -> None:
        _say(message, sys.stdout if self.listing else sys.stderr)


def _say(line: str, stream: TextIO) -> None:
    stream.write(unmask(line) + "\n")
    stream.flush()


def unmask(text: str) -> str:
    """The text with its masked characters as they are."""
    return text.translate(_UNMASKED)


def _unmask_outside_literals(source: str) -> str:
    """Masked characters stay only where a quote would end the string too early."""
    parts: list[str] = []
    at = 0
    for literal in _LITERAL.finditer(source):
        parts += [unmask(source[at : literal.start()]), literal[0]]
        at = literal.end()
    return "".join([*parts, unmask(source[at:])])


def _unmask_tree(node: Any) -> Any:
    """The parsed program with every text in it unmasked."""
    if isinstance(node, str):
        return unmask(node)
    if isinstance(node, list):
        return [_unmask_tree(item) for item in node]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(node, dict):
        return {key: _unmask_tree(value) for key, value in node.items()}  # pyright: ignore[reportUnknownVariableType]
    if is_dataclass(node) and not isinstance(node, type):
        for field in fields(node):
            setattr(node, field.name, _unmask_tree(getattr(node, field.name)))
    return node


def _told(text: str, program: Path, step: str) -> str:
    """A parser's error as one line with the user's line; any other with the step that it was in."""
    place = re.search(r"at line (\d+)(?:,)? col(?:umn)? (\d+)\s*\n+([^\n]*)", text)
    if place is None:
        return f"{' '.join(text.split()) or 'the step failed'} ({step})"
    shown = unmask(place[3]).strip()
    # Line numbers count in the text after macro expansion: the user's line is the one that reads the same.
    same = [n for n, line in enumerate(program.read_text(encoding="utf-8").splitlines(), 1) if line.strip() == shown]
    where = f"{program}, line {same[0]}" if len(same) == 1 else str(program)
    return f"syntax error, or beyond saslite's part of SAS: {shown} ({where})"


def run(program: Path, macros: dict[str, str]) -> None:
    """Raises _Stop after the first error, which has been printed."""
    facade: Any = importlib.import_module("saslite.api.facade")
    proc_nodes: Any = (
        importlib.import_module("saslite.ast.proc").ProcNode,
        importlib.import_module("saslite.ast.sql").ProcSqlNode,
    )
    log = _Log(program)
    interpreter: Any = facade.SasInterpreter()
    interpreter._reporter = log
    # As macro variables of the session: they reach every later stage of the program.
    for name, value in macros.items():
        interpreter.session.global_scope.define_var(name, value.translate(_MASKED))

    dispatch: Callable[[Any, Any], Any] = facade.Dispatcher._dispatch_step

    def dispatch_with_listing(dispatcher: Any, node: Any) -> Any:
        log.listing = isinstance(node, proc_nodes)
        try:
            return dispatch(dispatcher, node)
        finally:
            log.listing = False

    def expand_masked(text: str) -> str:
        return _unmask_outside_literals(expand(text))

    def parse_unmasked(text: str) -> Any:
        return _unmask_tree(parse(text))

    facade.Dispatcher._dispatch_step = dispatch_with_listing
    expand: Callable[[str], str] = interpreter._macro.expand
    parse: Callable[[str], Any] = interpreter._parser.parse
    interpreter._macro.expand = expand_masked
    interpreter._parser.parse = parse_unmasked
    # Step by step, as SAS does: the steps before an error have run, and a step sees the macro variables that those
    # before it made.
    written = program.read_text(encoding="utf-8")
    source: str = interpreter._expand_includes(written, source_name=str(program))
    for line, step in _steps(interpreter._split_into_step_chunks(source)):
        first = next(text.strip() for text in step.splitlines() if text.strip())
        log.step = f"{program}, line {line}: {first}" if source == written else f"{program}: {first}"
        summary: Any = interpreter.execute(step)
        if not summary.success:
            log.error(summary.error or "")


def _steps(chunks: list[str]) -> list[tuple[int, str]]:
    """Each with the number of its first line that is not blank. A lone `quit;` or `run;` goes with the step that it
    ends."""
    steps: list[tuple[int, str]] = []
    line = 1
    for chunk in chunks:
        if steps and re.fullmatch(r"\s*(?:quit|run)\s*;\s*", chunk, re.IGNORECASE):
            steps[-1] = (steps[-1][0], f"{steps[-1][1]}\n{chunk}")
        elif chunk.strip():
            steps.append((line + chunk[: len(chunk) - len(chunk.lstrip())].count("\n"), chunk))
        line += chunk.count("\n") + 1
    return steps


def main() -> int:
    """The two arguments are the macro variables as a JSON object and the program."""
    macros, program = sys.argv[1:]
    try:
        run(Path(program), json.loads(Path(macros).read_text(encoding="utf-8")))
    except _Stop:
        return 2
    except (ArithmeticError, AttributeError, ImportError, LookupError, OSError, TypeError, ValueError) as problem:
        # A beta's own crash is the program's end, told as SAS tells one.
        _say(f"ERROR: {type(problem).__name__}: {problem} ({program})", sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
