"""A pipeline of Groundplane's as KFP v2 IR. What that cannot hold is refused by step and name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from groundplane.kubeflow import ir, refusals, wrapper
from groundplane.kubeflow.ir import Body
from groundplane.kubeflow.names import Names, input_name, kebab, parameter_name
from groundplane.kubeflow.parts import Files, Part
from groundplane.kubeflow.scripts import Script
from groundplane.model.artifacts import Kind, kind_of
from groundplane.model.errors import Invalid
from groundplane.model.globs import is_glob
from groundplane.model.pipelines import Pipeline, SourceKind, Step
from groundplane.model.quantities import format_size
from groundplane.model.version import VERSION
from groundplane.spi.launch import Called, Whole

PACKED_LIMIT = 256 * 1024
"""Bytes of one step's packed files: all that a component is has to fit into an object of the cluster (1.5 MiB)."""

FILE_LIMIT = 64 * 1024 * 1024
"""Bytes of one file; a larger one is not even packed."""

_SCHEMA = "2.1.0"
_TYPES = {Kind.TABLE: "system.Dataset", Kind.MODEL: "system.Model", Kind.METRICS: "system.Metrics"}
_GPU = "nvidia.com/gpu"


def compiled(pipeline: Pipeline, parts: Sequence[Part], files: Files) -> str:
    """The pipeline as the text of a file for KFP. Raises Invalid for what KFP cannot hold."""
    return ir.write(*_spec(_Compiler(pipeline, parts, files, packing=False)))


def whole(pipeline: Pipeline, parts: Sequence[Part], files: Files) -> Whole:
    """The pipeline for a KFP server that Groundplane follows. Each step hands on the files of outputs that are many as
    one more artifact: the server gives single files away. Raises Invalid for what KFP cannot hold."""
    compiler = _Compiler(pipeline, parts, files, packing=True)
    spec, executors = _spec(compiler)
    body = {"pipeline_spec": spec, "platform_spec": ir.platform(executors)} if executors else spec
    text = json.dumps(body, sort_keys=True, ensure_ascii=False)
    return Whole(pipeline.name, text, compiler.called())


def _spec(compiler: _Compiler) -> tuple[Body, Mapping[str, Body]]:
    spec, executors = compiler.spec()
    if problems := ir.dangling(spec):
        raise AssertionError(f"the compiled pipeline is not whole: {problems[0]}")
    return spec, executors


@dataclass(slots=True)
class _Made:
    """A step as a component. task: the root's. inner: the step's own, within a loop another one than `task`.
    artifacts: output as declared -> artifact's name. packed, item: see `Called`."""

    task: str
    inner: str
    artifacts: Mapping[str, str]
    packed: str = ""
    item: str = ""


