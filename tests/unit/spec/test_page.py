"""docs/pipelines.md and the file format say the same."""

from __future__ import annotations

import re
from pathlib import Path

from groundplane.model import caches
from groundplane.services import spec
from groundplane.services.spec.format import PipelineTable, ProjectTable, ResourcesTable, StepTable

PAGE = (Path(__file__).parents[3] / "docs/pipelines.md").read_text()


def test_every_key_has_its_row() -> None:
    for table in (ProjectTable, PipelineTable, StepTable):
        for key in table.model_fields:
            assert f"\n| `{key}` |" in PAGE, key
    for key in ResourcesTable.model_fields:
        assert f"`{key}`" in PAGE, key


def test_no_row_is_of_a_key_that_is_not() -> None:
    known = {*ProjectTable.model_fields, *PipelineTable.model_fields, *StepTable.model_fields}
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)) == known


def test_the_example_is_a_valid_file() -> None:
    (example,) = re.findall(r"```toml\n(\[project\].*?)```", PAGE, re.DOTALL)
    files = ["clean.py", "model.R", "score.m", "report.py", "data/raw.csv"]
    assert len(spec.resolve(spec.pipeline(spec.parse(example)), files, {}).steps) == 4


def test_each_fan_out_is_valid() -> None:
    found = re.findall(r"```toml\n(# one task.*?)```", PAGE, re.DOTALL)
    assert len(found) == 3
    for body in found:
        text = (
            '[project]\nname = "x"\n[pipelines.p.steps.clean]\ncommand = ["c"]\noutputs = ["parts/*.csv"]\n'
            f'[pipelines.p.steps.s]\ncommand = ["c"]\n{body}'
        )
        files = ["sheets/a.xlsx", "data/north.csv", "data/south.csv"]
        spec.resolve(spec.pipeline(spec.parse(text)), files, {})


def test_what_is_left_out_is_told() -> None:
    for name in caches.NAMES:
        assert f"`{name}`" in PAGE, name
