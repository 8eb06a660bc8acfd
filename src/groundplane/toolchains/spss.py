"""SPSS syntax, by GNU PSPP or IBM SPSS Statistics.

PSPP runs a small generated program that inserts the parameters and then the user's file with ERROR=STOP: on its own
it carries on after most errors, and a later SAVE would still write. Nothing is echoed at the end: PSPP puts a blank
line before whatever it prints, so a sentinel would change the listing, and none is needed. What stopped the program
stands in the error file (`-e`) in every case, also where the exit status is 0 (a failing HOST).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import ClassVar

from groundplane.model.reasons import Reason
from groundplane.spi.toolchain import Call, Command, Ending, EngineSpec
from groundplane.toolchains import licences
from groundplane.toolchains.endings import error, exit_reason, last_line, signal_reason
from groundplane.toolchains.script import ScriptToolchain

_PARAMETERS = "params.sps"
_WRAPPER = "wrap.sps"
_ERRORS = "errors.txt"
_STOPPED = r"(?:.*[/ ])?(?:wrap\.sps:[\d.-]+: )?warning: Error encountered while ERROR=STOP is effective\."
# The same under a narrow SET WIDTH, which wraps it.
_STOPPED_WRAPPED = (
    r"(?:.*[/ ])?(?:wrap\.sps:[\d.-]+: )?warning: Error encountered while(?: ERROR=STOP(?: is)?)?",
    r"(?:ERROR=STOP )?is effective\.",
)
_CASCADE = "Stopping syntax file processing here"
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?")
_UNQUOTABLE = re.compile(r"([\x00-\x1f\x7f!]+)")
_RESERVED = frozenset(["all", "and", "by", "eq", "ge", "gt", "le", "lt", "ne", "not", "or", "to", "with"])
_MESSAGE = re.compile(
    r"^(?:(?P<where>.+?):(?P<line>\d+)(?:[.\d]*)(?:-[\d.]+)?: )?(?P<kind>error|warning): (?P<text>.+)$"
)
_HOST_FAILED = re.compile(
    r"HOST: Command .* (?:exited with status|terminated by signal) \d+|HOST: .*(?:timed out|cannot)"
)
_IBM_ERROR = re.compile(r"^>(?P<text>Error.*)$", re.MULTILINE)


class SpssToolchain(ScriptToolchain):
    """Parameters are DEFINE macros: `!alpha`, a number as a number and any other text as a quoted string."""

    name: ClassVar[str] = "spss"
    suffixes: ClassVar[tuple[str, ...]] = (".sps",)
    interpreters: ClassVar[str] = r"pspp"
    engines: ClassVar[tuple[EngineSpec, ...]] = (
        EngineSpec(
            name="spss",
            programs=("statisticsb",),
            probe=(),  # it documents no option that prints a version
            version="",
            tested=False,
            note="never run by this project: the Batch Facility of IBM SPSS Statistics Server needs a licence",
        ),
        EngineSpec(
            name="pspp",
            programs=("pspp",),
            probe=("--version",),
            version=r"\(GNU PSPP\) (\S+)",
            note="no drop-in for SPSS: BEGIN PROGRAM, GENLIN, MIXED and OUTPUT EXPORT fail",
        ),
    )

    def command(self, call: Call) -> Command:
        """Line by line (`stdbuf`: PSPP itself shows nothing before its end), listing on stdout."""
        support = PurePosixPath(call.support)
        wrapper = [
            f"INSERT FILE={literal(str(support / _PARAMETERS))} ERROR=STOP.",
            f"INSERT FILE={literal(call.script or '')} SYNTAX=AUTO ERROR=STOP.",
        ]
        files = {_PARAMETERS: macros(call.parameters)}
        if call.engine.name == "spss":
            end = f"@@END {hashlib.sha256(call.support.encode()).hexdigest()[:16]}@@"
            files[_WRAPPER] = "\n".join([*wrapper, f"ECHO '{end}'.", ""])
            return Command(
                argv=(call.engine.path, "-f", str(support / _WRAPPER), "-type", "text", *call.arguments),
                files=files,
                sentinel=rf"\s*{re.escape(end)}\s*",
            )
        files[_WRAPPER] = "\n".join([*wrapper, ""])
        return Command(
            argv=(
                "stdbuf",
                "-oL",
                call.engine.path,
                str(support / _WRAPPER),
                "-e",
                str(support / _ERRORS),
                *call.arguments,
            ),
            files=files,
            drop=(_STOPPED, *_STOPPED_WRAPPED),
            report=_ERRORS,
        )

    def diagnose(self, ending: Ending, script: str) -> Reason | None:
        """PSPP's first message about the command that stopped it."""
        if PurePosixPath(ending.engine).name == "statisticsb":
            return _diagnose_ibm(ending, script)
        by_signal = signal_reason(ending)
        if by_signal is not None:
            return by_signal
        failing = _failing(ending.report)
        if failing is None:
            return None if ending.exit_code == 0 else exit_reason(ending, last_line(ending.report))
        if ending.exit_code == 0 and failing["kind"] != "error" and not _HOST_FAILED.search(failing["text"]):
            return None
        where = f"{failing['where']}, line {failing['line']}" if failing["where"] else script
        return error(f"{failing['text'].rstrip('.')} ({where})", _hint(failing["text"]))