class _Compiler:
    def __init__(self, pipeline: Pipeline, parts: Sequence[Part], files: Files, *, packing: bool) -> None:
        for part in parts:
            refusals.check(pipeline, part)
        self._packing = packing
        self._pipeline = pipeline
        self._parts = {part.step.name: part for part in parts}
        self._files = files
        self._tasks = Names()
        self._made: dict[str, _Made] = {}
        self._components: Body = {}
        self._executors: Body = {}
        self._platform: dict[str, Body] = {}
        self._root_parameters = self._overridable()

    def called(self) -> dict[str, Called]:
        """Step -> what it is called in the spec."""
        found: dict[str, Called] = {}
        for step, made in self._made.items():
            part = self._parts[step]
            first = not part.step.needs
            found[step] = Called(made.inner, made.artifacts, made.packed, part.items or (), made.item, first)
        return found

    def spec(self) -> tuple[Body, Mapping[str, Body]]:
        tasks: Body = {}
        for part in self._parts.values():
            name, task = self._task(part)
            tasks[name] = task
        root: Body = {"dag": {"tasks": tasks}}
        if self._root_parameters:
            root["inputDefinitions"] = {
                "parameters": {
                    parameter_name(name): {"parameterType": "STRING", "defaultValue": text, "isOptional": True}
                    for name, text in self._root_parameters.items()
                }
            }
        spec: Body = {
            "pipelineInfo": {
                "name": kebab(self._pipeline.name),
                "description": f"Pipeline {self._pipeline.name} of project {self._pipeline.project}, "
                f"compiled by Groundplane {VERSION}.",
            },
            "components": self._components,
            "deploymentSpec": {"executors": self._executors},
            "root": root,
            "schemaVersion": _SCHEMA,
            "sdkVersion": f"groundplane-{VERSION}",
        }
        return spec, self._platform

    def _overridable(self) -> dict[str, str]:
        """The pipeline's own parameters, and those of steps that have one value wherever they are declared."""
        values: dict[str, set[str]] = {}
        for part in self._parts.values():
            for name, text in part.step.parameters.items():
                if not (part.step.for_each and name in part.step.for_each.filled):
                    values.setdefault(name, set()).add(text)
        return {
            name: next(iter(found))
            for name, found in values.items()
            if len(found) == 1 and not any(part.step.for_each and name == _item(part) for part in self._parts.values())
        }

    def _task(self, part: Part) -> tuple[str, Body]:
        """The step as a task of the root, and its component among the components."""
        step = part.step
        task = self._tasks.new(kebab(step.name))
        made = self._made[step.name] = self._named(task, step)
        values, artifacts = self._given(part)
        script = Script(part, {name: self._parts[name] for name in step.needs}, made.artifacts, made.packed, made.item)
        self._add_component(part, task, script, list(values), artifacts)
        body: Body = {
            "taskInfo": {"name": step.name},
            "componentRef": {"name": f"comp-{task}"},
            "cachingOptions": {"enableCache": True} if part.cached else {},
            "inputs": _inputs(values, {name: _from_task(*source) for name, (source, _) in artifacts.items()}),
        }
        needs = sorted({self._made[name].task for name in step.needs})
        if step.retries and step.rerun:
            body["retryPolicy"] = {
                "maxRetryCount": step.retries,
                "backoffDuration": "0s",
                "backoffFactor": 2.0,
                "backoffMaxDuration": "3600s",
            }
        if part.items is not None:
            return self._loop(part, task, body, values, artifacts, needs)
        if needs:
            body["dependentTasks"] = needs
        return task, body

    def _named(self, task: str, step: Step) -> _Made:
        variable = [step.for_each.variable] if step.for_each else []
        names = Names(parameter_name(name) for name in (*step.parameters, *variable))
        artifacts = {output: names.new(parameter_name(output.strip("/"))) for output in step.outputs or ()}
        packing = self._packing and any(_is_many(output) for output in artifacts)
        looping = self._packing and step.for_each is not None
        packed, item = names.new("ground_files"), names.new("ground_item")
        return _Made(task, task, artifacts, packed if packing else "", item if looping else "")

    def _given(self, part: Part) -> tuple[dict[str, Body], dict[str, tuple[tuple[str, str], bool]]]:
        """What the step gets: parameters, and artifacts as ((task, artifact), whether it is a list of them)."""
        values: dict[str, Body] = {}
        fan = part.step.for_each
        for name, text in part.step.parameters.items():
            if fan and (name in fan.filled or name == fan.variable):
                continue
            if name in self._root_parameters:
                values[parameter_name(name)] = {"componentInputParameter": parameter_name(name)}
            else:
                values[parameter_name(name)] = {"runtimeValue": {"constant": text}}
        artifacts: dict[str, tuple[tuple[str, str], bool]] = {}
        for entry in part.step.inputs:
            if entry.source.kind is SourceKind.STEP:
                made, producer = self._made[entry.source.step], self._parts[entry.source.step]
                output = refusals.output_of(producer.step, entry.source.path)
                many = producer.items is not None
                key = made.artifacts[output]
                source = f"pipelinechannel--{made.inner}-{key}" if many else key
                artifacts[input_name(entry.source.step, output)] = ((made.task, source), many)
        return values, artifacts

    def _add_component(
        self,
        part: Part,
        task: str,
        script: Script,
        parameters: Sequence[str],
        artifacts: Mapping[str, tuple[tuple[str, str], bool]],
    ) -> None:
        given = [*parameters, *([parameter_name(_item(part))] if part.items is not None else [])]
        text, arguments = script.made([name for name, (_, many) in artifacts.items() if not many])
        content = wrapper.packed(
            {"run.sh": (text.encode(), False), **{f"project/{n}": each for n, each in self._files.content.items()}},
            [(f"project/{path}", target) for path, target in self._files.links],
            [f"project/{name.rstrip('/')}" for name in self._files.folders],
        )
        if len(content) > PACKED_LIMIT:
            raise too_large(part.step.name, {name: len(body) for name, (body, _) in self._files.content.items()})
        container: Body = {
            "image": part.image,
            "command": ["sh", "-c", wrapper.UNPACK, "ground"],
            "args": [*wrapper.words(content), *arguments],
        }
        if resources := _resources(part.step):
            container["resources"] = resources
        self._executors[f"exec-{task}"] = {"container": container}
        if part.step.resources.timeout is not None:
            seconds = max(1, round(part.step.resources.timeout))
            self._platform[f"exec-{task}"] = {"activeDeadlineSeconds": seconds}
        component: Body = {"executorLabel": f"exec-{task}"}
        made = self._made[part.step.name]
        outputs = {name: _artifact(output, many=False) for output, name in made.artifacts.items()}
        outputs |= {name: _artifact(name, many=False) for name in (made.packed, made.item) if name}
        _declare(
            component,
            {name: {"parameterType": "STRING"} for name in given},
            {name: _artifact(source[1], many=many) for name, (source, many) in artifacts.items()},
            outputs,
        )
        self._components[f"comp-{task}"] = component

    def _loop(
        self,
        part: Part,
        task: str,
        body: Body,
        values: Mapping[str, Body],
        artifacts: Mapping[str, tuple[tuple[str, str], bool]],
        needs: Sequence[str],
    ) -> tuple[str, Body]:
        """A fan-out: a component with one task, gone over once for each item."""
        fan, loop = part.step.for_each, self._tasks.new(f"for-loop-{task}")
        item = f"pipelinechannel--{loop}-item"
        inner: dict[str, Body] = {
            name: ({"componentInputParameter": f"pipelinechannel--{name}"} if "runtimeValue" not in source else source)
            for name, source in values.items()
        }
        inner[parameter_name(_item(part))] = {"componentInputParameter": item}
        body["inputs"] = _inputs(
            inner, {name: {"componentInputArtifact": f"pipelinechannel--{name}"} for name in artifacts}
        )
        made = self._made[part.step.name]
        collected = {f"pipelinechannel--{task}-{key}": (key, output) for output, key in made.artifacts.items()}
        outer = {f"pipelinechannel--{name}": v for name, v in values.items() if "runtimeValue" not in v}
        component: Body = {"dag": {"tasks": {task: body}}}
        if collected:
            component["dag"]["outputs"] = {
                "artifacts": {
                    name: {"artifactSelectors": [{"outputArtifactKey": key, "producerSubtask": task}]}
                    for name, (key, _) in collected.items()
                }
            }
        _declare(
            component,
            {name: {"parameterType": "STRING"} for name in (item, *outer)},
            {f"pipelinechannel--{name}": _artifact(s[1], many=many) for name, (s, many) in artifacts.items()},
            {name: _artifact(output, many=True) for name, (_, output) in collected.items()},
        )
        self._components[f"comp-{loop}"] = component
        made.task = loop
        made_inputs = {f"pipelinechannel--{name}": _from_task(*source) for name, (source, _) in artifacts.items()}
        looped: Body = {
            "taskInfo": {"name": loop},
            "componentRef": {"name": f"comp-{loop}"},
            "inputs": _inputs(outer, made_inputs),
            "parameterIterator": {
                "itemInput": item,
                "items": {"raw": json.dumps(list(part.items or ()), ensure_ascii=False)},
            },
        }
        if needs:
            looped["dependentTasks"] = list(needs)
        if fan and fan.max_parallel is not None:
            looped["iteratorPolicy"] = {"parallelismLimit": fan.max_parallel}
        return loop, looped


