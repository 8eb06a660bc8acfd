"""A pipeline against the project folder and the command line: whatever cannot work is told before anything starts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from groundplane.data import formats
from groundplane.model.connections import QUERY_RESULT
from groundplane.model.errors import Invalid
from groundplane.model.globs import fixed_folder, is_glob
from groundplane.model.parameters import check_names
from groundplane.model.pipelines import ForEach, Input, Pipeline, Source, SourceKind, Step, ordered
from groundplane.services.spec.problems import Problems, close, listed, meant
from groundplane.services.spec.sources import (
    Tree,
    declares,
    file_name,
    is_query,
    path_problem,
    placeholders,
    scheme,
    source_problem,
    tidy,
    written,
)

_TOLD_PER_INPUT = 3  # of a fan-out whose values all lack their file


def resolve(
    pipeline: Pipeline, files: Collection[str], overrides: Mapping[str, str], file: str = "ground.toml"
) -> Pipeline:
    """The pipeline with its steps in order, every source settled and every step's parameters complete.

    files: the names in the project folder, with `/`; an empty folder's ends in `/`. overrides: `-p` values.
    Raises Invalid that lists everything that cannot work; nothing is read from the disk.
    """
    problems = Problems(file)
    check = _Check(pipeline, Tree(frozenset(files)), problems)
    steps = [check.step(step) for step in pipeline.steps]
    if not problems.found:
        try:
            steps = list(ordered(steps))
        except Invalid as error:
            problems.add(f"pipelines.{pipeline.name}", error.message, error.hint)
    problems.raise_any()
    _check_overrides(pipeline, overrides)
    steps = _with_labels(steps)
    return replace(
        pipeline,
        steps=tuple(_with_parameters(step, pipeline.parameters, overrides) for step in steps),
        parameters={**pipeline.parameters, **overrides},
    )


def _with_labels(steps: Sequence[Step]) -> list[Step]:
    """What one step says of a file of the project, or of a URL, holds for all that read it."""
    said: dict[Source, set[str]] = {}
    for entry in (entry for step in steps for entry in step.inputs):
        said.setdefault(entry.source, set()).update(entry.labels)
    return [
        replace(
            step,
            inputs=tuple(
                entry
                if entry.source.kind is SourceKind.STEP
                else replace(entry, labels=tuple(sorted(said[entry.source])))
                for entry in step.inputs
            ),
        )
        for step in steps
    ]


def _check_overrides(pipeline: Pipeline, overrides: Mapping[str, str]) -> None:
    declared = dict.fromkeys([*pipeline.parameters, *(name for step in pipeline.steps for name in step.parameters)])
    for name, value in overrides.items():
        if name not in declared:
            raise Invalid(
                f"pipeline {pipeline.name!r} has no parameter {name!r}{meant(name, declared)}",
                hint=f"its parameters: {listed(declared)}; declare a new one in `params`",
            )
        if "\0" in value:
            raise Invalid(f"parameter {name!r} holds a NUL character", hint="no program can be given one")
    check_names(overrides)


def _with_parameters(step: Step, shared: Mapping[str, str], overrides: Mapping[str, str]) -> Step:
    """Pipeline < step < `-p`. One that only another step declares stays that step's: scripts refuse unknown options."""
    own = {**shared, **step.parameters}
    given = {**own, **{name: value for name, value in overrides.items() if name in own}}
    if step.for_each is None:
        return replace(step, parameters=given)
    token = f"{{{step.for_each.variable}}}"
    filled = tuple(name for name, value in own.items() if token in value and name not in overrides)
    return replace(step, parameters=given, for_each=replace(step.for_each, filled=filled))


