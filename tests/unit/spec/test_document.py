"""`ground.toml` as text: what is read, and everything wrong with it at once."""

from __future__ import annotations

import tomllib

import jsonschema
import pytest

from groundplane.model.errors import Invalid, NotFound
from groundplane.model.resources import Resources
from groundplane.services import spec

EXAMPLE = """\
[project]
name = "trial"

[pipelines.analysis]
params = { alpha = 0.05 }                      # -p alpha=0.1 overrides, for every step

[pipelines.analysis.steps.clean]
run = "clean.py"
inputs = { "raw.csv" = "data/raw.csv" }
outputs = ["clean.parquet", "parts/*.csv"]

[pipelines.analysis.steps.model]
run = "model.R"
inputs = { "clean.csv" = "clean/clean.parquet" }   # converted by the two endings
outputs = ["coef.csv", "fit.rds", "metrics.json"]
params = { family = "binomial" }
resources = { cpus = 1, memory = "1GiB", gpus = 0 }
retries = 1
timeout = "10m"

[pipelines.analysis.steps.score]
run = "score.m"
for_each = { part = "clean/parts/*.csv" }
inputs = { "part.csv" = "{part}" }
outputs = ["score.csv"]

[pipelines.analysis.steps.report]
run = "report.py"
inputs = { "scores/" = "score/score.csv", "coef.csv" = "model/coef.csv" }   # a fan-out joins as a folder
outputs = ["report.html"]
after = ["model"]                              # order without data
"""
HEAD = '[project]\nname = "t"\n'


def step(body: str, name: str = "s") -> str:
    return f"{HEAD}[pipelines.p.steps.{name}]\n{body}\n"


def refusal(text: str | bytes) -> Invalid:
    with pytest.raises(Invalid) as caught:
        spec.parse(text)
    return caught.value


def test_the_example_is_read_as_written() -> None:
    project = spec.parse(EXAMPLE)
    assert (project.name, list(project.pipelines)) == ("trial", ["analysis"])
    model = project.pipelines["analysis"].step("model")
    assert (model.script, model.retries, model.outputs) == ("model.R", 1, ("coef.csv", "fit.rds", "metrics.json"))
    assert model.resources == Resources(cpus=1, memory=1024**3, gpus=0, timeout=600)
    assert dict(model.parameters) == {"family": "binomial"}
    assert project.pipelines["analysis"].parameters == {"alpha": "0.05"}


def test_nodes_of_a_step() -> None:
    project = spec.parse(step('run = "a.py"\nresources = { nodes = 4, gpus = 8 }'))
    assert project.pipelines["p"].step("s").resources == Resources(nodes=4, gpus=8)
    assert "resources.nodes" in refusal(step('run = "a.py"\nresources = { nodes = 0 }')).message
    assert "belongs into `resources`" in refusal(step('run = "a.py"\nnodes = 4')).message


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("1.0", "1.0"),
        ("1e-7", "1e-07"),
        ("0.1", "0.1"),
        ("true", "true"),
        ("1979-05-27", "1979-05-27"),
        ('"$(x)"', "$(x)"),
        ("nan", "nan"),
        ("9007199254740993", "9007199254740993"),
    ],
)
def test_parameters_are_text(value: str, text: str) -> None:
    pipeline = spec.parse(step(f'run = "a.py"\nparams = {{ x = {value} }}')).pipelines["p"]
    assert pipeline.steps[0].parameters == {"x": text}


def test_numbers_serve_where_texts_do() -> None:
    read = spec.parse(step('command = ["true"]\ntimeout = 90\nresources = { memory = 1024, cpus = 0.5 }'))
    assert read.pipelines["p"].steps[0].resources == Resources(cpus=0.5, memory=1024, timeout=90)


