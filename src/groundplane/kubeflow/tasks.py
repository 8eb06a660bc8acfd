"""A compiled KFP pipeline as tasks whose inputs come from other tasks, however deep its parts were nested."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from groundplane.kubeflow import ir
from groundplane.kubeflow.ir import Body, Document
from groundplane.kubeflow.names import Names, kebab
from groundplane.model.errors import Invalid

CODE = "kubeflow_cannot"
_CHANNEL = re.compile(r"\{\{\$\.inputs\.parameters\['([^']+)'\]\}\}")
_RUN = {
    "pipeline_job_name": "GROUND_RUN",
    "pipeline_job_uuid": "GROUND_RUN",
    "pipeline_job_resource_name": "GROUND_RUN",
    "pipeline_task_name": "GROUND_TASK",
    "pipeline_task_uuid": "GROUND_TASK",
}
_PLACEHOLDER = re.compile(r"\{\{\$\.?(.*?)\}\}")
_FIELD = re.compile(r"""parseJson\(string_value\)\["([^"\]]+)"\]""")


def refused(
    task: str, what: str, hint: str = "leave it out, or write that part of the pipeline in ground.toml"
) -> Invalid:
    """The error for a feature that Groundplane cannot keep."""
    return Invalid(f"task {task!r}: Groundplane cannot keep {what}", hint=hint, code=CODE)


