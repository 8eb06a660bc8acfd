"""KFP v2's IR as text and plain dictionaries, and whether every name in it leads somewhere (the SDK does not ask)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

from groundplane.model.errors import Invalid

Body = dict[str, Any]

KUBERNETES = "kubernetes"
"""The platform whose settings stand in the file's second document."""

FOLDER = "A folder of files."
"""The description of an artifact that is one: KFP itself does not tell."""


class Document(NamedTuple):
    """A compiled pipeline. spec: the PipelineSpec. executors: what the Kubernetes platform is told, by executor."""

    spec: Body
    executors: Mapping[str, Body]


def write(spec: Body, executors: Mapping[str, Body]) -> str:
    """The file's text, in the SDK's own form: the PipelineSpec and, where there is one, the platform's document."""
    import yaml

    documents: list[Body] = [spec]
    if executors:
        documents.append(platform(executors))
    return "---\n".join(yaml.safe_dump(each, sort_keys=True, allow_unicode=True, width=120) for each in documents)


def platform(executors: Mapping[str, Body]) -> Body:
    """The PlatformSpec that tells these executors' settings."""
    return {"platforms": {KUBERNETES: {"deploymentSpec": {"executors": dict(executors)}}}}


def read(text: str, name: str) -> Document:
    """The compiled pipeline in the text of the file `name`. Raises Invalid for what is none, and for dangling names."""
    import yaml

    try:
        found: list[Any] = [each for each in yaml.safe_load_all(text) if each is not None]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise Invalid(f"{name} is no YAML{where}", hint=_HINT) from None
    except RecursionError:
        raise Invalid(f"{name} is nested too deeply", hint=_HINT) from None
    if not found or not _is_pipeline(found[0]):
        workflow = found and isinstance(found[0], dict) and "apiVersion" in found[0]
        told = "a Kubernetes object (a KFP v1 pipeline is one)" if workflow else "no compiled KFP pipeline"
        raise Invalid(f"{name} is {told}", hint=_HINT)
    spec = cast(Body, found[0])
    if not str(spec.get("schemaVersion", "")).startswith("2."):
        raise Invalid(f"{name} has schemaVersion {spec.get('schemaVersion')!r}", hint=_HINT)
    try:
        if problems := dangling(spec):
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise Invalid(f"{name}: {problems[0]}{more}", hint="compile it anew from its Python source")
        return Document(spec, _executors(found[1:], name))
    except (AttributeError, TypeError, KeyError, IndexError):
        raise Invalid(f"{name} is no compiled KFP pipeline: a part of it has another form", hint=_HINT) from None


_HINT = "make it with the kfp SDK, version 2: compiler.Compiler().compile(pipeline, 'p.yaml')"


def _is_pipeline(body: Any) -> bool:
    return isinstance(body, dict) and all(
        isinstance(cast(Body, body).get(key), dict) for key in ("pipelineInfo", "root", "deploymentSpec")
    )


def _executors(rest: list[Any], name: str) -> Mapping[str, Body]:
    if not rest:
        return {}
    platforms = cast(Body, rest[0]).get("platforms", {})
    others = [each for each in platforms if each != KUBERNETES]
    if others or len(rest) > 1:
        raise Invalid(
            f"{name} is compiled for the platform {', '.join(others) or '?'}", hint="only Kubernetes is known"
        )
    config = platforms.get(KUBERNETES, {})
    if config.get("pipelineConfig"):
        raise Invalid(
            f"{name} has a pipelineConfig ({', '.join(config['pipelineConfig'])}), which Groundplane cannot hold",
            hint="leave it away when compiling",
        )
    return config.get("deploymentSpec", {}).get("executors", {})


def dag(component: Body) -> Body | None:
    """The component's tasks; None for one that is a container."""
    return component.get("dag")


def inputs(part: Body, kind: str) -> Body:
    """Declared inputs by name; kind: `parameters` or `artifacts`."""
    return part.get("inputDefinitions", {}).get(kind, {})


