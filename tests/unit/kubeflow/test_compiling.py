"""Pipelines become KFP's IR; what that cannot hold is named."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from groundplane.kubeflow import ir, wrapper
from groundplane.kubeflow.compiling import PACKED_LIMIT, compiled
from groundplane.kubeflow.parts import SUPPORT, Files, Part, Start
from groundplane.kubeflow.scripts import Script
from groundplane.model.errors import Invalid
from groundplane.model.gpus import GpuKind
from groundplane.model.parameters import variable_name
from groundplane.model.pipelines import ForEach, Input, Pipeline, Source, SourceKind, Step
from groundplane.model.resources import Resources
from groundplane.services.spec import fanout
from groundplane.spi.toolchain import Command

MAKE = Step("make", script="make.sh", outputs=("a.csv", "parts/*.csv"), parameters={"alpha": "0.3"})
USE = Step(
    "use",
    script="use.sh",
    inputs=(Input("a.csv", Source(SourceKind.STEP, "a.csv", "make")),),
    outputs=("model.pkl", "metrics.json"),
    parameters={"alpha": "0.3", "own": "x"},
)
EACH = replace(USE, name="each", for_each=ForEach("region", values=("n", "s"), max_parallel=2))
FILES = Files({"make.sh": (b"true\n", True)})


def part(step: Step, command: Command | None = None, **more: Any) -> Part:
    def start(parameters: Mapping[str, str], item: str) -> Start:
        filled = fanout.fill(replace(step, parameters=parameters), item)
        words = tuple(word for each in filled.parameters.items() for word in each)
        variables = {variable_name(name): text for name, text in filled.parameters.items()}
        return Start(filled, command or Command(("sh", step.script or "", *words)), variables)

    items = step.for_each.values if step.for_each else None
    return Part(step, "img:1", True, start, items=items, **more)


def made(*parts: Part, parameters: Mapping[str, str] | None = None, files: Files = FILES) -> list[Any]:
    pipeline = Pipeline("main", "trial", tuple(each.step for each in parts), parameters or {"alpha": "0.3"})
    return list(yaml.safe_load_all(compiled(pipeline, parts, files)))


def test_parameters_artifacts_and_order() -> None:
    (spec,) = made(part(MAKE), part(USE))
    assert not ir.dangling(spec)
    assert spec["root"]["inputDefinitions"]["parameters"]["alpha"] == {
        "parameterType": "STRING", "defaultValue": "0.3", "isOptional": True,
    }  # fmt: skip
    task = spec["root"]["dag"]["tasks"]["use"]
    assert task["dependentTasks"] == ["make"]
    assert task["cachingOptions"] == {"enableCache": True}
    outputs = spec["components"]["comp-use"]["outputDefinitions"]["artifacts"]
    assert {name: each["artifactType"]["schemaTitle"] for name, each in outputs.items()} == {
        "model_pkl": "system.Model", "metrics_json": "system.Metrics",
    }  # fmt: skip


def test_limits_retries_and_time() -> None:
    step = replace(MAKE, resources=Resources(cpus=0.5, memory=2**30, gpus=2, timeout=90.0), retries=3)
    spec, platforms = made(replace(part(step), cached=False))
    container = spec["deploymentSpec"]["executors"]["exec-make"]["container"]
    assert container["resources"]["resourceCpuLimit"] == "0.5"
    assert container["resources"]["resourceMemoryLimit"] == str(2**30)
    assert container["resources"]["accelerator"]["resourceCount"] == "2"
    task = spec["root"]["dag"]["tasks"]["make"]
    assert task["retryPolicy"]["maxRetryCount"] == 3
    assert task["cachingOptions"] == {}
    executors = platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert executors == {"exec-make": {"activeDeadlineSeconds": 90}}


def test_a_step_that_must_not_run_twice_is_not_retried() -> None:
    (spec,) = made(part(replace(MAKE, retries=3, rerun=False)))
    assert "retryPolicy" not in spec["root"]["dag"]["tasks"]["make"]


def test_a_parameter_with_two_values_stays_each_steps_own() -> None:
    (spec,) = made(part(MAKE), part(replace(USE, parameters={"alpha": "0.5"})), parameters={})
    assert "inputDefinitions" not in spec["root"]
    given = spec["root"]["dag"]["tasks"]["use"]["inputs"]["parameters"]["alpha"]
    assert given == {"runtimeValue": {"constant": "0.5"}}


def test_a_fan_out_is_a_loop_and_its_outputs_are_a_list() -> None:
    join = Step("join", script="j.sh", inputs=(Input("all/", Source(SourceKind.STEP, "model.pkl", "each")),))
    (spec,) = made(part(MAKE), part(EACH), part(join))
    loop = spec["root"]["dag"]["tasks"]["for-loop-each"]
    assert loop["parameterIterator"]["items"] == {"raw": '["n", "s"]'}
    assert loop["iteratorPolicy"] == {"parallelismLimit": 2}
    assert spec["components"]["comp-join"]["inputDefinitions"]["artifacts"]["from_each__model_pkl"]["isArtifactList"]


READS_GLOB = Input("x/", Source(SourceKind.STEP, "parts/a*.csv", "make"))


@pytest.mark.parametrize(
    ("changed", "more", "told"),
    [
        (replace(USE, inputs=(Input("u", Source(SourceKind.URL, "https://h/x")),)), {}, "from a URL: https://h/x"),
        (USE, {"converted": ("a.csv",)}, "the conversion of 'a.csv' to 'a.csv'"),
        (replace(USE, inputs=(READS_GLOB,)), {}, "a part of 'make'"),
        (replace(USE, outputs=("p/**",)), {}, "an output glob with `**`"),
        (replace(EACH, outputs=("p/*.csv",)), {}, "many files from each task of a fan-out"),
        (replace(USE, resources=Resources(gpus=1, gpu_kind=GpuKind(memory=1))), {}, "`gpu.memory`"),
        (
            replace(USE, for_each=ForEach("f", source=Source(SourceKind.STEP, "parts/*.csv", "make"))), {},
            "a fan-out over files that 'make' makes",
        ),
        (replace(EACH, for_each=ForEach("alpha", values=("1",))), {}, "a parameter of the pipeline, too"),
        (
            replace(EACH, inputs=(Input("i", Source(SourceKind.STEP, "{region}.csv", "make")),)), {},
            "another artifact for each item",
        ),
        (replace(USE, secrets={"TOKEN": "api-token"}), {}, "the secret 'api-token'"),
        (replace(USE, connections=("warehouse",)), {}, "the connection 'warehouse'"),
        (
            replace(USE, inputs=(Input("u.csv", Source(SourceKind.QUERY, "connection:w?sql=select 1")),)), {},
            "the input 'u.csv' from a query",
        ),
        (USE, {"command": Command(("spss",), sentinel="@@END")}, "tells its success by a line of its log"),
    ],
)  # fmt: skip
def test_what_kfp_cannot_hold_is_refused_by_step_and_name(changed: Step, more: dict[str, Any], told: str) -> None:
    with pytest.raises(Invalid) as raised:
        made(part(MAKE), part(changed, **more))
    assert raised.value.message.startswith(f"step {changed.name!r}: KFP cannot hold ")
    assert told in raised.value.message
    assert raised.value.hint


def test_a_project_that_is_too_large_names_its_largest_files() -> None:
    import random

    large = random.Random(1).randbytes(2 * PACKED_LIMIT)
    with pytest.raises(Invalid, match=r"large\.bin \(512"):
        made(part(MAKE), files=Files({"large.bin": (large, False), "small": (b"", False)}))


def script(command: Command, parameters: Mapping[str, str]) -> str:
    step = Step("s", script="s", parameters=parameters)
    return Script(replace(part(step), start=lambda p, _: Start(step, _filled(command, p), {})), {}, {}).made([])[0]


def _filled(command: Command, parameters: Mapping[str, str]) -> Command:
    """A toolchain that writes numbers as they are and texts between quotes that it doubles."""
    number = parameters["a"].replace(".", "").isdigit()
    literal = parameters["a"] if number else "'" + parameters["a"].replace("'", "''") + "'"
    return replace(command, files={"p.m": f"a = {literal};"})


@pytest.mark.parametrize(("default", "allowed"), [("0.3", "0-9.eE+-"), ("text", "A-Za-z0-9_.,:/@+")])
def test_a_value_that_is_written_into_a_file_may_not_break_out_of_it(default: str, allowed: str) -> None:
    assert f"*[!{allowed}" in script(Command(("octave", f"{SUPPORT}/p.m")), {"a": default})


@pytest.mark.parametrize("value", ["", "it's", 'a "b" $c `d` \\', "two\nlines\n", "ä*?[x]"])
def test_any_text_survives_the_shell(value: str, tmp_path: Path) -> None:
    text = f"before '{wrapper.value('P0')}' after"
    code = f"value_p0=$1; printf %s {wrapper.quoted(text)}"
    done = subprocess.run(["sh", "-c", code, "sh", value], capture_output=True, text=True, check=True)
    assert done.stdout == f"before '{value}' after"


def test_the_paths_of_a_list_are_read_out_of_the_executor_input() -> None:
    given = (
        '{"inputs": {"parameterValues": {"x": "\\"all\\": {\\"artifacts\\": [] }"}, "artifacts": {"all": '
        '{"artifacts": [\n{"name": "a", "uri": "gs://b/one"}, {"uri": "/tmp/two words"}]}, '
        '"rest": {"artifacts": [{"uri": "no"}]}}}}'
    )
    code = f'executor_input=$1\n{wrapper.LISTED}\neach_path all | while IFS= read -r path; do echo "$path"; done'
    done = subprocess.run(["sh", "-c", code, "sh", given], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["/gcs/b/one", "/tmp/two words"]
