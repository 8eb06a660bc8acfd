"""A compiled KFP pipeline as a Groundplane project: ground.toml and a script a step. What cannot be kept is refused."""

from __future__ import annotations

import pprint
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from groundplane.kubeflow import containers, ir, parameters
from groundplane.kubeflow.containers import Wanted, check_container, environment_of, resources_of
from groundplane.kubeflow.ir import Body, Document
from groundplane.kubeflow.names import Names, kebab
from groundplane.kubeflow.shell import shell_script
from groundplane.kubeflow.tasks import Loop, Source, Task, Walk, default_text, refused
from groundplane.model.parameters import parameter_text, variable_name

RUNTIME = "kfp_step.py"
_STEPS = "steps"
_TITLE = re.compile(r".*Metrics$")


@dataclass(slots=True)
class Imported:
    """name: the pipeline's. files: path -> content. notes: sentences about what is kept in another way.

    required: parameters without a default. declared: every parameter, as the file has it."""

    name: str
    files: dict[str, str] = field(default_factory=dict[str, str])
    notes: list[str] = field(default_factory=list[str])
    required: tuple[str, ...] = ()
    declared: Mapping[str, Body] = field(default_factory=dict[str, Body])

    def check(self, given: Mapping[str, str]) -> None:
        """Raises Invalid for a value of a parameter that is not of its KFP type."""
        for name, text in given.items():
            if declared := self.declared.get(name):
                optional = "defaultValue" not in declared and bool(declared.get("isOptional"))
                parameters.check(name, declared["parameterType"], text, optional=optional)


def imported(document: Document, *, images: bool | None = None) -> Imported:
    """The project. images: whether steps run in the images of their components; None: where these are not a plain
    Python's. Raises Invalid for what cannot be kept."""
    import tomli_w

    walk = Walk(document)
    made = _Project(document.spec, walk, images)
    text = tomli_w.dumps(made.table(), multiline_strings=False)
    made.result.files["ground.toml"] = (
        f"# Made from a compiled pipeline of Kubeflow's by `ground pipelines import`.\n{text}"
    )
    if any(name.endswith(".py") for name in made.result.files):
        made.result.files[f"{_STEPS}/{RUNTIME}"] = Path(__file__).with_name(RUNTIME).read_text(encoding="utf-8")
    return made.result


