"""What was done before is not done again, unless anything that could change its outcome has changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groundplane.model.documents import RunDocument
from groundplane.services import forecasts
from groundplane.spi import layout
from tests.planes import ME, Ground, task

STEPS = """
[pipelines.p.steps.one]
run = "one.py"
inputs = { "in.csv" = "data/in.csv" }
outputs = ["out.txt"]
[pipelines.p.steps.two]
run = "two.py"
inputs = { "in.txt" = "one/out.txt" }
outputs = ["end.txt"]
"""


class Project:
    """Two steps, one after the other, run by a program of the test's own that says it is Python."""

    def __init__(self, ground: Ground, tools: Path) -> None:
        self.ground, self.tools = ground, tools
        self.library = tools / "library"
        self.library.mkdir(parents=True)
        self.be_version("3.9.1")
        ground.write({"one.py": "1", "two.py": "2", "helper.py": "h", "data/in.csv": "a\n1\n"})
        self.leave("made by one")

    @property
    def program(self) -> Path:
        return self.tools / "python"

    def be_version(self, version: str) -> None:
        fresh = self.tools / "python.new"
        fresh.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "Python {version}" || echo "{self.library}"\n')
        fresh.chmod(0o755)
        fresh.replace(self.program)

    def leave(self, text: str) -> None:
        """What the work leaves from now on."""
        assert self.ground.backend
        self.ground.backend.script(str(self.program), {"outputs": {"out.txt": text, "end.txt": "end"}})

    def fields(self, fields: dict[str, Any]) -> dict[str, Any]:
        context = self.ground.context(PATH=f"{self.tools}:{os.environ['PATH']}")
        return {"context": context, **fields}

    def run(self, steps: str = STEPS, **fields: Any) -> RunDocument:
        run = self.ground.run(steps, **self.fields(fields))
        assert run.state == "succeeded", run
        return run

    def plan(self, steps: str = STEPS, **fields: Any) -> dict[str, str]:
        request = self.ground.request(steps, **self.fields(fields))
        return {each.step: each.reuse for each in forecasts.plan(self.ground.platform, ME, request).steps}


def reused(run: RunDocument) -> dict[str, bool]:
    return {each.name: each.reused for each in run.tasks}


@pytest.fixture
def project(ground: Ground, tmp_path: Path) -> Project:
    return Project(ground, tmp_path / "tools")


def test_what_did_not_change_is_reused_and_says_so(project: Project) -> None:
    assert project.plan() == {"one": "no earlier run", "two": "depends on one"}
    first = project.run()
    assert reused(first) == {"one": False, "two": False}
    assert project.plan() == {"one": "would be reused", "two": "would be reused"}
    second = project.run()
    assert reused(second) == {"one": True, "two": True}
    assert project.ground.starts(second) == []
    assert task(second, "one").outputs == task(first, "one").outputs
    assert task(second, "two").inputs == task(first, "two").inputs
    assert (task(second, "one").exit_code, task(second, "one").attempts) == (0, 0)


def change_script(project: Project) -> dict[str, Any]:
    project.ground.write({"one.py": "1, but better"})
    return {}


def change_helper(project: Project) -> dict[str, Any]:
    project.ground.write({"helper.py": "h2"})
    return {}


def add_file(project: Project) -> dict[str, Any]:
    project.ground.write({"new/file.txt": ""})
    return {}


def make_executable(project: Project) -> dict[str, Any]:
    (project.ground.project / "helper.py").chmod(0o755)
    return {}


def change_input(project: Project) -> dict[str, Any]:
    project.ground.write({"data/in.csv": "a\n2\n"})
    return {}


def change_version(project: Project) -> dict[str, Any]:
    project.be_version("3.9.2")
    return {}


def install_package(project: Project) -> dict[str, Any]:
    (project.library / "package.dist-info").mkdir()
    return {}


def give_variable(project: Project) -> dict[str, Any]:
    return {"environment": {"MODE": "fast"}}


def edit(old: str, new: str) -> Callable[[Project], dict[str, Any]]:
    def change(project: Project) -> dict[str, Any]:
        assert old in STEPS
        return {"steps": STEPS.replace(old, new, 1)}

    return change


@pytest.mark.parametrize(
    ("change", "named", "two_too"),
    [
        (change_script, "script", False),
        (change_helper, "project files", True),
        (add_file, "project files", True),
        (make_executable, "project files", True),
        (change_input, "inputs", False),
        (change_version, "engine", True),
        (install_package, "libraries", True),
        (give_variable, "environment", True),
        (edit("inputs =", "params = { alpha = 0.5 }\ninputs ="), "parameters", False),
        (edit("inputs =", 'args = ["--x"]\ninputs ='), "arguments", False),
        (edit("inputs =", 'env = { MODE = "slow" }\ninputs ='), "environment", False),
        (edit('outputs = ["out.txt"]', 'outputs = ["out.txt", "*.log"]'), "outputs", False),
        (edit('"in.csv" =', '"input.csv" ='), "inputs", False),
    ],
)
def test_each_component_that_changed_is_named_and_runs_again(
    project: Project, change: Callable[[Project], dict[str, Any]], named: str, two_too: bool
) -> None:
    project.run()
    changed = change(project)
    plan = project.plan(**changed)
    assert plan["one"] == f"changed: {named}"
    # The other step would read what the first one leaves: the same bytes, but that is not known yet.
    assert plan["two"] == "depends on one"
    assert reused(project.run(**changed)) == {"one": False, "two": not two_too}