def literal(text: str) -> str:
    """Any text as a string of SPSS syntax: `'it''s'`; control characters and `!` in hexadecimal, because no line of
    a macro may hold them as they are."""
    parts: list[str] = []
    for index, part in enumerate(_UNQUOTABLE.split(text)):
        if index % 2:
            parts.append(f"X'{part.encode().hex()}'")
        elif part:
            parts.append("'" + part.replace("'", "''") + "'")
    return " + ".join(parts) or "''"


def macros(parameters: Mapping[str, str]) -> str:
    """The program that defines one macro a parameter."""
    return "".join(
        f"DEFINE !{_macro_name(name)} () {value if _NUMBER.fullmatch(value) else literal(value)} !ENDDEFINE.\n"
        for name, value in parameters.items()
    )


def _macro_name(name: str) -> str:
    """A legal macro name: `a-b` as `a_b`, `_a` as `x_a`, and a word of the language with `_` behind it."""
    legal = name.replace("-", "_")
    if legal.startswith("_"):
        legal = f"x{legal}"
    if legal.endswith("."):
        legal = f"{legal[:-1]}_"
    return f"{legal}_" if legal.lower() in _RESERVED else legal


def _failing(report: str) -> re.Match[str] | None:
    """The first message about the last command that failed; a failing HOST is only a warning to PSPP."""
    messages = [
        found
        for found in map(_MESSAGE.match, report.splitlines())
        if found and not re.fullmatch(_STOPPED, found[0]) and _CASCADE not in found["text"]
    ]
    bad = [m for m in messages if m["kind"] == "error" or _HOST_FAILED.search(m["text"])]
    if not bad:
        return None
    last = bad[-1]
    command = last["text"].partition(":")[0]
    first = last
    for message in reversed(bad):
        if message["text"].partition(":")[0] != command or message["where"] != last["where"]:
            break
        first = message
    return first


def _diagnose_ibm(ending: Ending, script: str) -> Reason | None:
    """IBM documents no exit codes: a success is one that reached the end, or ended itself without an error."""
    by_signal = signal_reason(ending)
    if by_signal is not None:
        return by_signal
    errors = list(_IBM_ERROR.finditer(ending.stdout))
    if ending.sentinel and ending.exit_code == 0:
        return None
    if refused := licences.refusal("spss", licences.SPSS, ending.stdout, ending.stderr):
        return refused
    if errors:
        return error(f"{errors[-1]['text']} ({script})")
    return None if ending.exit_code == 0 else exit_reason(ending)


def _hint(text: str) -> str:
    if text.startswith("Unknown command"):
        return "PSPP has not every command of SPSS"
    if "opening" in text and "No such file" in text:
        return (
            "the program ran in a copy of the project folder: paths relative to it work, and files outside it need "
            "their absolute path"
        )
    if text.startswith("HOST:"):
        return "a command that may fail: HOST COMMAND=['command || true']"
    return ""


TOOLCHAIN = SpssToolchain()