class _Project:
    def __init__(self, spec: Body, walk: Walk, images: bool | None) -> None:
        name = kebab(spec["pipelineInfo"].get("name", "pipeline"))[:90]
        self.result = Imported(name, declared=walk.parameters)
        self._walk = walk
        self._images = images
        self._titles = {task.name: ir.outputs(task.component, "artifacts") for task in walk.tasks}
        self._python = {task.name for task in walk.tasks if containers.is_function(task.container)}
        self._environments: dict[str, Body] = {}
        self._environment_names = Names()
        taken = Names(walk.parameters)
        self._variable = taken.new("item")
        self.result.required = tuple(
            name
            for name, declared in walk.parameters.items()
            if "defaultValue" not in declared and not declared.get("isOptional")
        )
        self._description = str(spec["pipelineInfo"].get("description", ""))

    def table(self) -> Body:
        """What ground.toml holds."""
        steps: Body = {}
        for task in self._walk.tasks:
            if task.loop is not None and task.loop.splitter and task.loop.splitter not in steps:
                steps[task.loop.splitter] = self._splitter(task.loop, task)
            steps[task.name] = self._step(task)
        pipeline: Body = {"steps": steps}
        if self._walk.parameters:
            pipeline = {"params": {n: _default(d) for n, d in self._walk.parameters.items()}, **pipeline}
        project: Body = {"name": self.result.name}
        if self._description:
            project["description"] = self._description
        body: Body = {"project": project, "pipelines": {self.result.name: pipeline}}
        if self._environments:
            body["environments"] = self._environments
        return body

    def _step(self, task: Task) -> Body:
        check_container(task)
        self._notes(task)
        reads = Reads(self._variable, task.loop, self._titles, self._python)
        is_python = task.name in self._python
        plan = self._plan(task, reads)
        path = f"{_STEPS}/{task.name}.{'py' if is_python else 'sh'}"
        self.result.files[path] = _function(task, plan) if is_python else shell_script(task, plan)
        step: Body = {"run": path}
        if name := self._environment(environment_of(task)):
            step["environment"] = name
        if task.loop is not None:
            step |= self._for_each(task.loop, reads)
        if reads.inputs:
            step["inputs"] = dict(reads.inputs)
        declared = ir.outputs(task.component, "artifacts")
        outputs = [f"out/{name}" for name in plan["parameters_out"]]
        outputs += [f"out/{n}/" if declared[n].get("description") == ir.FOLDER else f"out/{n}" for n in declared]
        if is_python:
            outputs += [about["metadata"] for about in plan["artifacts_out"].values()]
        step["outputs"] = outputs
        if after := [name for name in task.needs if name not in reads.steps]:
            step["after"] = after
        step |= _limits(task)
        return step

    def _plan(self, task: Task, reads: Reads) -> Body:
        """What kfp_step.run gets to know."""
        parameters = {
            name: reads.value(task.inputs[name])
            for name in ir.inputs(task.component, "parameters")
            if name in task.inputs
        }
        artifacts = {
            name: reads.artifact(task.inputs[name])
            for name in ir.inputs(task.component, "artifacts")
            if name in task.inputs
        }
        return {
            "parameters": parameters,
            "artifacts": artifacts,
            "parameters_out": {
                name: declared["parameterType"] for name, declared in ir.outputs(task.component, "parameters").items()
            },
            "artifacts_out": {
                name: {"title": _title(declared), "metadata": metadata_file(name, _title(declared))}
                for name, declared in ir.outputs(task.component, "artifacts").items()
            },
        }

    def _for_each(self, loop: Loop, reads: Reads) -> Body:
        """`{item}` reaches the script as an argument, whatever the items are."""
        step: Body = {"args": [f"--kfp-item={{{self._variable}}}"]}
        if loop.items is not None:
            step["for_each"] = {self._variable: list(loop.items)}
        else:
            step["for_each"] = {self._variable: f"{loop.splitter}/items/[0-9]*"}
            reads.inputs[ITEM] = f"{{{self._variable}}}"
            reads.steps.add(loop.splitter)
        if loop.most:
            step["max_parallel"] = int(loop.most)
        return step

    def _splitter(self, loop: Loop, task: Task) -> Body:
        """The step that makes a file of each value of a list, for a fan-out to go over."""
        if loop.over is None:
            raise AssertionError("a loop over a literal list needs no such step")
        reads = Reads(self._variable, None, self._titles, self._python)
        plan = {"list": reads.value(loop.over), "type": loop.kind}
        path = f"{_STEPS}/{loop.splitter}.py"
        self.result.files[path] = (
            f'"""Makes a file of each value that the loop of {task.name} goes over."""\n\nimport kfp_step\n\n'
            f"kfp_step.split({pprint.pformat(plan, width=110, sort_dicts=False)})\n"
        )
        step: Body = {"run": path}
        if self._images:
            step["environment"] = self._environment(Wanted(image="python:3.11"))
        if reads.inputs:
            step["inputs"] = dict(reads.inputs)
        step["outputs"] = ["items/*"]
        return step

    def _environment(self, wanted: Wanted) -> str:
        """The name of the environment in ground.toml; "" for none."""
        if self._images is False or (self._images is None and wanted.plain):
            told = f"{wanted.image}{' with ' + ', '.join(wanted.packages) if wanted.packages else ''}"
            where = "what is installed there" if self._images is False else "any Python"
            note = f"steps of the image {told} run with {where}"
            if note not in self.result.notes:
                self.result.notes.append(note)
            return ""
        table = wanted.table()
        for name, known in self._environments.items():
            if known == table:
                return name
        name = self._environment_names.new(kebab(wanted.image.rpartition("/")[2])[:90])
        self._environments[name] = table
        if self._images is None:
            self.result.notes.append(f"environment {name!r} is an image: run its steps with --on docker")
        return name

    def _notes(self, task: Task) -> None:
        if not task.body.get("cachingOptions", {}).get("enableCache"):
            self.result.notes.append(f"{task.name} is never cached in KFP; here it is reused unless run with --fresh")
        retry: Body = task.body.get("retryPolicy", {})
        if retry.get("backoffDuration") not in (None, "0s"):
            self.result.notes.append(f"{task.name} is tried again at once, not after {retry['backoffDuration']}")