@pytest.mark.parametrize(
    "change",
    [
        edit("inputs =", "retries = 3\ninputs ="),
        edit("inputs =", 'timeout = "1h"\ninputs ='),
        edit("inputs =", "# a comment\ninputs ="),
    ],
)
def test_what_cannot_change_the_outcome_does_not_matter(
    project: Project, change: Callable[[Project], dict[str, Any]]
) -> None:
    project.run()
    assert reused(project.run(**change(project))) == {"one": True, "two": True}


def test_another_steps_script_does_not_matter(project: Project) -> None:
    project.run()
    project.ground.write({"two.py": "two, but better"})
    assert reused(project.run()) == {"one": True, "two": False}


def test_what_ran_again_and_left_the_same_lets_the_next_be_reused(project: Project) -> None:
    project.run()
    project.ground.write({"one.py": "1, but better"})
    assert reused(project.run()) == {"one": False, "two": True}
    project.ground.write({"one.py": "1, and other"})
    project.leave("something else")
    assert reused(project.run()) == {"one": False, "two": False}


def test_back_to_what_it_was_is_reused(project: Project) -> None:
    project.run()
    change_input(project)
    project.run()
    project.ground.write({"data/in.csv": "a\n1\n"})
    assert reused(project.run()) == {"one": True, "two": True}


def test_fresh_turns_it_off(project: Project) -> None:
    project.run()
    assert project.plan(fresh=True) == {"one": "runs: --fresh", "two": "runs: --fresh"}
    assert reused(project.run(fresh=True)) == {"one": False, "two": False}
    assert reused(project.run()) == {"one": True, "two": True}


def test_content_that_is_gone_from_the_store_is_made_again(project: Project) -> None:
    first = project.run()
    output = next(each for each in task(first, "one").outputs if each.name == "out.txt")
    layout.blob(project.ground.home, output.sha256).unlink()
    second = project.run()
    assert reused(second) == {"one": False, "two": True}
    assert layout.blob(project.ground.home, output.sha256).read_text() == "made by one"


def test_a_rerun_is_reused_too_but_for_fresh(project: Project) -> None:
    first = project.run()
    assert reused(project.ground.rerun(first.id)) == {"one": True, "two": True}


def test_a_lone_script_and_a_step_without_outputs_always_run(project: Project) -> None:
    bare = STEPS.replace('outputs = ["end.txt"]', "")
    for _ in range(2):
        run = project.run(bare)
    assert reused(run) == {"one": True, "two": False}
    assert project.plan(bare)["two"] == "always runs"
    for _ in range(2):
        run = project.run("", script="one.py")
    assert reused(run) == {"one.py": False}


def test_a_failure_is_never_reused(project: Project) -> None:
    assert project.ground.backend
    project.ground.backend.script(str(project.program), {"exit": 1})
    for _ in range(2):
        run = project.ground.run(STEPS, **project.fields({}))
        assert (run.state, task(run, "one").reused, task(run, "one").attempts) == ("failed", False, 1)


def test_a_fan_outs_items_are_reused_one_by_one(project: Project) -> None:
    steps = '[pipelines.p.steps.f]\nrun = "one.py"\noutputs = ["out.txt"]\nfor_each = { n = [%s] }\n'
    project.run(steps % '"a", "b"')
    run = project.run(steps % '"a", "c", "b"')
    assert reused(run) == {"f[0]": True, "f[1]": False, "f[2]": True}


def test_another_key_of_the_home_reuses_nothing_of_secret_values(project: Project) -> None:
    given = {"environment": {"TOKEN": "12345678"}}
    project.run(**given)
    assert reused(project.run(**given)) == {"one": True, "two": True}
    assert reused(project.run(environment={"TOKEN": "87654321"})) == {"one": False, "two": False}


def test_a_probe_is_asked_once_until_the_program_changes(project: Project) -> None:
    asked = project.tools / "asked"
    text = project.program.read_text().replace("#!/bin/sh\n", f"#!/bin/sh\necho x >> {asked}\n")
    project.program.write_text(text)
    for _ in range(3):
        run = project.run()
    assert asked.read_text() == "x\nx\n"  # its version and its library folders
    assert task(run, "one").engine_version == "3.9.1"
    project.be_version("3.9.2")
    assert task(project.run(), "one").engine_version == "3.9.2"
