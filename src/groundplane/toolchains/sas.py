"""SAS programs, by SAS or by saslite, an open engine for a part of the language."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import ClassVar

from groundplane.model.reasons import Reason
from groundplane.spi.toolchain import Call, Command, Ending, EngineSpec
from groundplane.toolchains import licences
from groundplane.toolchains.endings import error, exit_reason, signal_reason
from groundplane.toolchains.script import ScriptToolchain, script_path

_MACROS_SAS = "parameters.sas"
_MACROS_JSON = "parameters.json"
_RUNNER = "saslite_runner.py"
_BESIDE = (
    'engine=$(readlink -f "$(command -v "$0")") && python=${engine%/*}/python3 && [ -x "$python" ] || python=python3; '
    'exec "$python" "$@"'
)
_PLAIN = re.compile(r"[\w.+-]+(?: [\w.+-]+)*")
_ERROR = re.compile(r"^ERROR(?: [\d-]+)?: (?P<text>.+)$", re.MULTILINE)
_WRAPPED = re.compile(r"\n {4,}(?=\S)")
_SOURCE = re.compile(r"^(?P<line>\d+) {2,}(?:[!+] *)?(?P<text>\S.*)$", re.MULTILINE)
_EXPIRY = re.compile(r"^WARNING: .*(?:expire|expiration).*$", re.MULTILINE | re.IGNORECASE)
_ABORTS = {
    3: "ended by ABORT",
    4: "ended by ABORT RETURN",
    5: "ended by ABORT ABEND, or by an error",
    6: "SAS could not start",
}


class SasToolchain(ScriptToolchain):
    """Parameters are macro variables: `&alpha`. Log on stderr, listing on stdout."""

    name: ClassVar[str] = "sas"
    suffixes: ClassVar[tuple[str, ...]] = (".sas",)
    engines: ClassVar[tuple[EngineSpec, ...]] = (
        EngineSpec(
            name="sas",
            programs=("sas", "sas_u8"),
            probe=(),  # it would take a licence seat, and starts in seconds
            version="",
            tested=False,
            note="never run by this project: SAS needs a licence",
        ),
        EngineSpec(
            name="saslite",
            programs=("saslite",),
            probe=("--version",),
            version=r"SASLite (\S+)",
            note="a partial stand-in, not SAS: DATA steps, macros, SQL and a few procedures; "
            "install it with `ground toolchains install saslite`",
        ),
    )

    def command(self, call: Call) -> Command:
        """SAS by its batch options; saslite by a runner, because its own command goes on after an error."""
        support = PurePosixPath(call.support)
        if call.engine.name == "saslite":
            return Command(
                # The Python beside the real `saslite` has the package, also when PATH leads to a link to it; one that
                # a system's package manager installed has the system's.
                argv=(
                    "/bin/sh",
                    "-c",
                    _BESIDE,
                    call.engine.path,
                    str(support / _RUNNER),
                    str(support / _MACROS_JSON),
                    call.script or "",
                    *call.arguments,
                ),
                env={"PYTHONWARNINGS": "ignore"},
                files={
                    _RUNNER: _runner(),
                    _MACROS_JSON: json.dumps({_variable(n).upper(): v for n, v in call.parameters.items()}),
                },
            )
        return Command(
            argv=(
                call.engine.path,
                *("-sysin", script_path(call)),
                *("-log", "/dev/stderr", "-print", "/dev/stdout"),
                *("-nodms", "-noterminal", "-encoding", "utf-8"),
                # Otherwise a failed LIBNAME or %INCLUDE ends with 0.
                *("-errorabend", "-errorcheck", "strict"),
                *("-initstmt", f"%include {_quoted(str(support / _MACROS_SAS))};"),
                *(("-sysparm", " ".join(call.arguments)) if call.arguments else ()),
            ),
            files={_MACROS_SAS: assignments(call.parameters)},
        )

    def diagnose(self, ending: Ending, script: str) -> Reason | None:
        """The log's first error. Status 1 is SAS's word for warnings only: a success."""
        if ending.exit_code == 0 or (ending.exit_code == 1 and PurePosixPath(ending.engine).name != "saslite"):
            return None
        found = _ERROR.search(ending.stderr)
        if found and (
            refused := licences.refusal("sas", licences.SAS, _WRAPPED.sub(" ", ending.stderr[found.start() :]))
        ):
            return refused
        if found is None:
            return signal_reason(ending) or exit_reason(
                ending, _ABORTS.get(ending.exit_code, ""), _licence_hint(ending.stderr)
            )
        before = list(_SOURCE.finditer(ending.stderr, 0, found.start()))
        where = f" ({script}, line {before[-1]['line']}: {before[-1]['text']})" if before else f" ({script})"
        text = found["text"].strip()
        return error(text if script in text else text + where, _licence_hint(ending.stderr) or _hint(text))


@cache
def _runner() -> str:
    return Path(__file__).with_name(_RUNNER).read_text(encoding="utf-8")


def assignments(parameters: Mapping[str, str]) -> str:
    """The program that sets one macro variable a parameter; what means something to SAS is masked by %SUPERQ."""
    lines = ["options nonotes nosource;"]
    for name, value in parameters.items():
        variable = _variable(name)
        if _PLAIN.fullmatch(value) or not value:
            lines.append(f"%let {variable} = {value};")
        else:
            lines.append(f"data _null_; call symput('{variable}', '{value.encode().hex()}'x); run;")
            lines.append(f"%let {variable} = %superq({variable});")
    return "\n".join([*lines, "options notes source;", ""])


def _variable(name: str) -> str:
    """A legal macro variable: at most 32 letters, digits and `_`."""
    return re.sub(r"\W", "_", name, flags=re.ASCII)[:32]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _licence_hint(log: str) -> str:
    warning = _EXPIRY.search(log)
    return f"its log warns about the licence: {warning[0].removeprefix('WARNING: ').strip()}" if warning else ""


def _hint(text: str) -> str:
    if "saslite's part of SAS" in text or "is not implemented" in text:
        return "saslite knows a part of the language only; SAS itself may run this"
    return ""


TOOLCHAIN = SasToolchain()
