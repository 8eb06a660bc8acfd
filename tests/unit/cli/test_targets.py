"""What TARGET means."""

from __future__ import annotations

from pathlib import Path

import pytest

from groundplane.client import context, requests
from groundplane.client.targets import Target, resolve
from groundplane.model.errors import Invalid

SPEC = """
[project]
name = "t"

[pipelines.analysis.steps.a]
command = ["true"]

[pipelines.nightly.steps.a]
run = "x.R"
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    (folder / "sub").mkdir(parents=True)
    (folder / "fit.R").write_text("")
    (folder / "sub" / "é '$(x)'.py").write_text("")
    return folder


def test_a_script_runs_beside_its_own_folder_under_the_name_that_was_typed(here: Path) -> None:
    assert resolve("fit.R", here=here) == Target(str(here), script="fit.R")
    assert resolve("./fit.R", here=here) == Target(str(here), script="./fit.R")
    assert resolve("sub/é '$(x)'.py", here=here) == Target(str(here / "sub"), script="é '$(x)'.py")
    assert resolve(str(here / "fit.R"), here=here.parent) == Target(str(here), script="fit.R")
    assert resolve("../fit.R", here=here / "sub") == Target(str(here), script="fit.R")


def test_a_script_of_a_project_runs_beside_the_project(here: Path) -> None:
    (here / "ground.toml").write_text(SPEC)
    assert resolve("sub/é '$(x)'.py", here=here) == Target(str(here), script="sub/é '$(x)'.py", project=SPEC)
    assert resolve(str(here / "fit.R"), here=here) == Target(str(here), script="fit.R", project=SPEC)
    (here.parent / "out.py").write_text("")
    assert resolve("../out.py", here=here) == Target(str(here.parent), script="out.py")


def test_a_folder_is_its_ground_toml(here: Path) -> None:
    (here / "sub" / "ground.toml").write_text(SPEC)
    assert resolve("sub", here=here) == Target(str(here / "sub"), spec=SPEC)
    assert resolve("sub/", "nightly", here=here) == Target(str(here / "sub"), spec=SPEC, pipeline="nightly")
    assert resolve("sub/ground.toml", here=here).spec == SPEC
    assert resolve(".", here=here / "sub") == Target(str(here / "sub"), spec=SPEC)


def test_a_name_is_a_pipeline_of_the_current_folder(here: Path) -> None:
    (here / "ground.toml").write_text(SPEC)
    assert resolve("nightly", here=here) == Target(str(here), spec=SPEC, pipeline="nightly")
    (here / "nightly").write_text("")
    assert resolve("nightly", here=here).script == "nightly", "a file that exists comes first"


@pytest.mark.parametrize(
    ("target", "pipeline", "message", "hint"),
    [
        ("fit.r", None, "fit.r", "fit.R"),
        ("analisys", None, "analisys", "analysis"),
        ("zzz", None, "zzz", "analysis, nightly"),
        ("none/x.py", None, "none/x.py", "no folder"),
        ("fit.R", "nightly", "nightly", "--pipeline"),
        ("nightly", "analysis", "analysis", "one of them"),
        ("sub", None, "no ground.toml", "sub/ground.toml"),
    ],
)
def test_what_is_none_of_these_is_told_with_the_way_out(
    here: Path, target: str, pipeline: str | None, message: str, hint: str
) -> None:
    (here / "ground.toml").write_text(SPEC)
    with pytest.raises(Invalid) as caught:
        resolve(target, pipeline, here=here)
    assert message in caught.value.message and hint in caught.value.hint


def test_a_ground_toml_that_cannot_be_read(here: Path) -> None:
    (here / "ground.toml").write_bytes(b"name = \xff")
    with pytest.raises(Invalid, match="UTF-8"):
        resolve(".", here=here)
    (here / "ground.toml").write_text("[project\n")
    with pytest.raises(Invalid, match="line 1"):
        resolve("nightly", here=here)


def test_the_variables_that_travel() -> None:
    found = context.caller(
        {"PATH": "/bin", "R_LIBS_USER": "/r", "CONDA_PREFIX": "/c", "AWS_SECRET_ACCESS_KEY": "x", "https_proxy": "p"}
    )
    assert found.variables == {"PATH": "/bin", "R_LIBS_USER": "/r", "CONDA_PREFIX": "/c", "https_proxy": "p"}


def test_variables_that_are_chosen() -> None:
    assert context.chosen(["A=1=2", "B", "C="], {"B": "here"}) == {"A": "1=2", "B": "here", "C": ""}
    for entry in ("D", "=x", "A B=1", "1A=1", "A-B=1", "Ä=1", "GROUND_HOME=/x", "GROUND_PARAM_X=1"):
        with pytest.raises(Invalid):
            context.chosen([entry], {})


def test_any_text_is_a_parameters_value() -> None:
    assert context.parameters(["a=$(x)", "b=--help", "c=", "d=x=y", "a=2"]) == {
        "a": "2", "b": "--help", "c": "", "d": "x=y",
    }  # fmt: skip
    for entry in ("alpha", "=1"):
        with pytest.raises(Invalid):
            context.parameters([entry])


def test_a_pipeline_takes_no_toolchain(here: Path) -> None:
    (here / "ground.toml").write_text(SPEC)
    with pytest.raises(Invalid, match="single script"):
        requests.request("nightly", toolchain="r", here=here)
