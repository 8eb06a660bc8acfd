"""Which of a project's own locks an environment is made from."""

from __future__ import annotations

from pathlib import Path

import pytest

from groundplane.model.environments import Environment
from groundplane.services import environments

HERE = Path()
PY = Environment("py", toolchain="python", version="3.13")


def chosen(environment: Environment, *files: str) -> str:
    return environments.native_lock(environment, lambda name: name in files)


@pytest.mark.parametrize(
    ("environment", "files", "expected"),
    [
        (PY, ("uv.lock", "pylock.toml", "renv.lock"), "pylock.toml"),
        (PY, ("uv.lock", "renv.lock"), "uv.lock"),
        (PY, ("renv.lock",), ""),
        (Environment("py", toolchain="python", packages=("numpy",)), ("uv.lock",), ""),
        (Environment("nb", toolchain="notebook"), ("uv.lock",), "uv.lock"),
        (Environment("r", toolchain="r", version="4.5"), ("uv.lock", "renv.lock"), "renv.lock"),
        (Environment("r", toolchain="r", packages=("jsonlite",)), ("renv.lock",), ""),
        (Environment("o", toolchain="octave"), ("uv.lock", "renv.lock"), ""),
        (Environment("i", image="python:3.13"), ("uv.lock",), ""),
    ],
)
def test_the_first_that_is_there_counts_unless_packages_are_listed(
    environment: Environment, files: tuple[str, ...], expected: str
) -> None:
    assert chosen(environment, *files) == expected


def test_only_the_lock_that_counts_is_part_of_the_definition() -> None:
    digests = {"uv.lock": "1"}
    plain = environments.definition(PY, lambda name: None, HERE)
    locked = environments.definition(PY, digests.get, HERE)
    assert len({plain, locked, environments.definition(PY, {"uv.lock": "2"}.get, HERE)}) == 3
    listed = Environment("py", toolchain="python", version="3.13", packages=("six",))
    assert environments.definition(listed, digests.get, HERE) == listed.definition


def test_what_is_passed_over_is_said(tmp_path: Path) -> None:
    listed = Environment("py", toolchain="python", packages=("six",))
    assert environments.passed_over(listed, tmp_path) == ""
    (tmp_path / "uv.lock").touch()
    assert "[environments.py] lists count, and uv.lock does not" in environments.passed_over(listed, tmp_path)
    assert environments.passed_over(PY, tmp_path) == ""


def test_the_catalogues_own_environment_is_made_from_no_file() -> None:
    own = Environment("", toolchain="python", version="3.13")
    assert environments.definition(own, {"uv.lock": "1"}.get, HERE) == own.definition


def test_a_notebook_has_jupyters_parts_from_the_suite(tmp_path: Path) -> None:
    recipe = environments.recipe(Environment("nb", toolchain="notebook", packages=("pandas",)), tmp_path)
    assert recipe.python == ("pandas",)
    assert {"python3-ipykernel", "python3-nbclient"} <= set(recipe.debs)