def test_most_tasks_at_a_time_beside_or_inside_the_fan_out() -> None:
    for body in ("for_each = { i = [1, 2] }\nmax_parallel = 4", "for_each = { i = [1, 2], max_parallel = 4 }"):
        fan = spec.parse(step('command = ["true"]\n' + body)).pipelines["p"].steps[0].for_each
        assert fan is not None
        assert (fan.variable, fan.values, fan.max_parallel) == ("i", ("1", "2"), 4)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('run = "a.py"\nretry = 1', ["pipelines.p.steps.s: unknown key 'retry'; did you mean 'retries'?"]),
        ('run = "a.py"\nmemory = "1GiB"', ["unknown key 'memory'; it belongs into `resources`"]),
        ('run = "a.py"\nresources = { timeout = 3 }', ["unknown key 'timeout'; it belongs to the step itself"]),
        ('run = "a.py"\ncommand = ["x"]', ["both `run` and `command`"]),
        ("retries = 1", ["neither `run` nor `command`"]),
        ("command = []", ["pipelines.p.steps.s.command: is empty"]),
        ('command = [""]', ["program is empty"]),
        ('command = "ls -l"', ["'ls -l' is not an array"]),
        ('run = "a.py"\nretries = -1', ["retries: -1 must be at least 0"]),
        ('run = "a.py"\nretries = 101', ["retries: 101 must be at most 100"]),
        ('run = "a.py"\nretries = true', ["retries: True is not a whole number"]),
        ('run = "a.py"\nrerun = "no"', ["rerun: 'no' is not true or false"]),
        ('run = "a.py"\ntimeout = "soon"', ["timeout: 'soon' is not a duration"]),
        ('run = "a.py"\ntimeout = 0', ["timeout: 0 is not a duration"]),
        ('run = "a.py"\ntimeout = inf', ["timeout: inf is not a duration"]),
        ('run = "a.py"\ntimeout = true', ["timeout: True is not a duration"]),
        ('run = "a.py"\nresources = { gpus = -1 }', ["resources.gpus: -1 must be at least 0"]),
        ('run = "a.py"\nresources = { cpus = 0 }', ["resources.cpus: 0 must be more than 0"]),
        ('run = "a.py"\nresources = { cpus = nan }', ["resources.cpus"]),
        ('run = "a.py"\nresources = { memory = "lots" }', ["resources.memory: 'lots' is not a size"]),
        ('run = "a.py"\nresources = { memory = "0GiB" }', ["resources.memory: '0GiB' is not a size"]),
        ('run = "a.py"\nparams = { x = [1] }', ["params.x: is an array"]),
        ('run = "a.py"\nparams = { x = { y = 1 } }', ["params.x: is a table"]),
        ('run = "a.py"\nparams = { a-b = 1, a_b = 2 }', ["'a-b' and 'a_b' would both be GROUND_PARAM_A_B"]),
        ('run = "a.py"\nparams = { "a b" = 1 }', ["parameter name 'a b' is not valid"]),
        ('run = "a.py"\nenv = { "1X" = "y" }', ["'1X' is no name for an environment variable"]),
        ('run = "a.py"\nenv = { GROUND_HOME = "y" }', ["GROUND_ are the platform's own"]),
        ('run = "a.py"\nargs = ["a\\u0000b"]', ["NUL"]),
        ('run = "/a.py"', ["'/a.py' is outside of the project"]),
        ('run = "../a.py"', ["'../a.py' leaves the project"]),
        ('run = "a.py"\ninputs = { "../x" = "a" }', ["'../x' leaves the project"]),
        ('run = "a.py"\ninputs = { "x" = "/etc/passwd" }', ["'/etc/passwd' is outside of the project"]),
        ('run = "a.py"\ninputs = { "x" = "~/a" }', ["'~/a' is outside of the project"]),
        ('run = "a.py"\ninputs = { "x" = "data\\\\a" }', ["backslash"]),
        ('run = "a.py"\ninputs = { "x" = "s3://b/k" }', ["`s3://` cannot be fetched"]),
        ('run = "a.py"\ninputs = { "x" = "file:///etc/passwd" }', ["`file://` cannot be fetched"]),
        ('run = "a.py"\ninputs = { "x" = "https://" }', ["'https://' is no URL"]),
        ('run = "a.py"\ninputs = { "x" = "" }', ["'' names no file"]),
        ('run = "a.py"\ninputs = { "x" = 3 }', ["inputs.x: 3 is not a text in quotes"]),
        ('run = "a.py"\ninputs = { "x" = "a", "./x" = "b" }', ["two inputs are 'x'"]),
        ('run = "a.py"\ninputs = { "x" = "a", "x/y" = "b" }', ["'x' would be a file and, for 'x/y', a folder"]),
        ('run = "a.py"\ninputs = { "a.py" = "b.py" }', ["would overwrite the step's script"]),
        ('run = "a.py"\noutputs = ["x", "./x"]', ["two outputs are 'x'"]),
        ('run = "a.py"\noutputs = ["a.py"]', ["is the step's script"]),
        ('run = "a.py"\noutputs = ["/tmp/x"]', ["'/tmp/x' is outside of the project"]),
        ('run = "a.py"\noutputs = ["[z-a].csv"]', ["outputs: '[z-a].csv': no character is in the range z-a"]),
        ('run = "a.py"\ninputs = { "x/" = "b/[9-0]*" }', ["no character is in the range 9-0"]),
        ('run = "a.py"\nfor_each = { a = "b/[9-0]*" }', ["no character is in the range 9-0"]),
        ('run = "a.py"\nfor_each = {}', ["for_each: has no variable"]),
        ('run = "a.py"\nfor_each = { a = [1], b = [2] }', ["for_each: has the variables a, b"]),
        ('run = "a.py"\nfor_each = { a = 3 }', ["neither a glob nor a list"]),
        ('run = "a.py"\nfor_each = { a = [[1]] }', ["[1] is no value of a"]),
        ('run = "a.py"\nfor_each = { a = "data/" }', ["'data/' is a folder"]),
        ('run = "a.py"\nfor_each = { a = "https://x/*" }', ["cannot be over a URL"]),
        ('run = "a.py"\nfor_each = { a = [1], max_parallel = 0 }', ["max_parallel = 0"]),
        ('run = "a.py"\nfor_each = { a = [1] }\nparams = { a = 2 }', ["both give a value to 'a'"]),
        ('run = "a.py"\nfor_each = { a = [1] }\noutputs = ["{a}.csv"]', ["'{a}.csv' holds the placeholder {a}"]),
        ('run = "a.py"\nmax_parallel = 2', ["`max_parallel` without `for_each`"]),
    ],
)
def test_what_is_wrong_is_named_with_its_place(body: str, words: list[str]) -> None:
    error = refusal(step(body))
    assert error.exit_code == 2
    for word in words:
        assert word in error.message
    assert error.message.startswith("ground.toml: pipelines.p.steps.s")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "ground.toml is empty"),
        ("\ufeff \n", "ground.toml is empty"),
        ("[project\n", "line 1, column 9"),
        ("[project]\nname = \n", "line 2, column 8"),
        ("[pipelines.p.steps.s]\nrun = 'a'\n", "has no [project]"),
        ("[project]\n", "project: has no `name`"),
        ('[project]\nname = "a b"\n', "'a b' is no name for a project"),
        (HEAD + "[pipelines.latest.steps.s]\nrun = 'a'\n", "'latest' stands for the newest run"),
        (HEAD + '[pipelines."é".steps.s]\nrun = "a"\n', "'é' is no name for a pipeline"),
        (HEAD + "[pipelines.p.steps.latest]\nrun = 'a'\n", "no name for a step"),
        (HEAD + "[pipelines.p.steps.-x]\nrun = 'a'\n", "'-x' is no name for a step"),
        (HEAD + "[pipelines.p]\n", "pipelines.p: has no steps"),
        (HEAD + "[pipelines.p.steps]\n", "pipelines.p.steps: is empty"),
        (HEAD + "[pipeline.p.steps.s]\nrun = 'a'\n", "unknown key 'pipeline'; did you mean 'pipelines'?"),
        (HEAD + "pipelines = 3\n", "unknown key 'pipelines'"),
        (HEAD + "[pipelines]\np = 3\n", "pipelines.p: 3 is not a table"),
        (HEAD + "x = " + "[" * 5000, "ground.toml"),
        (HEAD + "x = " + "9" * 5000, "ground.toml"),
        ("[project]\nname = 'caf\udce9'\n", "not UTF-8 text (line 2)"),
        (b"[project]\nname = 'caf\xe9'\n", "not UTF-8 text (line 2)"),
    ],
)
def test_a_broken_file_is_refused(text: str | bytes, words: str) -> None:
    assert words in refusal(text).message