class _Check:
    """One pipeline against one project folder; what is wrong goes to `problems`."""

    def __init__(self, pipeline: Pipeline, tree: Tree, problems: Problems) -> None:
        self.tree = tree
        self.problems = problems
        self.base = f"pipelines.{pipeline.name}.steps"
        self.outputs = {step.name: step.outputs or () for step in pipeline.steps}
        self.fans = {step.name for step in pipeline.steps if step.for_each}

    def step(self, step: Step) -> Step:
        """The step with its sources settled; those that are wrong are left out."""
        where = f"{self.base}.{step.name}"
        self._program(where, step)
        self._after(where, step)
        fan, items = self._for_each(where, step)
        inputs = [self._input(f"{where}.inputs", step, entry, items) for entry in step.inputs]
        return replace(step, for_each=fan, inputs=tuple(entry for entry in inputs if entry))

    def _program(self, where: str, step: Step) -> None:
        """The script, or a program that is given by a path in the project, is there."""
        if step.script is not None:
            if tidy(step.script) not in self.tree.names:
                self._missing(where, f"run = {step.script!r}: there is no such file in the project", tidy(step.script))
            return
        program = step.command[0]
        if "/" not in program or program.startswith("/"):
            return
        if ".." in program.split("/"):
            self.problems.add(where, f"command {program!r} leaves the project", "give a path below the project folder")
        elif tidy(program) not in self.tree.names and not any(entry.name == tidy(program) for entry in step.inputs):
            self._missing(where, f"command {program!r}: there is no such file in the project", tidy(program))

    def _missing(self, where: str, message: str, name: str, also: Collection[str] = ()) -> None:
        base = name.rpartition("/")[2]
        same = sorted(known for known in self.tree.names if known.rpartition("/")[2] == base)[:3] if base else []
        near = dict.fromkeys([*same, *close(name, [*self.tree.names, *also])])
        hint = f"did you mean {listed(near)}?" if near else "paths are relative to the folder of ground.toml"
        self.problems.add(where, message, hint)

    def _after(self, where: str, step: Step) -> None:
        for index, name in enumerate(step.after):
            if name == step.name:
                self.problems.add(where, "`after` names the step itself", "remove it")
            elif name not in self.outputs:
                self.problems.add(
                    where,
                    f"`after` names no step: {name!r}{meant(name, self.outputs)}",
                    f"steps: {listed(self.outputs)}",
                )
            elif name in step.after[:index]:
                self.problems.add(where, f"`after` names {name!r} twice", "once is enough")

    def _for_each(self, where: str, step: Step) -> tuple[ForEach | None, Sequence[str] | None]:
        """The fan-out with its source settled, and its items when they are known before anything runs."""
        fan = step.for_each
        if fan is None or fan.source is None:
            return fan, fan.values if fan else ()
        text, at = written(fan.source), f"{where}.for_each"
        source = self._find(at, step, text, may_be_empty=True)
        if source is None:
            return fan, None
        if source.kind is SourceKind.STEP and source.step in self.fans:
            self.problems.add(
                at,
                f"{text!r} comes from {source.step!r}, which is a fan-out itself",
                "join its tasks' outputs in a step between them",
            )
        known = self.tree.matching(source.path) if source.kind is SourceKind.PROJECT else None
        return replace(fan, source=source), known

    def _find(self, at: str, step: Step, text: str, *, may_be_empty: bool = False) -> Source | None:
        """Where a source text without placeholders leads; None, and a problem, when nowhere."""
        if scheme(text) or is_query(text):
            wrong = source_problem(text)
            if wrong:
                self.problems.add(at, wrong[0], wrong[1])
            return None if wrong else Source(SourceKind.QUERY if is_query(text) else SourceKind.URL, text)
        if wrong := path_problem(text):
            self.problems.add(at, wrong[0], wrong[1])
            return None
        path = tidy(text)
        head, _, rest = path.partition("/")
        if rest and head in self.outputs and declares(self.outputs[head], rest):
            if head == step.name:
                self.problems.add(at, f"{path!r} is the step's own output", "a step cannot need itself")
                return None
            return Source(SourceKind.STEP, rest + "**" if rest.endswith("/") else rest, head)
        if self.tree.has(path) or (may_be_empty and is_glob(path) and self._empty_glob(path)):
            return Source(SourceKind.PROJECT, path)
        if f"{path}/" in self.tree.folders:
            self.problems.add(
                at, f"{path!r} is a folder", f"take its files with `{path}/`, into a path that ends in `/`"
            )
        elif "/" in path and head in self.outputs:
            declared = self.outputs[head]
            what = f"declares no output {rest!r}{meant(rest, declared)}" if rest else "is a step; say which output"
            self.problems.add(at, f"{head!r} {what}", f"outputs of {head!r}: {listed(declared)}")
        else:
            known = [f"{name}/{output}" for name, outputs in self.outputs.items() for output in outputs]
            self._missing(at, f"{path!r} is neither a file in the project nor a step's output", path, known)
        return None

    def _empty_glob(self, path: str) -> bool:
        """An empty fan-out succeeds; one over a folder that is not there is a slip of the pen."""
        folder = fixed_folder(path)
        return folder == "" or folder in self.tree.folders

    def _input(self, at: str, step: Step, entry: Input, items: Sequence[str] | None) -> Input | None:
        text, fan = written(entry.source), step.for_each
        names = [] if text in self.tree.names else placeholders(text)
        if entry.source.kind is SourceKind.QUERY:  # SQL has braces of its own
            names = [name for name in names if fan and name == fan.variable]
        strange = [name for name in names if not fan or name != fan.variable]
        if strange:
            has = f"this step's is {{{fan.variable}}}" if fan else "only a step with `for_each` has one"
            self.problems.add(at, f"{entry.name!r} = {text!r}: unknown placeholder {{{strange[0]}}}", has)
            return None
        if not names or fan is None:
            source = self._find(at, step, text)
        elif items is None:
            source = self._of_step_item(at, step, text, fan)
        else:
            source = self._of_items(at, step, text, f"{{{fan.variable}}}", items)
        if source is None:
            return None
        self._shape(at, entry.name, source, fan)
        return replace(entry, source=source)

    def _of_step_item(self, at: str, step: Step, text: str, fan: ForEach) -> Source | None:
        """The items are outputs of a step that has not run: each is taken whole."""
        if text != f"{{{fan.variable}}}":
            self.problems.add(at, f"{text!r}: an output of a step is taken whole", f"write {{{fan.variable}}} alone")
            return None
        if fan.source is None or (fan.source.kind is SourceKind.STEP and fan.source.step not in self.outputs):
            return None
        found = self._find(at, step, written(fan.source), may_be_empty=True)
        return Source(SourceKind.STEP, text, found.step) if found else None

    def _of_items(self, at: str, step: Step, text: str, token: str, items: Sequence[str]) -> Source | None:
        """The items are known: each one's source is found now."""
        kinds: dict[tuple[SourceKind, str], Source] = {}
        before = len(self.problems.found)
        for item in items:
            found = self._find(at, step, text.replace(token, item))
            if found:
                kinds[found.kind, found.step] = found
            elif len(self.problems.found) - before >= _TOLD_PER_INPUT:
                return None
        if len(self.problems.found) > before:
            return None
        if not kinds:  # no items, no tasks
            return Source(SourceKind.PROJECT, text)
        (kind, name), _ = next(iter(kinds.items()))
        if len(kinds) > 1 or (kind is SourceKind.STEP and not text.startswith(f"{name}/")):
            self.problems.add(
                at, f"{text!r} would come from different places", "write the step before the placeholder: step/{name}"
            )
            return None
        return Source(kind, text.removeprefix(f"{name}/") if kind is SourceKind.STEP else text, name)

    def _shape(self, at: str, name: str, source: Source, fan: ForEach | None) -> None:
        """One file goes to a path, many go to a folder; and tables must be convertible."""
        text, folder = f"{name!r} = {written(source)!r}", name.endswith("/")
        item = fan is not None and source.path == f"{{{fan.variable}}}"
        if source.kind is SourceKind.STEP and source.step in self.fans:
            if not folder:
                hint = f'a fan-out joins as a folder: "{name.rpartition(".")[0] or name}/" = "{written(source)}"'
                self.problems.add(at, f"{text}: {source.step!r} is a fan-out and leaves one such file a task", hint)
            return
        many = not item and (
            self.tree.many(source.path)
            if source.kind is SourceKind.PROJECT
            else source.kind is SourceKind.STEP and is_glob(source.path)
        )
        if many and not folder:
            self.problems.add(at, f"{text}: the source may be many files", f'end the path with `/`: "{name}/"')
        elif folder and not many:
            self.problems.add(
                at, f"{text}: a path that ends in `/` takes many files, and this source is one", "remove the `/`"
            )
        elif not folder:
            origin = fan.source.path if item and fan and fan.source else file_name(source)
            self._convertible(at, name, origin, text)

    def _convertible(self, at: str, name: str, origin: str, text: str) -> None:
        before, after = formats.ending(origin), formats.ending(name)
        if origin == QUERY_RESULT and formats.find(name) is None:
            self.problems.add(at, f"{text}: a query's result is a table", "end the path with csv, parquet, sav, rds, …")
            return
        if before == after or "*" in before or "?" in before or "{" in before:
            return
        try:
            formats.check(origin, name)
        except ValueError as error:
            self.problems.add(at, f"{text}: {error}", str(getattr(error, "hint", "")))
            return
        if before and after and (formats.find(origin) is None) != (formats.find(name) is None):
            self.problems.add(
                at,
                f"{text}: only a table becomes another table, and .{after if formats.find(origin) else before} is none",
                "give both the same ending, or convert it in the script",
            )
