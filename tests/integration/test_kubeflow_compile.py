"""Pipelines to Kubeflow and back, with the real kfp SDK: it loads and runs what is compiled here, and what it compiled
runs here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from groundplane.kubeflow import ir
from tests.docker_drill import daemon, pack
from tests.e2e.cli_ground import Ground
from tests.parts import require

PROGRAM = Path(__file__).with_name("kfp_pipelines.py")

LINEAR = """
[project]
name = "lines"
environment = "tiny"

[environments.tiny]
image = "tiny:1"

[pipelines.main]
params = { word = "it's {{$}} \\"x\\"" }

[pipelines.main.steps.make]
run = "make.sh"
outputs = ["word.txt", "parts/*.txt", "plots/"]
timeout = "5m"
resources = { cpus = 1, memory = "64MiB" }
env = { NOTE = "a 'note'" }

[pipelines.main.steps.each]
run = "each.sh"
for_each = { region = ["north", "south"] }
inputs = { "word.txt" = "make/word.txt", "data.txt" = "data/{region}.txt" }
outputs = ["out.txt"]

[pipelines.main.steps.join]
run = "join.sh"
args = ["last"]
inputs = { "all/" = "each/out.txt", "p/" = "make/parts/*.txt", "plots/" = "make/plots/" }
outputs = ["joined.txt", "metrics.json"]
retries = 1
"""
SCRIPTS = {
    "make.sh": 'printf %s "$GROUND_PARAM_WORD" > word.txt\nmkdir parts plots\necho 1 > parts/a.txt\n'
    'echo "$NOTE" > "parts/b c.txt"\necho p > plots/x.png\n',
    "each.sh": 'cat word.txt data.txt > out.txt\necho " $GROUND_PARAM_REGION" >> out.txt\n',
    "join.sh": "cat all/*-out.txt all/.index.json p/*.txt plots/x.png > joined.txt\n"
    'echo \'{"n": 2}\' > metrics.json\nprintf "%s " "$@" >> joined.txt\n',
    "data/north.txt": "N",
    "data/south.txt": "S",
}


def kfp(*words: str, **env: str) -> str:
    """The program's output. The SDK warns of its own future: that is not ours to hear."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(PROGRAM), *words], env={**os.environ, **env}, capture_output=True,
        text=True, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    require("kfp")
    made = Ground(tmp_path)
    yield made
    made.close()


def project(ground: Ground) -> None:
    ground.write("ground.toml", LINEAR)
    for name, text in SCRIPTS.items():
        ground.write(name, text)


def test_the_sdk_loads_what_is_compiled(ground: Ground) -> None:
    project(ground)
    said = ground.json("pipelines", "compile", "main", "--to", "kubeflow", "-o", "p.yaml")
    assert (said["pipeline"], said["file"]) == ("main", "p.yaml")
    loaded = json.loads(kfp("load", str(ground.work / "p.yaml")))
    assert loaded == {"name": "main", "inputs": ["word"]}
    text = (ground.work / "p.yaml").read_text()
    again = ground("pipelines", "compile", "main", "--to", "kubeflow", "-o", "q.yaml", "--fresh", "-p", "word=w")
    assert again.stdout == "main is in q.yaml\n"
    spec = ir.read((ground.work / "q.yaml").read_text(), "q.yaml").spec
    assert not any(task.get("cachingOptions") for task in spec["root"]["dag"]["tasks"].values())
    assert spec["root"]["inputDefinitions"]["parameters"]["word"]["defaultValue"] == "w"
    body = list(yaml.safe_load_all(text))
    body[0]["root"]["dag"]["tasks"]["join"]["dependentTasks"].append("nobody")
    (ground.work / "dangling.yaml").write_text("---\n".join(map(yaml.safe_dump, body)))
    kfp("load", str(ground.work / "dangling.yaml"))  # the SDK takes it
    refused = ground("run", "dangling.yaml", code=2)
    assert "comes after a task that is not there: 'nobody'" in refused.stderr


