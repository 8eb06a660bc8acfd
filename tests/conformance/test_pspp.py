"""PSPP's listing is the bare one, and what stops a program is found, whatever the program does."""

from __future__ import annotations

import itertools
import os
import subprocess
from pathlib import Path

import pytest

from groundplane.spi.toolchain import Engine
from groundplane.toolchains import registry
from tests.conformance.languages import PSPP
from tests.conformance.run_command import Finished, run_script

DATA = "DATA LIST LIST /x y g.\nBEGIN DATA\n1 2 1\n3 5 1\n4 4 2\n8 9 2\n5 1 2\nEND DATA.\n"
STEPS = {
    "list": "LIST.\n",
    "frequencies": "FREQUENCIES x /STATISTICS=ALL.\n",
    "crosstabs": "CROSSTABS /TABLES=x BY g /STATISTICS=CHISQ.\n",
    "means": "MEANS TABLES=y BY g.\n",
    "t-test": "T-TEST GROUPS=g(1,2) /VARIABLES=x y.\n",
    "regression": "REGRESSION /VARIABLES=x /DEPENDENT=y.\n",
    "labels": "VARIABLE LABELS x 'Ångström'.\nVALUE LABELS g 1 'it''s' 2 'é'.\nDISPLAY DICTIONARY.\n",
    "compute": "COMPUTE z = x / 0.\nCOMPUTE w = LN(-1).\nDESCRIPTIVES z w x.\n",
    "loop": "LOOP #i = 1 TO 3.\nCOMPUTE x = x + #i.\nEND LOOP.\nLIST.\n",
    "macro": "DEFINE !m (!POSITIONAL !CHAREND('/')) LIST VARIABLES=!1 !ENDDEFINE.\n!m x y/.\n",
    "select": "TEMPORARY.\nSELECT IF x > 3.\nLIST.\nSORT CASES BY y (D).\nLIST.\n",
    "titles": "TITLE 'A title'.\nSUBTITLE 'and more'.\nECHO 'said'.\nLIST.\n",
    "save": "SAVE OUTFILE='s.sav'.\nGET FILE='s.sav'.\nLIST.\n",
    "show": "SHOW N.\nSET DECIMAL=COMMA.\nLIST.\n",
    "comments": "* A comment\n  over lines.\n/* and another */\nLIST /* here */ .\n",
    "warning": "DATA LIST /v 1.\nBEGIN DATA\nq\nEND DATA.\nLIST.\n",
    "host": "HOST COMMAND=['true'].\nLIST.\n",
    "width": "SET WIDTH=60.\nECHO 'a line that is longer than sixty characters so it has to be wrapped'.\n",
}
ENDS = {"end": "", "finish": "FINISH.\nNONSENSE.\n", "exit": "EXIT.\n", "no newline": "ECHO 'last'."}
FAILURES = {
    "unknown command": ("NONSENSE x.\n", "Unknown command"),
    "unknown variable": ("FREQUENCIES nosuch.\n", "nosuch"),
    "missing file": ("GET FILE='nosuch.sav'.\n", "nosuch.sav"),
    "missing include": ("INSERT FILE='nosuch.sps'.\n", "nosuch.sps"),
    "bad expression": ("COMPUTE z = x + .\n", "COMPUTE"),
    "unfinished string": ("ECHO 'no end.\n", "Unterminated"),
    "unfinished comment": ("COMPUTE z = 'a.\nLIST.\n", ""),
    "failing host": ("HOST COMMAND=['exit 4'].\n", "exited with status 4"),
    "missing program": ("HOST COMMAND=['no-such-program'].\n", "127"),
    "killed host": ("HOST COMMAND=['kill -9 $$'].\n", "signal 9"),
    "silenced host": ("SET ERRORS=NONE.\nHOST COMMAND=['false'].\n", "exited with status 1"),
    "narrow": ("SET WIDTH=40.\nFREQUENCIES nosuch.\n", "nosuch"),
}
AFTER = "ECHO 'after'.\nSAVE OUTFILE='bad.sav'.\n"


@pytest.fixture
def pspp(engine_of) -> Engine:
    return engine_of(PSPP)


def run(pspp: Engine, folder: Path, source: str) -> tuple[subprocess.CompletedProcess[str], Finished]:
    """The same program bare and as the platform runs it."""
    name = "é it's.sps"
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "SHELL": "/bin/sh"}  # HOST starts SHELL
    outcomes = []
    for part in ("bare", "tree"):
        tree = folder / part
        tree.mkdir()
        (tree / name).write_text(source, encoding="utf-8")
        if part == "bare":
            outcomes.append(subprocess.run([pspp.path, name], cwd=tree, capture_output=True, text=True, env=env))
        else:
            outcomes.append(run_script(registry.get("spss"), pspp, tree, name, env=env))
    return outcomes[0], outcomes[1]


@pytest.mark.parametrize(("step", "end"), [*itertools.product(STEPS, ENDS)])
def test_the_listing_is_the_bare_one(pspp: Engine, tmp_path: Path, step: str, end: str) -> None:
    bare, finished = run(pspp, tmp_path, DATA + STEPS[step] + ENDS[end])
    assert bare.returncode == 0
    assert finished.reason is None
    assert finished.stdout == bare.stdout


@pytest.mark.parametrize(("failure", "after"), [*itertools.product(FAILURES, ["", AFTER])])
def test_a_failure_stops_and_is_told(pspp: Engine, tmp_path: Path, failure: str, after: str) -> None:
    source, quoted = FAILURES[failure]
    bare, finished = run(pspp, tmp_path, DATA + "ECHO 'before'.\n" + source + after)
    assert finished.reason is not None, finished
    assert quoted in finished.reason.message
    assert "é it's.sps" in finished.reason.message
    for hidden in ("wrap.sps", "ERROR=STOP", "Stopping syntax file", "params.sps"):
        assert hidden not in finished.reason.message
        if hidden != "Stopping syntax file":
            assert hidden not in finished.stdout
    assert not (tmp_path / "tree" / "bad.sav").exists()
    # What it printed before it stopped is what the bare program printed.
    assert bare.stdout.startswith(finished.stdout.rstrip("\n"))


def test_a_nested_program_is_named_with_its_line(pspp: Engine, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "inner").mkdir(parents=True)
    (tree / "outer.sps").write_text("ECHO 'a'.\nINSERT FILE='inner/deep.sps' ERROR=STOP.\nECHO 'b'.\n")
    (tree / "inner" / "deep.sps").write_text("ECHO 'c'.\n\nNONSENSE.\n")
    finished = run_script(registry.get("spss"), pspp, tree, "outer.sps")
    assert finished.reason is not None
    assert "inner/deep.sps, line 3" in finished.reason.message


def test_numbers_stay_numbers(pspp: Engine, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "n.sps").write_text(DATA + "COMPUTE z = x * !alpha.\nLIST z.\n")
    finished = run_script(registry.get("spss"), pspp, tree, "n.sps", parameters={"alpha": "-1.5e1"})
    assert finished.reason is None
    assert "-15.00" in finished.stdout