ITEM = "in/item"
"""Where the item of a loop over what a step made lies, by KFP's convention of its type."""


class Reads:
    """What one step reads, as inputs of ground.toml, and the forms that kfp_step.py and shell.py know."""

    def __init__(self, variable: str, loop: Loop | None, titles: Mapping[str, Body], python: set[str]) -> None:
        self.inputs: dict[str, str] = {}
        self.steps: set[str] = set()
        self._variable = variable
        self._loop = loop
        self._titles = titles
        self._python = python

    def value(self, source: Source) -> Body:
        """A parameter's value."""
        if source.form == "constant":
            return {"constant": source.value}
        if source.form == "run":
            return {"run": source.name}
        if source.form == "parameter":
            return {
                "parameter": source.name,
                "variable": variable_name(source.name),
                "type": source.kind,
                "required": source.required,
                "optional": source.optional,
            }
        if source.form == "item":
            if source.loop is not None and source.loop.items is None:
                return {"file": ITEM, "type": source.kind, "many": ""}
            return {"item": True, "type": source.kind}
        if source.form == "field":
            return {"field": source.name, "of": self._part(source.of[0])}
        if source.form == "parts":
            return {"parts": [self._part(part) for part in source.of]}
        return {**self._file(source, f"out/{source.name}"), "type": source.kind}

    def _part(self, part: Source | str) -> Any:
        return part if isinstance(part, str) else self.value(part)

    def artifact(self, source: Source) -> Body:
        """An artifact and its metadata."""
        found = {**self._file(source, f"out/{source.name}"), "title": source.kind, "metadata": ""}
        if source.step in self._python:
            title = _title(self._titles[source.step][source.name])
            found["metadata"] = self._file(source, metadata_file(source.name, title))["file"]
        return found

    def _file(self, source: Source, output: str) -> Body:
        """Adds the input; `many`: "" one file, `mine` that of this item, `all` those of all items."""
        many = "" if source.loop is None else "mine" if source.loop is self._loop else "all"
        path = f"in/{source.step}/{output.removeprefix('out/')}" + ("/" if many else "")
        self.inputs[path] = f"{source.step}/{output}"
        self.steps.add(source.step)
        if source.folder and not many:
            self.inputs[f"{path}/"] = self.inputs.pop(path) + "/"
        return {"file": path, "many": many}


def metadata_file(name: str, title: str) -> str:
    """Where a function's step leaves an artifact's metadata; those of metrics are Groundplane's metrics."""
    return f"out/{name}.{'metrics' if _TITLE.match(title) else 'meta'}.json"


def _title(declared: Body) -> str:
    return declared["artifactType"].get("schemaTitle", "")


def _default(declared: Body) -> Any:
    """In TOML's own type where it has one."""
    if "defaultValue" not in declared:
        return ""
    value, kind = declared["defaultValue"], declared["parameterType"]
    if kind == "NUMBER_INTEGER":
        return int(value)
    if kind in ("STRING", "BOOLEAN", "NUMBER_DOUBLE"):
        parameter_text("", value)
        return value
    return default_text(declared)


def _limits(task: Task) -> Body:
    found: Body = {}
    if resources := resources_of(task):
        found["resources"] = resources
    if retries := task.body.get("retryPolicy", {}).get("maxRetryCount"):
        found["retries"] = int(retries)
    platform = dict(task.platform)
    if seconds := platform.pop("activeDeadlineSeconds", None):
        found["timeout"] = int(seconds)
    if platform:
        raise refused(task.name, f"what Kubernetes is told about it: {', '.join(platform)}")
    if env := task.container.get("env"):
        found["env"] = {entry["name"]: str(entry.get("value", "")) for entry in env}
    return found


def _function(task: Task, plan: Body) -> str:
    """The component's own source, run by kfp_step."""
    function, source = containers.function_of(task)
    return (
        f'"""The function {function} of a KFP component."""\n\n'
        "import kfp_step  # what the function finds as `kfp`\n"
        f"{source.rstrip()}\n\n\n"
        'if __name__ == "__main__":\n'
        f"    kfp_step.run({function}, {_indented(plan)})\n"
    )


def _indented(plan: Body) -> str:
    return pprint.pformat(plan, width=100, sort_dicts=False).replace("\n", "\n    ")
