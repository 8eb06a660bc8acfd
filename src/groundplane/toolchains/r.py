"""R scripts, by the caller's Rscript."""

from __future__ import annotations

import re
from typing import ClassVar

from groundplane.model.reasons import Reason
from groundplane.spi.toolchain import Call, Command, Ending, EngineSpec
from groundplane.toolchains.endings import add_package, error, exit_reason, signal_reason
from groundplane.toolchains.script import ScriptToolchain, option_words, script_path

_ERROR = re.compile(r"^Error(?: in .*?(?: :|:)|:)(?:\s.*)?$", re.MULTILINE)
_END = re.compile(r"^(?:Calls: |In addition: |Execution halted$|Warning message)", re.MULTILINE)
_PACKAGE = re.compile(r"there is no package called [‘'`](?P<name>[^’'`]+)[’'`]")


class RToolchain(ScriptToolchain):
    """`Rscript --vanilla script.R --alpha 0.3`: no profile, no saved workspace; R_LIBS and the library folders count.

    SIGUSR1 makes R write `.RData` and fail, so the file never becomes an output; it is no leftover to delete, because
    `save.image()` writes one of the same name on purpose.
    """

    name: ClassVar[str] = "r"
    suffixes: ClassVar[tuple[str, ...]] = (".r",)
    interpreters: ClassVar[str] = r"Rscript|littler|r"
    engines: ClassVar[tuple[EngineSpec, ...]] = (
        EngineSpec(
            name="r",
            programs=("Rscript",),
            probe=("--version",),
            version=r"version (\d+\.\d+\.\d+)",
            libraries=("--vanilla", "-e", "writeLines(.libPaths())"),
        ),
    )

    def command(self, call: Call) -> Command:
        """What stands behind the script's name is the script's, even `--help` or `--version`."""
        return Command(
            argv=(
                call.engine.path,
                "--vanilla",
                script_path(call),
                *option_words(call.parameters),
                *call.arguments,
            )
        )

    def diagnose(self, ending: Ending, script: str) -> Reason | None:
        """R's last error, whose first line quotes the call that failed."""
        if ending.exit_code == 0:
            return None
        found = _last_error(ending.stderr) if ending.exit_code == 1 else None
        if found is None:
            return signal_reason(ending) or exit_reason(ending, hint=_argument_hint(ending))
        return error(f"{found} ({script})", _hint(found, ending))


def _last_error(stderr: str) -> str | None:
    """The message that stopped R, on one line; None when R was not stopped by an error."""
    if not re.search(r"^Execution halted$", stderr, re.MULTILINE):
        return None
    starts = list(_ERROR.finditer(stderr))
    if not starts:
        return None
    text = stderr[starts[-1].start() :]
    end = _END.search(text)
    return " ".join(text[: end.start() if end else None].split())


def _hint(message: str, ending: Ending) -> str:
    package = _PACKAGE.search(message)
    if package and ending.inside:
        return add_package(package["name"])
    if package:
        return (
            f"install it for this R: Rscript -e 'install.packages(\"{package['name']}\")', or set R_LIBS to the folder "
            "that has it"
        )
    if message.startswith("Error: unexpected"):
        return "this is a syntax error; R had run the lines before it"
    if "cannot open the connection" in message or "cannot open file" in message:
        return (
            "the script ran in a copy of the project folder: paths relative to it work, and files outside it need "
            "their absolute path"
        )
    return ""


def _argument_hint(ending: Ending) -> str:
    if ending.exit_code == 2 and "cannot open file" in ending.stdout + ending.stderr:
        return "the script is not in the project folder's snapshot: see `.groundignore`"
    return ""


TOOLCHAIN = RToolchain()
