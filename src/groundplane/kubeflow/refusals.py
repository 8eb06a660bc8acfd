"""What of a pipeline KFP cannot hold. Each is refused by step and name, before anything is written."""

from __future__ import annotations

from groundplane.kubeflow.parts import Part
from groundplane.model.errors import Invalid
from groundplane.model.globs import is_glob
from groundplane.model.pipelines import Input, Pipeline, SourceKind, Step

CODE = "kubeflow_cannot"


def refused(step: str, what: str, hint: str) -> Invalid:
    """The error for a feature that KFP lacks."""
    return Invalid(f"step {step!r}: KFP cannot hold {what}", hint=hint, code=CODE)


def check(pipeline: Pipeline, part: Part) -> None:
    """Raises Invalid for the first thing in the step that cannot be kept."""
    step = part.step
    if step.for_each is not None and part.items is None:
        source = step.for_each.source
        raise refused(
            step.name,
            f"a fan-out over files that {source.step if source else '?'!r} makes: its loops go over values",
            "give `for_each` a list of values, or the project's own files",
        )
    if step.for_each is not None and step.for_each.variable in pipeline.parameters:
        raise refused(
            step.name,
            f"a fan-out whose {step.for_each.variable!r} is a parameter of the pipeline, too",
            "give one of them another name",
        )
    kind = step.resources.gpu_kind
    if kind is not None and (kind.memory or kind.toolkits):
        raise refused(
            step.name,
            "what a GPU must be (`gpu.memory`, `gpu.cuda`): it only counts them",
            "leave these keys away, and choose the nodes in the cluster",
        )
    if (step.resources.nodes or 1) > 1:
        raise refused(
            step.name,
            f"{step.resources.nodes} nodes that run it at once (`resources.nodes`): its task is one pod",
            "run it from here, on a kubernetes backend: --on NAME",
        )
    if step.network is False:
        raise refused(
            step.name,
            "that it may reach no network (`network = false`): only the cluster can see to that",
            "leave the key away, and let a NetworkPolicy there keep it",
        )
    given = [f"the secret {name!r}" for name in step.secrets.values()]
    given += [f"the connection {name!r}" for name in step.connections]
    given += [f"a token for {scope!r}" for scope in step.scopes]
    if given:
        raise refused(step.name, f"{given[0]}, which this control plane keeps", "let the cluster give it a Secret")
    for entry in step.inputs:
        _input(pipeline, part, entry)
    if any("**" in output for output in step.outputs or ()):
        raise refused(step.name, "an output glob with `**`", 'name the folder instead: outputs = ["plots/"]')
    if any(is_glob(output) for output in step.outputs or ()) and step.for_each is not None:
        raise refused(step.name, "many files from each task of a fan-out", "let each task leave files of fixed names")
    start = part.start(step.parameters, part.items[0] if part.items else "")
    if start.command.sentinel is not None:
        raise refused(step.name, "an engine that tells its success by a line of its log", "run it with an open engine")


def _input(pipeline: Pipeline, part: Part, entry: Input) -> None:
    step = part.step
    if entry.source.kind is SourceKind.URL:
        raise refused(
            step.name, f"the input {entry.name!r} from a URL: {entry.source.path}", "let the step's script fetch it"
        )
    if entry.source.kind is SourceKind.QUERY:
        raise refused(step.name, f"the input {entry.name!r} from a query", "let the step's script ask the database")
    if entry.name in part.converted:
        raise refused(
            step.name,
            f"the conversion of {entry.source.path!r} to {entry.name!r}",
            "give both the same ending, and convert in the script",
        )
    if entry.source.kind is not SourceKind.STEP:
        return
    if step.for_each is not None and f"{{{step.for_each.variable}}}" in entry.source.path:
        raise refused(
            step.name,
            f"the input {entry.name!r}, which is another artifact for each item",
            "take the whole folder as an input",
        )
    producer = pipeline.step(entry.source.step)
    output = output_of(producer, entry.source.path)
    if output == entry.source.path or output == entry.source.path.removesuffix("**"):
        return
    if is_glob(entry.source.path):
        raise refused(
            step.name,
            f"the input {entry.name!r}, a part of {producer.name!r}'s {output!r}",
            f"take the whole: {producer.name}/{output}",
        )


def output_of(producer: Step, path: str) -> str:
    """The declared output that a source's path names: itself, or the glob or folder that it lies in."""
    from groundplane.model.globs import matches

    declared = producer.outputs or ()
    for output in declared:
        if output in (path, path.removesuffix("**")):
            return output
    for output in declared:
        if path.startswith(output) if output.endswith("/") else matches(output, path) or matches(path, output):
            return output
    raise refused(producer.name, f"the output {path!r}, which it does not declare", "declare it")
