"""Pipelines written for Kubeflow. Run as a program in a process of its own, where the kfp SDK may be imported:
`compile PIPELINE FILE`, `load FILE`, `image TAR`, or `docker FILE FOLDER PARAMETERS` (KFP's local runner)."""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from kfp import compiler, components, dsl, local
from kfp.dsl import Dataset, Input, InputPath, Metrics, Model, Output, OutputPath

PYTHON = "python:3.11"


@dsl.component(base_image=PYTHON)
def make(
    n: int,
    data: Output[Dataset],
    note: OutputPath(str),
    share: float = 0.5,
    flag: bool = True,
    d: dict = {"a": [1]},  # noqa: B006
) -> NamedTuple("Made", [("twice", int), ("word", str)]):
    Path = __import__("pathlib").Path
    Path(data.path).write_text("x" * n)
    data.metadata["rows"] = n
    Path(note).write_text("a 'note'\n\n")
    print("make", n, share, flag, d)
    return (2 * n, "done")


@dsl.component(base_image=PYTHON)
def names(n: int) -> list[str]:
    return [f"i{each}" for each in range(n)]


@dsl.component(base_image=PYTHON)
def train(item: str, data: Input[Dataset], model: Output[Model]) -> str:
    import os

    os.makedirs(model.path)
    with open(os.path.join(model.path, "weights"), "w") as file:
        file.write(f"{item} of {data.metadata['rows']}")
    return item + "!"


@dsl.component(base_image=PYTHON)
def check(item: str, said: str, model: Input[Model]) -> str:
    assert said == item + "!", (said, item)
    with open(model.path + "/weights") as file:
        return file.read()


@dsl.component(base_image=PYTHON)
def collect(said: list[str], models: Input[list[Model]], metrics: Output[Metrics]):
    metrics.log_metric("models", len(models))
    print("collected", said, [open(each.path + "/weights").read() for each in models])  # noqa: SIM115


@dsl.component(base_image=PYTHON)
def read(text: str, path: InputPath("Dataset")):
    print("read", repr(text), open(path).read())  # noqa: SIM115


@dsl.component(base_image=PYTHON)
def add(a: int, b: float) -> float:
    print("add", a, b)
    return a + b


@dsl.component(base_image=PYTHON)
def plus(a: int, b: int):
    print("plus", a + b)


@dsl.container_component
def count(text: str, data: Input[Dataset], out: Output[Dataset], size: OutputPath(int), word: str = "none"):
    there = dsl.IfPresentPlaceholder("word", then=["--word", dsl.ConcatPlaceholder(["=", word])])
    return dsl.ContainerSpec(
        image="alpine:3.20",
        command=["sh", "-c", 'printf %s "$1" > "$2"; wc -c < "$3" > "$4"; shift 4; echo "count $*"', "count"],
        args=[text, out.path, data.path, size, there],
    )


@dsl.pipeline(name="sequence")
def sequence(n: int = 3, word: str = "hello"):
    made = make(n=n).set_retry(1)
    read(text=f"{word} and {n}", path=made.outputs["data"])
    counted = count(text=made.outputs["note"], data=made.outputs["data"])
    add(a=counted.outputs["size"], b=0.5).after(made)
    names(n=made.outputs["twice"])


@dsl.pipeline(name="loops")
def loops(n: int = 3, given: list[str] = ["p", "q"]):  # noqa: B006
    made = make(n=n)
    listed = names(n=n)
    with dsl.ParallelFor(["a", "b"], parallelism=1) as item:
        trained = train(item=item, data=made.outputs["data"])
        counted = count(text=trained.outputs["Output"], data=made.outputs["data"])
        read(text=item, path=counted.outputs["out"])
    with dsl.ParallelFor(listed.output) as item:
        outer = train(item=item, data=made.outputs["data"])
        check(item=item, said=outer.outputs["Output"], model=outer.outputs["model"])
    with dsl.ParallelFor(given) as item:
        count(text=item, data=made.outputs["data"])
    with dsl.ParallelFor([{"a": 1, "b": 10}, {"a": 2, "b": 20}]) as item:
        plus(a=item.a, b=item.b)
    collect(said=dsl.Collected(outer.outputs["Output"]), models=dsl.Collected(outer.outputs["model"]))


@dsl.pipeline(name="inner")
def inner(n: int) -> float:
    return add(a=n, b=1.5).output


@dsl.pipeline(name="nested")
def nested(n: int):
    first = inner(n=n)
    add(a=1, b=first.output)


@dsl.pipeline(name="condition")
def condition(n: int = 3):
    with dsl.If(n == 3):
        names(n=n)


@dsl.pipeline(name="exits")
def exits(n: int = 3):
    with dsl.ExitHandler(names(n=n)):
        names(n=n)


@dsl.pipeline(name="imports")
def imports():
    found = dsl.importer(artifact_uri="gs://bucket/file", artifact_class=Dataset)
    read(text="x", path=found.output)


@dsl.pipeline(name="loop-in-loop")
def loop_in_loop():
    with dsl.ParallelFor(["a"]), dsl.ParallelFor([1, 2]) as item:
        names(n=item)


def image(tar: str) -> None:
    """Gives the engine the image `tiny:1`."""
    import docker

    client = docker.from_env()
    content, path = Path(tar).read_bytes(), ["ENV PATH=/usr/bin:/bin"]
    client.api.import_image_from_data(content, repository="tiny", tag="1", changes=path)
    client.close()


def on_docker(file: str, folder: str, parameters: dict[str, Any]) -> None:
    """Runs it with KFP's own local runner."""
    local.init(runner=local.DockerRunner(), pipeline_root=folder, raise_on_error=True)
    components.load_component_from_file(file)(**parameters)


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "compile":
        compiler.Compiler().compile(globals()[rest[0]], rest[1])
    elif what == "load":
        loaded = components.load_component_from_file(rest[0])
        print(json.dumps({"name": loaded.name, "inputs": sorted(loaded.component_spec.inputs or {})}))
    elif what == "image":
        image(rest[0])
    else:
        on_docker(rest[0], rest[1], json.loads(rest[2]))
