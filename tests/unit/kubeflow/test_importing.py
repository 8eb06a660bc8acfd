"""Compiled pipelines, as the kfp SDK writes them, become projects; what cannot be kept is named."""

from __future__ import annotations

import copy
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from groundplane.kubeflow import importing, ir
from groundplane.kubeflow.importing import Imported, imported
from groundplane.kubeflow.names import Names
from groundplane.model.errors import Invalid
from groundplane.services import spec as ground

SHELL = {"image": "alpine:3", "command": ["sh", "-c", "echo $0 > $1"], "args": []}
STRING = {"parameterType": "STRING"}
DATASET = {"artifactType": {"schemaTitle": "system.Dataset", "schemaVersion": "0.0.1"}}


def two_tasks() -> dict[str, Any]:
    """`make` leaves data; `use` reads it and a parameter of the pipeline."""
    return {
        "pipelineInfo": {"name": "small"},
        "schemaVersion": "2.1.0",
        "sdkVersion": "kfp-2.17.3",
        "components": {
            "comp-make": {"executorLabel": "exec-make", "outputDefinitions": {"artifacts": {"data": DATASET}}},
            "comp-use": {
                "executorLabel": "exec-use",
                "inputDefinitions": {"artifacts": {"data": DATASET}, "parameters": {"word": STRING}},
            },
        },
        "deploymentSpec": {
            "executors": {
                "exec-make": {"container": {**SHELL, "args": ["a'b", "{{$.outputs.artifacts['data'].path}}"]}},
                "exec-use": {
                    "container": {
                        **SHELL,
                        "args": ["{{$.inputs.parameters['word']}}", "x={{$.inputs.artifacts['data'].path}}"],
                    }
                },
            }
        },
        "root": {
            "dag": {
                "tasks": {
                    "make": {"componentRef": {"name": "comp-make"}, "cachingOptions": {"enableCache": True}},
                    "use": {
                        "componentRef": {"name": "comp-use"},
                        "cachingOptions": {"enableCache": True},
                        "dependentTasks": ["make"],
                        "inputs": {
                            "artifacts": {
                                "data": {"taskOutputArtifact": {"producerTask": "make", "outputArtifactKey": "data"}}
                            },
                            "parameters": {"word": {"componentInputParameter": "word"}},
                        },
                    },
                }
            },
            "inputDefinitions": {"parameters": {"word": {**STRING, "defaultValue": "w", "isOptional": True}}},
        },
    }


def read(body: dict[str, Any], *more: dict[str, Any]) -> ir.Document:
    return ir.read("---\n".join(yaml.safe_dump(each) for each in (body, *more)), "p.yaml")


def made(body: dict[str, Any], *more: dict[str, Any], images: bool | None = None) -> Imported:
    return imported(read(body, *more), images=images)


