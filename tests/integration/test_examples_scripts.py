"""The examples are what their README says: plain scripts that run without Groundplane and agree with each other.

What `ground run` makes of them is tested end to end; here no platform stands between a script and its interpreter, so a
failure is the script's own.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.parts import require

EXAMPLES = Path(__file__).parents[2] / "examples"
TRIAL = EXAMPLES / "trial"

BY_DEFAULT = "1168.0"
HALF = "1189.1"  # alpha = 0.5, the same in every language

HELLOS = [
    pytest.param(None, [sys.executable, "hello.py"], id="python"),
    pytest.param(None, ["sh", "hello.sh"], id="shell"),
    pytest.param("r", ["Rscript", "--vanilla", "hello.R"], id="r"),
    pytest.param("matlab", ["octave-cli", "-q", "--no-history", "hello.m"], id="octave"),
]


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _copy(name: str, folder: Path) -> None:
    (folder / name).write_bytes((EXAMPLES / name).read_bytes())


@pytest.mark.parametrize(("part", "command"), HELLOS)
def test_a_hello_runs_by_hand(part: str | None, command: list[str], tmp_path: Path) -> None:
    if part:
        require(part)
    _copy(command[-1], tmp_path)
    assert _run(command, tmp_path).strip().endswith(BY_DEFAULT)
    assert _run([*command, "--alpha", "0.5"], tmp_path).strip().endswith(HALF)
    last = (tmp_path / "smooth.csv").read_text().split()[-1].split(",")
    assert last[0] == "1880"
    assert f"{float(last[2]):.1f}" == HALF


def test_the_macro_of_hello_sps_has_a_default(tmp_path: Path) -> None:
    require("spss")
    _copy("hello.sps", tmp_path)
    assert BY_DEFAULT in _run(["pspp", "hello.sps"], tmp_path)
    (tmp_path / "given.sps").write_text("DEFINE !alpha () 0.5 !ENDDEFINE.\n")
    assert HALF in _run(["pspp", "given.sps", "hello.sps"], tmp_path)
    assert (tmp_path / "smooth.sav").is_file()


def test_the_notebook_is_clean_and_takes_parameters() -> None:
    notebook = json.loads((EXAMPLES / "hello.ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert [cell["metadata"].get("tags") for cell in code].count(["parameters"]) == 1


def test_the_trial_data_is_what_its_source_page_says() -> None:
    page = (TRIAL / "data" / "SOURCE.md").read_text(encoding="utf-8")
    assert hashlib.sha256((TRIAL / "data" / "pbc.csv").read_bytes()).hexdigest() in page


def test_the_trial_data_is_still_what_r_ships(tmp_path: Path) -> None:
    require("r")
    page = (TRIAL / "data" / "SOURCE.md").read_text(encoding="utf-8")
    command = re.search(r"^Rscript -e '(.+)'$", page, re.MULTILINE)
    assert command
    _run(["Rscript", "--vanilla", "-e", command[1]], tmp_path)
    assert (tmp_path / "pbc.csv").read_bytes() == (TRIAL / "data" / "pbc.csv").read_bytes()


def test_every_script_of_the_trial_is_a_step() -> None:
    steps = tomllib.loads((TRIAL / "ground.toml").read_text(encoding="utf-8"))["pipelines"]["analysis"]["steps"]
    scripts = {path.name for path in TRIAL.iterdir() if path.suffix in {".py", ".R", ".m", ".sps"}}
    assert {step["run"] for step in steps.values()} == scripts


def test_no_example_needs_groundplane() -> None:
    for path in EXAMPLES.rglob("*"):
        if path.suffix in {".py", ".R", ".m", ".sps", ".sas", ".sh", ".ipynb"}:
            assert not re.search(r"groundplane|GROUND_", path.read_text(encoding="utf-8")), path
