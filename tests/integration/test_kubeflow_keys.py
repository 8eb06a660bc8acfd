"""Every key of a step, compiled for Kubeflow: it is carried over, refused by name, or said in the docs to count for
nothing. A key that nobody has thought of fails here."""

from __future__ import annotations

import base64
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from groundplane.services.spec.format import ResourcesTable, StepTable
from tests.e2e.cli_ground import Ground

HEAD = """
[project]
name = "keys"

[environments.tiny]
image = "tiny:1"

[environments.other]
image = "other:2"

[pipelines.main.steps.first]
run = "a.sh"
environment = "tiny"
outputs = ["first.txt"]

[pipelines.main.steps.each]
run = "a.sh"
environment = "tiny"
for_each = { n = ["1", "2"] }

[pipelines.main.steps.it]
"""
CARRIED = {
    "run": ('run = "b.sh"', "'b.sh'"),
    "command": ('command = ["/bin/tool", "--x"]', "'/bin/tool' '--x'"),
    "toolchain": ('run = "b.txt"\ntoolchain = "shell"', "'b.txt'"),
    "args": ('args = ["a word"]', "'a word'"),
    "inputs": ('inputs = { "x.txt" = "first/first.txt" }', "from_first__first_txt"),
    "outputs": ('outputs = ["made.csv"]', "made_csv"),
    "params": ("params = { alpha = 0.25 }", "defaultValue: '0.25'"),
    "retries": ("retries = 7", "maxRetryCount: 7"),
    "timeout": ('timeout = "7m"', "activeDeadlineSeconds: 420"),
    "for_each": ('for_each = { region = ["north"] }', '["north"]'),
    "max_parallel": ('for_each = { region = ["north", "south"] }\nmax_parallel = 2', "parallelismLimit: 2"),
    "after": ('after = ["first"]', "dependentTasks:"),
    "env": ('env = { NOTE = "a note" }', "export NOTE='a note'"),
    "environment": ('environment = "other"', "image: other:2"),
    "resources.cpus": ("resources = { cpus = 3 }", "resourceCpuLimit: '3'"),
    "resources.memory": ('resources = { memory = "3MiB" }', "resourceMemoryLimit: '3145728'"),
    "resources.gpus": ("resources = { gpus = 2 }", "resourceCount: '2'"),
}
"""By key: what ground.toml says, and what of it only then stands in what is compiled."""

REFUSED = {
    "labels": ('labels = ["phi"]', "the labels phi"),
    "secrets": ('secrets = { TOKEN = "api-token" }', "the secret 'api-token'"),
    "connections": ('connections = ["warehouse"]', "the connection 'warehouse'"),
    "scopes": ('scopes = ["run.submit"]', "a token for 'run.submit'"),
    "network": ("network = false", "`network = false`"),
    "resources.nodes": ("resources = { nodes = 4 }", "4 nodes"),
}
"""By key: what ground.toml says, and how the refusal names it."""

SILENT = {"on": 'on = "local"'}
"""docs/kubeflow.md says why they count for nothing."""


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    made = Ground(tmp_path_factory.mktemp("keys"))
    for name in ("a.sh", "b.sh", "b.txt"):
        made.write(name, "true\n")
    yield made
    made.close()


def step(said: str) -> str:
    runs = "" if said.startswith(("run", "command")) else 'run = "a.sh"\n'
    where = "" if said.startswith("environment") else 'environment = "tiny"\n'
    return f"{HEAD}{runs}{where}{said}\n"


def compiled(ground: Ground, said: str) -> str:
    """All that the file tells a cluster: its own text, and the scripts packed in it, without the project's files."""
    ground.write("ground.toml", step(said))
    ground("pipelines", "compile", "main", "--to", "kubeflow", "-o", "../p.yaml")
    text = (ground.work.parent / "p.yaml").read_text()
    executors: dict[str, Any] = next(yaml.safe_load_all(text))["deploymentSpec"]["executors"]
    for executor in executors.values():
        count, *words = executor["container"]["args"]
        packed = base64.b64decode("".join(words[: int(count)]))
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            script = tar.extractfile("run.sh")
            assert script is not None
            text += script.read().decode()
    return text


def test_every_key_of_a_step_is_thought_of() -> None:
    keys = {field.alias or name for name, field in StepTable.model_fields.items()} - {"resources", "rerun"}
    keys |= {f"resources.{field.alias or name}" for name, field in ResourcesTable.model_fields.items()}
    assert {*CARRIED, *REFUSED, *SILENT} == keys


@pytest.fixture(scope="module")
def plain(ground: Ground) -> str:
    return compiled(ground, "")


@pytest.mark.parametrize("key", CARRIED)
def test_what_is_carried_over_is_in_the_file(ground: Ground, plain: str, key: str) -> None:
    said, found = CARRIED[key]
    text = compiled(ground, said)
    assert text.count(found) > plain.count(found)


@pytest.mark.parametrize("key", REFUSED)
def test_what_kfp_cannot_hold_is_refused_by_step_and_name(ground: Ground, key: str) -> None:
    said, told = REFUSED[key]
    ground.write("ground.toml", step(said))
    (ground.work.parent / "p.yaml").unlink(missing_ok=True)
    refused = ground("pipelines", "compile", "main", "--to", "kubeflow", "-o", "../p.yaml", code=2)
    assert refused.stderr.startswith("error: step 'it': KFP cannot hold ")
    assert told in refused.stderr and "hint: " in refused.stderr
    assert not (ground.work.parent / "p.yaml").exists()


def test_a_network_that_the_project_forbids_is_refused_too(ground: Ground) -> None:
    ground.write("ground.toml", step("").replace('name = "keys"', 'name = "keys"\nnetwork = false'))
    refused = ground("pipelines", "compile", "main", "--to", "kubeflow", "-o", "../p.yaml", code=2)
    assert "`network = false`" in refused.stderr


def test_a_step_that_must_not_run_twice_is_not_retried(ground: Ground) -> None:
    assert "maxRetryCount" in compiled(ground, "retries = 2\nrerun = true")
    assert "maxRetryCount" not in compiled(ground, "retries = 2\nrerun = false")


def test_where_it_runs_is_said_by_the_target(ground: Ground, plain: str) -> None:
    def shown(text: str) -> str:
        return text.partition("deploymentSpec:")[0]

    assert shown(compiled(ground, SILENT["on"])) == shown(plain)
    assert "`on` counts for nothing there" in (Path(__file__).parents[2] / "docs" / "kubeflow.md").read_text()


def test_a_file_that_cannot_be_written_is_wrong_usage(ground: Ground) -> None:
    ground.write("ground.toml", step(""))
    said = ground("pipelines", "compile", "main", "--to", "kubeflow", "-o", "/nonexistent/p.yaml", code=2)
    assert said.stderr == (
        "error: /nonexistent/p.yaml cannot be written: No such file or directory\nhint: name another file with -o\n"
    )
    compiled(ground, "")
    said = ground("pipelines", "import", "../p.yaml", "-o", "/proc/nowhere/project", code=2)
    assert "/proc/nowhere/project cannot be written" in said.stderr