def at(body: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The body with another value at `a/b/c`."""
    changed = copy.deepcopy(body)
    *folders, last = path.split("/")
    part = changed
    for folder in folders:
        part = part.setdefault(folder, {})
    part[last] = value
    return changed


USE, MAKE = "root/dag/tasks/use", "root/dag/tasks/make"
CONTAINER = "deploymentSpec/executors/exec-use/container"


def test_a_project_that_groundplane_reads() -> None:
    found = made(two_tasks())
    project = ground.parse(found.files["ground.toml"])
    pipeline = ground.resolve(ground.pipeline(project), found.files, {"word": "other"})
    assert [step.name for step in pipeline.steps] == ["make", "use"]
    assert pipeline.step("use").needs == ("make",)
    assert pipeline.step("use").runs_in == "alpine-3"
    assert project.environments["alpine-3"].image == "alpine:3"
    assert found.files["steps/make.sh"].endswith("""exec 'sh' '-c' 'echo $0 > $1' 'a'\\''b' "$PWD"/'out/data'\n""")
    assert found.files["steps/use.sh"].endswith(""" "$GROUND_PARAM_WORD" 'x='"$PWD"/'in/make/data'\n""")
    assert any("--on docker" in note for note in found.notes)


def test_without_images_it_runs_with_what_is_installed() -> None:
    found = made(two_tasks(), images=False)
    assert "environment" not in found.files["ground.toml"]
    assert found.notes == ["steps of the image alpine:3 run with what is installed there"]


def test_limits_retries_variables_and_caching() -> None:
    body = at(two_tasks(), f"{USE}/retryPolicy", {"maxRetryCount": 2, "backoffDuration": "30s"})
    body = at(body, f"{USE}/cachingOptions", {})
    body = at(body, f"{CONTAINER}/env", [{"name": "A", "value": "b"}])
    accelerator = {"resourceType": "nvidia.com/gpu", "resourceCount": "2"}
    limits = {"resourceCpuLimit": "500m", "resourceMemoryLimit": "2G", "accelerator": accelerator}
    body = at(body, f"{CONTAINER}/resources", limits)
    platform = {
        "platforms": {"kubernetes": {"deploymentSpec": {"executors": {"exec-use": {"activeDeadlineSeconds": "90"}}}}}
    }
    found = made(body, platform)
    step = tomllib.loads(found.files["ground.toml"])["pipelines"]["small"]["steps"]["use"]
    assert step["resources"] == {"cpus": 0.5, "memory": 2_000_000_000, "gpus": 2}
    assert (step["retries"], step["timeout"], step["env"]) == (2, 90, {"A": "b"})
    assert any("--fresh" in note for note in found.notes)
    assert any("at once" in note for note in found.notes)


def test_a_parameter_without_a_default_has_to_be_given() -> None:
    found = made(at(two_tasks(), "root/inputDefinitions/parameters/word", STRING))
    assert found.required == ("word",)
    assert "${GROUND_PARAM_WORD:?" in found.files["steps/use.sh"]


VALUES = [
    ("NUMBER_INTEGER", "1", True), ("NUMBER_INTEGER", "2.0", True), ("NUMBER_INTEGER", "1.7", False),
    ("NUMBER_INTEGER", "abc", False), ("NUMBER_INTEGER", "true", False), ("NUMBER_INTEGER", "Infinity", False),
    ("NUMBER_INTEGER", "NaN", False), ("NUMBER_INTEGER", "", False),
    ("NUMBER_DOUBLE", "1", True), ("NUMBER_DOUBLE", "-1.5e-3", True), ("NUMBER_DOUBLE", "1,5", False),
    ("NUMBER_DOUBLE", "false", False), ("NUMBER_DOUBLE", "[1]", False),
    ("BOOLEAN", "true", True), ("BOOLEAN", "False", True), ("BOOLEAN", "1", False), ("BOOLEAN", "yes", False),
    ("LIST", "[1, 2]", True), ("LIST", "[]", True), ("LIST", "1, 2", False), ("LIST", "{}", False),
    ("STRUCT", '{"a": 1}', True), ("STRUCT", "[1]", False), ("STRUCT", "{a: 1}", False),
    ("STRING", "abc", True), ("STRING", "1", True), ("STRING", "", True), ("STRING", "true", True),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "good"), VALUES)
def test_a_value_that_is_not_of_the_parameters_type_is_refused(kind: str, text: str, good: bool) -> None:
    found = made(at(two_tasks(), "root/inputDefinitions/parameters/n", {"parameterType": kind, "defaultValue": 1.0}))
    if good:
        found.check({"n": text, "word": "x"})
        return
    with pytest.raises(Invalid, match=rf"the parameter 'n' is .* in KFP \({kind}\)") as refused:
        found.check({"n": text, "word": "x"})
    assert "-p n=" in refused.value.hint


@pytest.mark.parametrize(("kind", "text", "good"), VALUES)
def test_a_project_that_was_imported_names_the_parameter_and_its_type(
    kind: str, text: str, good: bool, tmp_path: Path
) -> None:
    """In a process of its own: kfp_step takes the place of kfp."""
    plan = {"parameter": "n", "variable": "GROUND_PARAM_N", "type": kind, "required": False, "optional": False}
    program = tmp_path / "step.py"
    program.write_text(f"import kfp_step\nprint(kfp_step.value({plan}, ''))\n")
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, check=False,
        env={"GROUND_PARAM_N": text, "PYTHONPATH": str(Path(importing.__file__).parent)},
    )  # fmt: skip
    assert (done.returncode == 0) == good
    if not good:
        assert done.stderr == f"error: the parameter 'n' has the type {kind} in KFP, and {text!r} is no value of it\n"