def test_all_problems_are_told_at_once() -> None:
    error = refusal(step('run = "a.py"\nretry = 1\ncpus = 2\ntimeout = "x"') + "[pipelines.q]\n")
    lines = error.message.splitlines()
    assert lines[0] == "ground.toml has 4 problems:"
    assert len(lines) == 5
    assert all(line.startswith("  pipelines.") for line in lines[1:])


def test_the_only_pipeline_or_the_named_one() -> None:
    one = spec.parse(step('command = ["true"]'))
    two = spec.parse(step('command = ["true"]') + '[pipelines.quick.steps.s]\ncommand = ["true"]\n')
    assert spec.pipeline(one).name == "p"
    assert spec.pipeline(two, "quick").name == "quick"
    with pytest.raises(Invalid) as several:
        spec.pipeline(two)
    assert several.value.hint.endswith("--pipeline NAME: p, quick")
    with pytest.raises(NotFound) as unknown:
        spec.pipeline(two, "quik")
    assert "did you mean 'quick'?" in unknown.value.message
    assert unknown.value.hint == "pipelines: p, quick"
    with pytest.raises(Invalid, match="has no pipeline"):
        spec.pipeline(spec.parse(HEAD))


def valid(text: str) -> bool:
    checker = jsonschema.Draft202012Validator(spec.schema())
    return checker.is_valid(tomllib.loads(text))