def test_kfps_own_runner_runs_it_in_docker(ground: Ground, tmp_path: Path) -> None:
    require("docker")
    project(ground)
    ground("pipelines", "compile", "main", "--to", "kubeflow", "-o", "p.yaml")
    pack(tmp_path / "tiny.tar")
    with daemon(tmp_path / "docker") as engine:
        kfp("image", str(tmp_path / "tiny.tar"), DOCKER_HOST=engine.url)
        kfp(
            "docker", str(ground.work / "p.yaml"), str(tmp_path / "root"),
            json.dumps({"word": "Ä 'b' $c"}), DOCKER_HOST=engine.url,
        )  # fmt: skip
    (joined,) = (tmp_path / "root").glob("*/join/joined_txt")
    index = [{"index": at, "item": item, "file": f"{at}-out.txt"} for at, item in enumerate(("north", "south"))]
    assert joined.read_text() == (
        "Ä 'b' $cN north\nÄ 'b' $cS south\n" + json.dumps(index, indent=1) + "\n1\na 'note'\np\n--word Ä 'b' $c last "
    )


def test_refusals_name_step_and_feature(ground: Ground) -> None:
    project(ground)
    ground.write("ground.toml", LINEAR.replace('"data.txt" = "data/{region}.txt"', '"x" = "https://example.org/x"'))
    said = ground("pipelines", "compile", "main", "--to", "kubeflow", "-o", "p.yaml", code=2)
    assert said.stderr.startswith("error: step 'each': KFP cannot hold the input 'x' from a URL")
    assert not (ground.work / "p.yaml").exists()
    ground.write("ground.toml", LINEAR.replace('image = "tiny:1"', 'toolchain = "r@4.5"'))
    said = ground("pipelines", "compile", "main", "--to", "kubeflow", "-o", "p.yaml", code=2)
    assert "the image of environment 'tiny' is in no registry" in said.stderr
    assert "ground images push tiny" in said.stderr
    ground.write("ground.toml", LINEAR.replace('environment = "tiny"\n', ""))
    said = ground("pipelines", "compile", "main", "--to", "kubeflow", "-o", "p.yaml", code=2)
    assert "step 'make' says no environment, and no public image for shell is known" in said.stderr
    ground.write("ground.toml", LINEAR)
    said = ground("pipelines", "compile", "main", "--to", "airflow", "-o", "p.yaml", code=2)
    assert "nothing is compiled for 'airflow'" in said.stderr
    assert (
        "is a script alone" in ground("pipelines", "compile", "make.sh", "--to", "kubeflow", "-o", "p", code=2).stderr
    )


def test_what_is_compiled_runs_here_too(ground: Ground) -> None:
    project(ground)
    ground("pipelines", "compile", "main", "--to", "kubeflow", "-o", "p.yaml")
    word = "Ä 'b' \"c\" \\ $d\n"
    ground("run", "p.yaml", "-p", f"word={word}")
    joined = ground("artifacts", "get", "latest", "join/out/joined_txt", "-o", "-").stdout
    assert joined.startswith(f"{word}N north\n{word}S south\n[")
    assert joined.endswith("1\na 'note'\np\n--word " + word + " last ")


def test_it_runs_in_the_components_images_where_images_run(ground: Ground, tmp_path: Path) -> None:
    project(ground)
    pack(tmp_path / "tiny.tar")
    with daemon(tmp_path / "docker") as engine:
        kfp("image", str(tmp_path / "tiny.tar"), DOCKER_HOST=engine.url)
        ground.env["DOCKER_HOST"] = engine.url
        ground("pipelines", "compile", "main", "--to", "kubeflow", "-o", "p.yaml")
        ground("run", "p.yaml", "--on", "docker", "-p", "word=w")
        joined = ground("artifacts", "get", "latest", "join/out/joined_txt", "-o", "-").stdout
        ground.close()
    assert joined.startswith("wN north\nwS south\n[")