def test_an_optional_parameter_may_be_empty() -> None:
    declared = {"parameterType": "NUMBER_INTEGER", "isOptional": True}
    made(at(two_tasks(), "root/inputDefinitions/parameters/n", declared)).check({"n": ""})


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (f"{USE}/triggerPolicy", {"condition": "1 == 2"}, "task 'use': Groundplane cannot keep a condition"),
        (f"{USE}/triggerPolicy", {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}, "cannot keep an exit handler"),
        (f"{USE}/artifactIterator", {"itemInput": "data"}, "a loop over artifacts"),
        (f"{USE}/parameterIterator", {"itemInput": "word", "items": {"raw": "[1]"}}, "it has no tasks of its own"),
        ("deploymentSpec/executors/exec-make", {"importer": {}}, "task 'make': Groundplane cannot keep an importer"),
        (f"{CONTAINER}/command", [], "its image's own entry point"),
        (f"{CONTAINER}/image", "{{$.inputs.parameters['word']}}", "an image that an input names"),
        (f"{CONTAINER}/lifecycle", {"preCacheCheck": {}}, "what its container says of lifecycle"),
        (f"{CONTAINER}/env", [{"name": "GROUND_X", "value": "1"}], "'GROUND_X'"),
        (f"{CONTAINER}/env", [{"name": "X", "value": "{{$.inputs.parameters['word']}}"}], "which an input gives"),
        (f"{CONTAINER}/resources", {"resourceMemoryLimit": "lots"}, "the memory limit 'lots'"),
        (f"{CONTAINER}/resources", {"resourceCpuLimit": "{{$.inputs.parameters['word']}}"}, "resources that an input"),
        (f"{CONTAINER}/resources", {"accelerator": {"type": "tpu-v3", "count": "1"}}, "the accelerator tpu-v3"),
        (f"{CONTAINER}/args", ["{{$.pipeline_root}}"], "the placeholder {{$.pipeline_root}}"),
        (f"{CONTAINER}/args", ["{{$.inputs.artifacts['data'].metadata['x']}}"], "the placeholder"),
        ("root/inputDefinitions/artifacts", {"data": DATASET}, "takes artifacts as inputs (data)"),
        (
            f"{USE}/inputs/parameters/word",
            {"componentInputParameter": "word", "parameterExpressionSelector": "upper(string_value)"},
            "the expression 'upper(string_value)'",
        ),
        (
            f"{USE}/inputs/parameters/word",
            {"runtimeValue": {"constant": "{{$.pipeline_root}}"}},
            "the placeholder {{$.pipeline_root}}",
        ),
        (
            "components/comp-use/inputDefinitions/parameters/word",
            {"parameterType": "TASK_FINAL_STATUS"},
            "the status of other tasks",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused_by_name(path: str, value: Any, told: str) -> None:
    with pytest.raises(Invalid) as raised:
        made(at(two_tasks(), path, value))
    assert told in raised.value.message
    assert raised.value.hint
    assert raised.value.exit_code == 2


def test_what_kubernetes_alone_is_told_is_refused() -> None:
    secret = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {"exec-use": {"secretAsEnv": [{}]}}}}}}
    with pytest.raises(Invalid, match="what Kubernetes is told about it: secretAsEnv"):
        made(two_tasks(), secret)
    config = {"platforms": {"kubernetes": {"pipelineConfig": {"workspace": {"size": "1Gi"}}}}}
    with pytest.raises(Invalid, match="pipelineConfig"):
        made(two_tasks(), config)
    with pytest.raises(Invalid, match="the platform elsewhere"):
        made(two_tasks(), {"platforms": {"elsewhere": {}}})


def looped(items: dict[str, Any]) -> dict[str, Any]:
    """`use` within a loop."""
    body = two_tasks()
    inner = body["root"]["dag"]["tasks"].pop("use")
    inner.pop("dependentTasks")
    inner["inputs"]["artifacts"]["data"] = {"componentInputArtifact": "data"}
    inner["inputs"]["parameters"]["word"] = {"componentInputParameter": "item"}
    body["components"]["comp-loop"] = {
        "dag": {"tasks": {"use": inner}},
        "inputDefinitions": {"artifacts": {"data": DATASET}, "parameters": {"item": STRING, "list": STRING}},
    }
    body["root"]["dag"]["tasks"]["loop"] = {
        "componentRef": {"name": "comp-loop"},
        "dependentTasks": ["make"],
        "inputs": {
            "artifacts": {"data": {"taskOutputArtifact": {"producerTask": "make", "outputArtifactKey": "data"}}},
            "parameters": {"list": {"componentInputParameter": "word"}},
        },
        "parameterIterator": {"itemInput": "item", "items": items},
        "iteratorPolicy": {"parallelismLimit": 3},
    }
    return body


