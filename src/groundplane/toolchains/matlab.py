"""MATLAB scripts, by MATLAB or GNU Octave."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import ClassVar

from groundplane.model.reasons import Reason
from groundplane.spi.toolchain import Call, Command, Ending, EngineSpec
from groundplane.toolchains import licences
from groundplane.toolchains.endings import add_package, error, exit_reason, signal_reason
from groundplane.toolchains.script import ScriptToolchain, option_words, script_path

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_IDENTIFIER = re.compile(r"[A-Za-z]\w{0,62}", re.ASCII)
_CALLED_FROM = re.compile(r"^ {4}(?P<where>.+) at line (?P<line>\d+)(?: column \d+)?$", re.MULTILINE)
_MATLAB_AT = re.compile(r"^Error in (?P<where>.+?) \(line (?P<line>\d+)\)", re.MULTILINE)


class MatlabToolchain(ScriptToolchain):
    """Octave gets parameters as argv. MATLAB has no argv: it gets one variable a parameter, and the same words as a
    cell `argv`, so that a script that reads `argv()` runs under both."""

    name: ClassVar[str] = "matlab"
    suffixes: ClassVar[tuple[str, ...]] = (".m",)
    interpreters: ClassVar[str] = r"octave(?:-cli)?(?:-\d.*)?|matlab"
    engines: ClassVar[tuple[EngineSpec, ...]] = (
        EngineSpec(
            name="matlab",
            programs=("matlab",),
            # Starting MATLAB to ask takes half a minute and a licence seat.
            probe=(),
            version="",
            tested=False,
            note="never run by this project: MATLAB needs a licence",
        ),
        EngineSpec(
            name="octave",
            programs=("octave-cli", "octave"),
            probe=("--version",),
            version=r"version (\d+\.\d+\S*)",
            note="runs most MATLAB programs; toolboxes are Octave packages",
        ),
    )

    def command(self, call: Call) -> Command:
        """No start-up files, no window, no history; locale and folders are the platform's."""
        words = (*option_words(call.parameters), *call.arguments)
        if call.engine.name == "matlab":
            return Command(argv=(call.engine.path, "-batch", _statement(call, words)))
        return Command(
            argv=(call.engine.path, "-q", "-W", "--norc", "--no-history", script_path(call), *words),
            leftovers=("octave-workspace",),  # its variables, dumped when a signal ends it
        )

    def diagnose(self, ending: Ending, script: str) -> Reason | None:
        """The error and the innermost line of the user's code. The exit code alone says whether there was one:
        Octave prints `error: ignoring const execution_exception&` in successful runs too."""
        if ending.exit_code == 0:
            return None
        # A refusal that the script lived through is not the reason of what came after it.
        last = ending.stderr.rpartition("\nError using ")[2]
        if ending.signal is None and (refused := licences.refusal("matlab", licences.MATLAB, ending.stdout, last)):
            return refused
        message = _octave_error(ending.stderr) or _matlab_error(ending.stderr) if ending.exit_code == 1 else None
        if message is None:
            return signal_reason(ending) or exit_reason(ending)
        where = _where(ending.stderr, script)
        return error(f"{message} ({where})", _hint(message, ending))


def _statement(call: Call, words: tuple[str, ...]) -> str:
    """What MATLAB is asked to do: assignments, then the script in the current folder."""
    script = PurePosixPath(call.script or "")
    statements = [f"argv = {{{'; '.join(_text(word) for word in words)}}};"]
    for name, value in call.parameters.items():
        statements.append(f"{_variable(name)} = {_literal(value)};")
    stem, folder = script.stem, str(script.parent)
    if folder == "." or not _IDENTIFIER.fullmatch(stem):
        # `run` works in the script's folder: for a script at the top that is where the platform started it.
        statements.append(f"run({_text(str(script))});")
    else:
        # By name, because `run` would change into the sub folder; a file of the same name before it is refused.
        statements += [
            f"addpath({_text(folder)});",
            f"if ~strcmp(which('{stem}'), fullfile(pwd, {_text(str(script))}))",
            f"error('another {stem} hides %s', {_text(str(script))}); end",
            f"{stem};",
        ]
    return " ".join(statements)


def _variable(name: str) -> str:
    """A legal variable name: what MATLAB cannot hold becomes `_`, as in `GROUND_PARAM_`."""
    legal = re.sub(r"\W", "_", name, flags=re.ASCII)
    return legal if legal[0].isalpha() else f"x{legal}"


def _literal(value: str) -> str:
    """A number or true/false as itself, any other text as text."""
    if value in ("true", "false") or _NUMBER.fullmatch(value):
        return value
    return _text(value)


def _text(value: str) -> str:
    """A char row vector; control characters by number, because a literal cannot hold them."""
    parts = re.split(r"([\x00-\x1f\x7f]+)", value)
    if len(parts) == 1:
        return "'" + value.replace("'", "''") + "'"
    shown: list[str] = []
    for index, part in enumerate(parts):
        if index % 2:
            shown.append(f"char([{' '.join(str(ord(c)) for c in part)}])")
        elif part:
            shown.append(_text(part))
    return "[" + " ".join(shown) + "]"


def _octave_error(stderr: str) -> str | None:
    """Octave's last error with the line that it shows, on one line; None when it printed none."""
    starts = [m.start() for m in re.finditer(r"^(?:error|parse error)(?=[: ])", stderr, re.MULTILINE)]
    starts = [start for start in starts if not stderr.startswith("error: called from", start)]
    starts = [start for start in starts if not stderr.startswith("error: ignoring const execution_exception", start)]
    if not starts:
        return None
    text = stderr[starts[-1] :].split("error: called from", 1)[0].removeprefix("error: ")
    syntax = re.search(r"parse error near line (\d+).*?^>>> (.*?)$", text, re.MULTILINE | re.DOTALL)
    if syntax:
        return f"syntax error in line {syntax[1]}: {syntax[2].strip()}"
    return " ".join(text.split())


def _matlab_error(stderr: str) -> str | None:
    """MATLAB's `Error using f`, `Error in f` and `Error: File: x.m Line: 2 Column: 5` blocks: the text of the first."""
    found = re.search(r"^(?:Error using [^\n]*\n)?(?P<text>[^\n]+)(?:\n\s*)*^Error in ", stderr, re.MULTILINE)
    if found:
        return found["text"].strip()
    alone = re.search(r"^Error(?: using [^\n]*\n|: )(?P<text>.+)$", stderr, re.MULTILINE)
    return alone["text"].strip() if alone else None


def _where(stderr: str, script: str) -> str:
    """`fit.m, line 3`: the innermost frame in the script itself, else the innermost one of all."""
    last = stderr.rpartition("error: called from")[2]
    frames = [(m["where"], m["line"]) for m in (*_CALLED_FROM.finditer(last), *_MATLAB_AT.finditer(stderr))]
    own = (script, PurePosixPath(script).stem)
    line = next((line for where, line in frames if where in own), "")
    return f"{script}, line {line}" if line else script


def _hint(message: str, ending: Ending) -> str:
    package = re.search(r"package (\S+) is not installed", message) or re.search(
        r"The '(\S+)' function belongs to the (\S+) package", message
    )
    if package:
        name = package[package.lastindex or 1]
        if ending.inside:
            return add_package(name)
        return f"install it for this Octave: `apt-get install octave-{name}` on Debian, or `pkg install -forge {name}`"
    if message.startswith("syntax error"):
        return "nothing of the script has run"
    if re.search(r"'\w+' undefined", message):
        return "a function of a toolbox needs its package: `pkg load NAME` in the script"
    return ""


TOOLCHAIN = MatlabToolchain()