def too_large(step: str, sizes: Mapping[str, int]) -> Invalid:
    """The error for project files that no component has room for. sizes: in bytes, by name."""
    largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
    shown = ", ".join(f"{name} ({format_size(sizes[name])})" for name in largest)
    return refusals.refused(
        step,
        f"the project's files, more than {format_size(PACKED_LIMIT)} when packed; the largest are {shown}",
        "leave out what the steps do not read with `.groundignore`, or let a step fetch it",
    )


def _item(part: Part) -> str:
    return part.step.for_each.variable if part.step.for_each else ""


def _from_task(task: str, key: str) -> Body:
    return {"taskOutputArtifact": {"producerTask": task, "outputArtifactKey": key}}


def _inputs(parameters: Mapping[str, Body], artifacts: Mapping[str, Body]) -> Body:
    return {name: dict(part) for name, part in (("parameters", parameters), ("artifacts", artifacts)) if part}


def _declare(component: Body, parameters: Body, artifacts: Body, outputs: Body) -> None:
    given = {name: part for name, part in (("parameters", parameters), ("artifacts", artifacts)) if part}
    if given:
        component["inputDefinitions"] = given
    if outputs:
        component["outputDefinitions"] = {"artifacts": outputs}


def _artifact(name: str, *, many: bool) -> Body:
    title = _TYPES.get(kind_of(name), "system.Artifact")
    body: Body = {"artifactType": {"schemaTitle": title, "schemaVersion": "0.0.1"}}
    if many:
        body["isArtifactList"] = True
    if _is_many(name):
        body["description"] = ir.FOLDER
    return body


def _is_many(output: str) -> bool:
    return output.endswith("/") or is_glob(output)


def _resources(step: Step) -> Body:
    asked = step.resources
    found: Body = {}
    if asked.cpus is not None:
        found |= {"cpuLimit": float(asked.cpus), "resourceCpuLimit": f"{asked.cpus:g}"}
    if asked.memory is not None:
        found |= {"memoryLimit": asked.memory / 1e9, "resourceMemoryLimit": str(asked.memory)}
    if asked.gpus:
        count = str(asked.gpus)
        found["accelerator"] = {"count": count, "resourceCount": count, "type": _GPU, "resourceType": _GPU}
    return found