def test_a_loop_over_literal_items_is_a_fan_out() -> None:
    step = tomllib.loads(made(looped({"raw": '["a", "b"]'})).files["ground.toml"])["pipelines"]["small"]["steps"]["use"]
    assert step["for_each"] == {"item": ["a", "b"]}
    assert step["max_parallel"] == 3


def test_a_loop_over_a_list_that_is_not_known_yet_has_a_step_that_splits_it() -> None:
    found = made(looped({"inputParameter": "list"}))
    steps = tomllib.loads(found.files["ground.toml"])["pipelines"]["small"]["steps"]
    assert steps["use"]["for_each"] == {"item": "loop-items/items/[0-9]*"}
    assert "kfp_step.split" in found.files[steps["loop-items"]["run"]]
    assert "steps/kfp_step.py" in found.files


def test_loops_that_cannot_be_kept() -> None:
    with pytest.raises(Invalid, match="an item twice"):
        made(looped({"raw": '["a", "a"]'}))
    nested = looped({"raw": '["a"]'})
    nested["components"]["comp-loop"]["dag"]["tasks"]["use"]["parameterIterator"] = {
        "itemInput": "word", "items": {"raw": "[]"},
    }  # fmt: skip
    with pytest.raises(Invalid, match="a loop within a loop"):
        made(nested)


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (f"{USE}/componentRef/name", "comp-none", "names a component that is not there: 'comp-none'"),
        (f"{USE}/dependentTasks", ["none"], "comes after a task that is not there: 'none'"),
        (f"{USE}/inputs/parameters/word", {"componentInputParameter": "none"}, "its pipeline does not have: 'none'"),
        (f"{USE}/inputs/parameters", {}, "gives no value to the input 'word' of 'comp-use'"),
        ("components/comp-make/executorLabel", "exec-none", "names an executor that is not there: 'exec-none'"),
        ("components/comp-make/outputDefinitions", {}, "comes from 'make', which has no output 'data'"),
        (
            f"{USE}/inputs/artifacts/data",
            {"taskOutputArtifact": {"producerTask": "none", "outputArtifactKey": "data"}},
            "comes from a task that is not there: 'none'",
        ),
        (
            f"{USE}/parameterIterator",
            {"itemInput": "word", "items": {"inputParameter": "none"}},
            "goes over an input that it does not have: 'none'",
        ),
        (
            "root/dag/outputs/artifacts",
            {"x": {"artifactSelectors": [{"producerSubtask": "make", "outputArtifactKey": "none"}]}},
            "output 'x' of 'root' comes from 'make', which has no output 'none'",
        ),
    ],
)  # fmt: skip
def test_a_name_that_leads_nowhere_is_found(path: str, value: Any, told: str) -> None:
    assert not ir.dangling(two_tasks())
    with pytest.raises(Invalid) as raised:
        made(at(two_tasks(), path, value))
    assert told in raised.value.message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "is no YAML, line"),
        ("", "is no compiled KFP pipeline"),
        ("- 1", "is no compiled KFP pipeline"),
        ("a: 1", "is no compiled KFP pipeline"),
        ("apiVersion: argoproj.io/v1alpha1\nkind: Workflow", "a Kubernetes object"),
        ("{pipelineInfo: {}, root: {}, deploymentSpec: {}, schemaVersion: 3.0.0}", "schemaVersion '3.0.0'"),
        ("{pipelineInfo: {}, root: {dag: []}, deploymentSpec: {}, schemaVersion: 2.1.0}", "has another form"),
    ],
)  # fmt: skip
def test_a_file_that_is_none(text: str, told: str) -> None:
    with pytest.raises(Invalid, match=told) as raised:
        ir.read(text, "p.yaml")
    assert raised.value.hint


def test_names_are_given_once() -> None:
    names = Names(["a"])
    assert [names.new("a"), names.new("a"), names.new("b_c"), names.new("b_c")] == ["a-2", "a-3", "b_c", "b_c_2"]