@dataclass(frozen=True, slots=True, eq=False)
class Loop:
    """A ParallelFor. variable: its name in ground.toml. items: the literal ones, as text; None: those of `over`, which
    `splitter`, a step of its own, makes files of. kind: the KFP type of an item."""

    variable: str
    kind: str
    items: tuple[str, ...] | None = None
    over: Source | None = None
    splitter: str = ""
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Where an input comes from. form: `constant`, `parameter` (the pipeline's), `output`, `item`, `field`, `parts`,
    `run` (a variable of the run). name: the parameter, the output's key, the field, the variable. kind: the KFP type,
    or an artifact's schema. folder: it is an
    artifact of many files."""

    form: str
    name: str = ""
    kind: str = ""
    value: Any = None
    step: str = ""
    loop: Loop | None = None
    folder: bool = False
    of: tuple[Source | str, ...] = ()
    required: bool = False
    optional: bool = False


@dataclass(slots=True)
class Task:
    """One step to be. component: its interface. container: what runs. needs: steps that come before it."""

    name: str
    component: Body
    container: Body
    platform: Body
    inputs: dict[str, Source]
    loop: Loop | None
    body: Body
    needs: list[str] = field(default_factory=list[str])


class Walk:
    """tasks: in the order of the file. loops: those that need a step which makes files of a list."""

    def __init__(self, document: Document) -> None:
        self.tasks: list[Task] = []
        self.loops: list[Loop] = []
        self._components: Body = document.spec.get("components", {})
        self._executors: Body = document.spec["deploymentSpec"].get("executors", {})
        self._platform = document.executors
        self._names = Names(["latest"])
        root: Body = document.spec["root"]
        if artifacts := ir.inputs(root, "artifacts"):
            raise Invalid(
                f"the pipeline takes artifacts as inputs ({', '.join(artifacts)}), which Groundplane cannot keep",
                hint="let a step fetch or make them",
                code=CODE,
            )
        self.parameters: Body = ir.inputs(root, "parameters")
        scope = {
            name: Source(
                "parameter",
                name,
                declared["parameterType"],
                required="defaultValue" not in declared and not declared.get("isOptional"),
                optional="defaultValue" not in declared and bool(declared.get("isOptional")),
            )
            for name, declared in self.parameters.items()
        }
        self._dag(root, scope, "", None, ())

    def _dag(
        self, component: Body, scope: Mapping[str, Source], prefix: str, loop: Loop | None, before: Iterable[str]
    ) -> tuple[dict[str, Source], list[str]]:
        """Adds the tasks within. Gives the component's outputs, and the names of all these tasks."""
        body: Body = component["dag"]
        made: dict[str, dict[str, Source]] = {}
        steps: dict[str, list[str]] = {}
        for name in _ordered(body.get("tasks", {})):
            task: Body = body["tasks"][name]
            _check_policy(name, task)
            needed = [step for other in task.get("dependentTasks", ()) for step in steps[other]]
            given = self._given(name, task, scope, made)
            needs = [*before, *needed]
            inner = self._components[task["componentRef"]["name"]]
            if "parameterIterator" in task or "artifactIterator" in task:
                if loop is not None:
                    raise refused(name, "a loop within a loop", "go over the pairs in one loop")
                made[name], steps[name] = self._loop(name, task, inner, given, prefix, needs)
            elif ir.dag(inner) is not None:
                made[name], steps[name] = self._dag(inner, given, f"{prefix}{name}-", loop, needs)
            else:
                made[name], steps[name] = self._leaf(f"{prefix}{name}", task, inner, given, loop, needs)
        return _outputs(body, made), [step for found in steps.values() for step in found]

    def _loop(
        self, name: str, task: Body, inner: Body, given: dict[str, Source], prefix: str, needs: list[str]
    ) -> tuple[dict[str, Source], list[str]]:
        if "artifactIterator" in task:
            raise refused(name, "a loop over artifacts", "go over a list of values")
        if ir.dag(inner) is None:
            raise refused(name, "a loop of this form: it has no tasks of its own")
        iterator: Body = task["parameterIterator"]
        item, most = iterator["itemInput"], task.get("iteratorPolicy", {}).get("parallelismLimit")
        kind = ir.inputs(inner, "parameters")[item]["parameterType"]
        if "raw" in iterator["items"]:
            found = [_as_text(each, kind) for each in json.loads(iterator["items"]["raw"])]
            if len(set(found)) != len(found):
                raise refused(name, "a loop that has an item twice", "give each item another value")
            loop = Loop("item", kind, tuple(found), most=most)
        else:
            splitter = self._names.new(kebab(f"{prefix}{name}-items"))
            loop = Loop("item", kind, None, given[iterator["items"]["inputParameter"]], splitter, most)
            self.loops.append(loop)
        scope = {**given, item: Source("item", kind=kind, loop=loop)}
        return self._dag(inner, scope, prefix, loop, needs)

    def _leaf(
        self, name: str, task: Body, component: Body, given: dict[str, Source], loop: Loop | None, needs: list[str]
    ) -> tuple[dict[str, Source], list[str]]:
        executor: Body = self._executors[component["executorLabel"]]
        if "container" not in executor:
            what = (
                "an importer (dsl.importer)" if "importer" in executor else f"an executor of the kind {list(executor)}"
            )
            raise refused(name, what, "let a step fetch the artifact")
        step = self._names.new(kebab(name))
        for kind, declared in ir.inputs(component, "parameters").items():
            if declared.get("parameterType") == "TASK_FINAL_STATUS":
                raise refused(name, f"the status of other tasks, which its input {kind!r} is")
            if kind not in given and "defaultValue" in declared:
                given[kind] = Source("constant", value=_number(declared["defaultValue"], declared["parameterType"]))
        self.tasks.append(
            Task(
                step,
                component,
                executor["container"],
                self._platform.get(component["executorLabel"], {}),
                given,
                loop,
                task,
                list(dict.fromkeys(needs)),
            )
        )
        outputs = {
            key: Source("output", key, declared["parameterType"], step=step, loop=loop)
            for key, declared in ir.outputs(component, "parameters").items()
        }
        for key, declared in ir.outputs(component, "artifacts").items():
            if declared.get("isArtifactList"):
                raise refused(name, f"the output {key!r}, a list of artifacts", "hand on one artifact")
            title = declared["artifactType"].get("schemaTitle", "")
            folder = declared.get("description") == ir.FOLDER
            outputs[key] = Source("output", key, title, step=step, loop=loop, folder=folder)
        return outputs, [step]

    def _given(
        self, name: str, task: Body, scope: Mapping[str, Source], made: Mapping[str, Mapping[str, Source]]
    ) -> dict[str, Source]:
        found: dict[str, Source] = {}
        parameters: Body = task.get("inputs", {}).get("parameters", {})
        for key, value in parameters.items():
            if "runtimeValue" not in value:
                found[key] = self._selected(name, value, scope, made)
        for key, value in parameters.items():
            if "runtimeValue" in value:
                found[key] = _constant(name, value["runtimeValue"].get("constant"), found)
        for key, value in task.get("inputs", {}).get("artifacts", {}).items():
            if "componentInputArtifact" in value:
                found[key] = scope[value["componentInputArtifact"]]
            else:
                output = value["taskOutputArtifact"]
                found[key] = made[output["producerTask"]][output["outputArtifactKey"]]
        return found

    def _selected(
        self, name: str, value: Body, scope: Mapping[str, Source], made: Mapping[str, Mapping[str, Source]]
    ) -> Source:
        if "componentInputParameter" in value:
            source = scope.get(value["componentInputParameter"], Source("constant"))
        elif "taskOutputParameter" in value:
            output = value["taskOutputParameter"]
            source = made[output["producerTask"]][output["outputParameterKey"]]
        else:
            raise refused(name, f"an input of the form {list(value)}")
        selector = value.get("parameterExpressionSelector")
        if not selector:
            return source
        part = _FIELD.fullmatch(selector)
        if part is None:
            raise refused(name, f"the expression {selector!r}")
        return Source("field", part[1], of=(source,))


def _ordered(tasks: Body) -> list[str]:
    """Each after those that it needs."""
    from graphlib import CycleError, TopologicalSorter

    needs: dict[str, list[str]] = {}
    for name, task in tasks.items():
        needs[name] = list(task.get("dependentTasks", ()))
        for given in task.get("inputs", {}).values():
            for value in given.values():
                output = value.get("taskOutputParameter") or value.get("taskOutputArtifact")
                if output:
                    needs[name].append(output["producerTask"])
    try:
        return list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        raise Invalid(f"the tasks form a cycle: {' -> '.join(error.args[1])}", hint="compile it anew") from None


def _check_policy(name: str, task: Body) -> None:
    trigger: Body = task.get("triggerPolicy", {})
    if trigger.get("condition"):
        raise refused(name, f"a condition (dsl.If): {trigger['condition']}")
    if trigger.get("strategy", "ALL_UPSTREAM_TASKS_SUCCEEDED") != "ALL_UPSTREAM_TASKS_SUCCEEDED":
        raise refused(name, "an exit handler (dsl.ExitHandler), or a task that ignores failures before it")


def _outputs(body: Body, made: Mapping[str, Mapping[str, Source]]) -> dict[str, Source]:
    found: dict[str, Source] = {}
    for key, value in body.get("outputs", {}).get("parameters", {}).items():
        if "valueFromParameter" not in value:
            raise refused(key, "an output that comes from one of several branches (dsl.OneOf)")
        selector = value["valueFromParameter"]
        found[key] = made[selector["producerSubtask"]][selector["outputParameterKey"]]
    for key, value in body.get("outputs", {}).get("artifacts", {}).items():
        if len(value["artifactSelectors"]) != 1:
            raise refused(key, "an output that comes from one of several branches (dsl.OneOf)")
        selector = value["artifactSelectors"][0]
        found[key] = made[selector["producerSubtask"]][selector["outputArtifactKey"]]
    return found


def _constant(name: str, constant: Any, given: Mapping[str, Source]) -> Source:
    """A constant may hold placeholders of the task's other inputs and of the run."""
    if not isinstance(constant, str) or "{{$" not in constant:
        return Source("constant", value=constant)
    parts: list[Source | str] = []
    at = 0
    for hit in _PLACEHOLDER.finditer(constant):
        if hit.start() > at:
            parts.append(constant[at : hit.start()])
        at = hit.end()
        channel = _CHANNEL.fullmatch(hit[0])
        if channel and channel[1] in given:
            parts.append(given[channel[1]])
        elif hit[1] in _RUN:
            parts.append(Source("run", _RUN[hit[1]]))
        else:
            raise refused(name, f"the placeholder {hit[0]}")
    if at < len(constant):
        parts.append(constant[at:])
    return Source("parts", of=tuple(parts))


def run_variable(placeholder: str) -> str:
    """The variable that holds what `{{$.placeholder}}` means; "" for none."""
    return _RUN.get(placeholder, "")


def _as_text(item: Any, kind: str) -> str:
    if kind == "STRING" and isinstance(item, str):
        return item
    return json.dumps(_number(item, kind), ensure_ascii=False)


def _number(value: Any, kind: str) -> Any:
    """The IR has every number as a float."""
    if kind == "NUMBER_INTEGER" and isinstance(value, float):
        return int(value)
    if kind in ("LIST", "STRUCT"):
        return _whole(value)
    return value


def _whole(value: Any) -> Any:
    if isinstance(value, list):
        return [_whole(each) for each in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return {key: _whole(each) for key, each in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def default_text(declared: Body) -> str:
    """A parameter's default as ground.toml has it; "" for none."""
    if "defaultValue" not in declared:
        return ""
    return _as_text(declared["defaultValue"], declared["parameterType"])