def outputs(part: Body, kind: str) -> Body:
    """Declared outputs by name."""
    return part.get("outputDefinitions", {}).get(kind, {})


def dangling(spec: Body) -> list[str]:
    """A sentence for each name that leads nowhere, and for each input that nobody gives."""
    components: Body = spec.get("components", {})
    executors: Body = spec.get("deploymentSpec", {}).get("executors", {})
    found: list[str] = []
    for name, component in {"root": spec["root"], **components}.items():
        if (tasks := dag(component)) is not None:
            found += _dangling_in(name, component, tasks, components)
        elif component.get("executorLabel") not in executors:
            found.append(f"component {name!r} names an executor that is not there: {component.get('executorLabel')!r}")
    return found


def _dangling_in(where: str, component: Body, body: Body, components: Body) -> Iterator[str]:
    tasks: Body = body.get("tasks", {})
    for name, task in tasks.items():
        at = f"task {name!r} of {where!r}"
        ref = task.get("componentRef", {}).get("name")
        if ref not in components:
            yield f"{at} names a component that is not there: {ref!r}"
            continue
        for needed in task.get("dependentTasks", ()):
            if needed not in tasks:
                yield f"{at} comes after a task that is not there: {needed!r}"
        for kind, singular in (("parameters", "Parameter"), ("artifacts", "Artifact")):
            given: Body = task.get("inputs", {}).get(kind, {})
            for key, value in given.items():
                yield from _source(f"{at}, input {key!r},", value, singular, kind, component, tasks, components)
            iterators: list[Body] = [task.get("parameterIterator", {}), task.get("artifactIterator", {})]
            iterated = [iterator.get("itemInput") for iterator in iterators]
            for key, declared in inputs(components[ref], kind).items():
                if key not in given and key not in iterated and not _optional(declared):
                    yield f"{at} gives no value to the input {key!r} of {ref!r}"
        items = task.get("parameterIterator", {}).get("items", {}).get("inputParameter")
        if items and items not in task.get("inputs", {}).get("parameters", {}):
            yield f"{at} goes over an input that it does not have: {items!r}"
    for kind, entries in body.get("outputs", {}).items():
        for key, value in entries.items():
            for selector in _selectors(value):
                producer, name = selector.get("producerSubtask"), _key(selector)
                if producer not in tasks or name not in _outputs_of(tasks[producer], components, kind):
                    yield f"output {key!r} of {where!r} comes from {producer!r}, which has no output {name!r}"


def _optional(declared: Body) -> bool:
    return bool(declared.get("isOptional")) or "defaultValue" in declared


def _selectors(value: Body) -> list[Body]:
    single = [value["valueFromParameter"]] if "valueFromParameter" in value else []
    several = value.get("valueFromOneof", {}).get("parameterSelectors", [])
    return [*single, *several, *value.get("artifactSelectors", [])]


def _key(selector: Body) -> str | None:
    return selector.get("outputParameterKey") or selector.get("outputArtifactKey")


def _outputs_of(task: Body, components: Body, kind: str) -> Body:
    return outputs(components.get(task.get("componentRef", {}).get("name"), {}), kind)


def _source(
    at: str, value: Body, singular: str, kind: str, component: Body, tasks: Body, components: Body
) -> Iterator[str]:
    if (name := value.get(f"componentInput{singular}")) is not None:
        if name not in inputs(component, kind):
            yield f"{at} takes an input that its pipeline does not have: {name!r}"
    elif (output := value.get(f"taskOutput{singular}")) is not None:
        producer, name = output.get("producerTask"), _key(output)
        if producer not in tasks:
            yield f"{at} comes from a task that is not there: {producer!r}"
        elif name not in _outputs_of(tasks[producer], components, kind):
            yield f"{at} comes from {producer!r}, which has no output {name!r}"