def compiled(ground: Ground, name: str) -> str:
    file = ground.work / f"{name}.yaml"
    kfp("compile", name, str(file))
    return file.name


def test_a_sequence_runs_here(ground: Ground) -> None:
    done = ground("run", compiled(ground, "sequence"), "-p", "n=4", "-p", "word=good day")
    assert "make 4 0.5 True {'a': [1]}" in done.stdout
    assert "read 'good day and 4' xxxx" in done.stdout
    assert "count --word =none" in done.stdout
    assert "add 4 0.5" in done.stdout
    run = ground.json("runs", "show", "latest")
    assert run["state"] == "succeeded"
    got = ground("artifacts", "get", "latest", "count/out/out", "-o", "-").stdout
    assert got == "a 'note'\n\n"
    assert json.loads(ground("artifacts", "get", "latest", "names/out/Output", "-o", "-").stdout) == [
        f"i{each}" for each in range(8)
    ]


def test_loops_run_here(ground: Ground) -> None:
    done = ground("run", compiled(ground, "loops"), "-p", 'given=["x", "y", "z"]')
    assert "collected ['i0!', 'i1!', 'i2!'] ['i0 of 3', 'i1 of 3', 'i2 of 3']" in done.stdout
    assert {line for line in done.stdout.splitlines() if line.startswith("read")} == {"read 'a' a!", "read 'b' b!"}
    assert {line for line in done.stdout.splitlines() if line.startswith("plus")} == {"plus 11", "plus 22"}
    assert "models 3" in done.stderr  # metrics are Groundplane's metrics
    run = ground.json("runs", "show", "latest")
    counts = {task["step"]: sum(1 for each in run["tasks"] if each["step"] == task["step"]) for task in run["tasks"]}
    assert counts["count-2"] == 3
    again = ground("run", "loops.yaml", "-p", 'given=["x", "y", "z"]')
    assert "reused" in again.stderr


def test_a_project_that_is_imported_runs(ground: Ground) -> None:
    file = compiled(ground, "nested")
    said = ground("run", file, code=2)
    assert "the pipeline 'nested' needs a value for n" in said.stderr
    said = ground("run", file, "-p", "n=1.7", code=2)
    assert "the parameter 'n' is a whole number in KFP (NUMBER_INTEGER), and '1.7' is none" in said.stderr
    assert ground.json("runs", "list")["runs"] == []
    made = ground.json("pipelines", "import", file, "-o", "project")
    assert {"ground.toml", "steps/add.py", "steps/inner-add.py", "steps/kfp_step.py"} <= set(made["files"])
    assert "is there already" in ground("pipelines", "import", file, "-o", "project", code=2).stderr
    assert "the parameter 'n' has no value" in ground("run", "project", code=1).stderr
    said = ground("run", "project", "-p", "n=abc", code=1)
    assert "the parameter 'n' has the type NUMBER_INTEGER in KFP, and 'abc' is no value of it" in said.stderr
    ground("run", "project", "-p", "n=2")
    assert ground("artifacts", "get", "latest", "add/out/Output", "-o", "-").stdout == "4.5"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("condition", "a condition (dsl.If)"),
        ("exits", "an exit handler (dsl.ExitHandler)"),
        ("imports", "an importer (dsl.importer)"),
        ("loop_in_loop", "a loop within a loop"),
    ],
)
def test_what_cannot_be_kept_is_named(ground: Ground, name: str, told: str) -> None:
    file = compiled(ground, name)
    for words in (("run", file), ("pipelines", "import", file, "-o", "project")):
        said = ground(*words, code=2)
        assert told in said.stderr
        assert "hint: " in said.stderr


def test_a_yaml_file_that_is_no_pipeline(ground: Ground) -> None:
    ground.write("x.yaml", "a: 1\n")
    said = ground("run", "x.yaml", code=2)
    assert said.stderr.startswith("error: x.yaml is no compiled KFP pipeline\nhint: ")
    assert "there is no file 'none.yaml'" in ground("pipelines", "import", "none.yaml", "-o", "f", code=2).stderr