def test_the_schema_takes_what_the_reader_takes() -> None:
    jsonschema.Draft202012Validator.check_schema(spec.schema())
    assert valid(EXAMPLE)
    assert valid(step('command = ["a"]\nfor_each = { i = [1, "b", true], max_parallel = 3 }\ntimeout = "1h30m"'))
    assert valid(step('run = "a"\nenv = { A = "b" }\nrerun = false\nresources = { memory = 5 }\ntimeout = 1.5'))


@pytest.mark.parametrize(
    "text",
    [
        "",
        step('run = "a"\nretry = 1'),
        step('run = "a"\ncommand = ["b"]'),
        step("retries = 1"),
        step('run = "a"\nretries = -1'),
        step('run = "a"\ntimeout = "soon?"'),
        step('run = "a"\nresources = { gpus = 0.5 }'),
        step('run = "a"\nparams = { x = [1] }'),
        step('run = "a"\nfor_each = {}'),
        step('run = "a"\nfor_each = { i = 3 }'),
        step('run = "a"\nenv = { GROUND_X = "b" }'),
        step('run = "a"', "latest"),
        HEAD + "[pipelines.p]\n",
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(text: str) -> None:
    assert not valid(text)
    with pytest.raises(Invalid):
        spec.parse(text)


def test_each_key_is_explained_to_editors() -> None:
    for table in (spec.schema(), *spec.schema()["$defs"].values()):
        for key, entry in table["properties"].items():
            assert entry.get("description") or "$ref" in str(entry), key
            assert "null" not in str(entry), key  # TOML has none
