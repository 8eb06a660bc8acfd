"""`make demo`: the trial in four languages on real data, what a second run says, and what a machine without R gets."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parts import require

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "tools" / "demo.py"
OUT = ROOT / ".demo" / "trial"


@pytest.fixture
def home(tmp_path: Path):
    """A GROUND_HOME of its own, whose control plane and agent end with the test."""
    folder = tmp_path / "home"
    yield folder
    ground = Path(sys.executable).with_name("ground")
    subprocess.run([ground, "down", "--stop"], env=surroundings(folder), capture_output=True, check=False, timeout=60)


def surroundings(home: Path, path: str | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GROUND_")}
    return {**kept, "GROUND_HOME": str(home), "PATH": path or os.environ["PATH"], "NO_COLOR": "1", "LC_ALL": "C.UTF-8"}


def demo(home: Path, path: str | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, DEMO], env=surroundings(home, path), capture_output=True, text=True, check=False, timeout=580
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done


def path_without(*programs: str, at: Path) -> str:
    """PATH, with links to everything else in the place of each folder that has one of these programs."""
    folders: list[str] = []
    for number, folder in enumerate(map(Path, os.environ["PATH"].split(os.pathsep))):
        if not any((folder / program).exists() for program in programs):
            folders.append(str(folder))
            continue
        copy = at / str(number)
        copy.mkdir(parents=True)
        for program in folder.iterdir():
            if program.name not in programs:
                (copy / program.name).symlink_to(program)
        folders.append(str(copy))
    return os.pathsep.join(folders)


def test_the_demo_and_its_second_run(home: Path) -> None:
    for part in ("r", "matlab", "spss"):
        require(part)
    first = demo(home)
    for step in ("clean", "model", "score", "tables", "report"):
        assert f"{step}  " in first.stderr
    assert "analysis  succeeded" in first.stderr
    assert "metrics: patients 312, deaths 125, concordance 0.8459" in first.stderr
    assert ".demo/trial/report/report.html" in first.stdout
    assert "left out" not in first.stdout
    assert "ground run examples/trial -p alpha=0.1" in first.stdout
    page = (OUT / "report" / "report.html").read_text(encoding="utf-8")
    assert "Left out of this report" not in page
    assert "no evidence of a difference between the arms" in page
    with (OUT / "model" / "coef.csv").open(newline="") as file:
        drug = next(row for row in csv.DictReader(file) if row["term"] == "D-penicillamine")
    assert round(float(drug["hr"]), 4) == 0.9375

    second = demo(home)
    assert "reused      all 7 tasks" in second.stdout
    assert "report.html: 5 sections" not in second.stdout  # its script did not run


def test_a_machine_without_r_does_the_rest_and_says_so(home: Path, tmp_path: Path) -> None:
    for part in ("matlab", "spss"):
        require(part)
    # Nor apt-get: the demo of root would install what is missing.
    done = demo(home, path_without("R", "Rscript", "apt-get", at=tmp_path / "path"))
    assert "R is missing" in done.stdout
    assert "left out    model: R: it is not on PATH; ground toolchains install r" in done.stdout
    assert "analysis  succeeded" in done.stderr
    page = (OUT / "report" / "report.html").read_text(encoding="utf-8")
    assert "Left out of this report" in page
    assert "the Cox model (model.R)" in page
    assert "Weibull" in page
