"""The text of `ground.toml` as pipelines: everything that can be checked without looking at the project folder."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from groundplane.model.environments import Environment, Gpu
from groundplane.model.errors import Invalid, NotFound
from groundplane.model.globs import is_glob
from groundplane.model.parameters import check_names, parameter_text
from groundplane.model.pipelines import ForEach, Input, Pipeline, Step
from groundplane.model.resources import Resources
from groundplane.services.spec import grants
from groundplane.services.spec.format import EnvironmentTable, GroundFile, StepTable
from groundplane.services.spec.grievances import tell
from groundplane.services.spec.problems import Problems, listed, meant
from groundplane.services.spec.sources import (
    by_form,
    is_query,
    path_problem,
    pattern_problem,
    placeholders,
    scheme,
    source_problem,
    tidy,
)

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~-]*")
_PACKAGE = re.compile(r"[A-Za-z0-9][^\x00-\x1f]*$")  # never an option of the program that installs it
_MOST_TASKS = 100_000


@dataclass(frozen=True, slots=True)
class Project:
    """A `ground.toml` as read. Its pipelines still have to be resolved against the project folder.

    environment, on, network: of steps that do not say their own; None where the project does not either. labels: of all
    of its data.
    """

    name: str
    description: str
    pipelines: Mapping[str, Pipeline]
    environments: Mapping[str, Environment]
    environment: str | None = None
    on: str | None = None
    network: bool | None = None
    labels: tuple[str, ...] = ()


def parse(text: str | bytes, file: str = "ground.toml") -> Project:
    """Reads the file's text. Raises Invalid that lists everything wrong with it; `file` is its name in messages."""
    body = _toml(text, file)
    problems = Problems(file)
    try:
        read = GroundFile.model_validate(body)
    except ValidationError as error:
        tell(error, problems)
        problems.raise_any()
        raise  # an error that tells nothing is a defect of ours
    made = {name: _environment(problems, name, table) for name, table in read.environments.items()}
    _check_environment(problems, "project", read.project.environment, made)
    pipelines: dict[str, Pipeline] = {}
    for name, table in read.pipelines.items():
        where = f"pipelines.{name}"
        _check_parameters(problems, where, table.params)
        steps = tuple(
            _step(problems, f"{where}.steps.{step}", step, entry, table.params, list(table.steps))
            for step, entry in table.steps.items()
        )
        for step, entry in table.steps.items():
            _check_environment(problems, f"{where}.steps.{step}", entry.environment, made)
        pipelines[name] = Pipeline(name, read.project.name, steps, table.params)
    problems.raise_any()
    project = read.project
    return Project(
        project.name,
        project.description,
        pipelines,
        made,
        project.environment,
        project.on,
        project.network,
        tuple(project.labels),
    )


def pipeline(project: Project, name: str | None = None, file: str = "ground.toml") -> Pipeline:
    """The project's only pipeline, else the one of that name. Raises NotFound, or Invalid when it has to be told."""
    known = project.pipelines
    if name is not None:
        if name not in known:
            raise NotFound(f"{file} has no pipeline {name!r}{meant(name, known)}", hint=f"pipelines: {listed(known)}")
        return known[name]
    if not known:
        raise Invalid(f"{file} has no pipeline", hint='add one: [pipelines.main.steps.first] with run = "script.py"')
    if len(known) > 1:
        raise Invalid(f"{file} has {len(known)} pipelines", hint=f"say which with --pipeline NAME: {listed(known)}")
    return next(iter(known.values()))


def _environment(problems: Problems, name: str, table: EnvironmentTable) -> Environment:
    toolchain, _, version = (table.toolchain or "").partition("@")
    where = f"environments.{name}"
    if table.toolchain is not None and (not toolchain or (table.toolchain.endswith("@"))):
        problems.add(where, f"toolchain = {table.toolchain!r} is no name with a version", 'write it like "r@4.5"')
    if table.dockerfile is not None and (wrong := path_problem(table.dockerfile)):
        problems.add(where, f"from = {wrong[0]}", wrong[1])
    if version and not _VERSION.fullmatch(version):
        problems.add(where, f"{version!r} is no version", 'write it like "r@4.5"')
    for key, names in (("packages", table.packages), ("system_packages", table.system_packages)):
        for package in names:
            if not _PACKAGE.match(package):
                problems.add(
                    f"{where}.{key}", f"{package!r} is no name of a package", "it begins with a letter or digit"
                )
    gpu = table.gpu
    return Environment(
        name=name,
        toolchain=toolchain,
        version=version,
        engine=table.engine or "",
        packages=tuple(table.packages),
        system_packages=tuple(table.system_packages),
        gpu=Gpu(gpu.count, gpu.memory, gpu.cuda) if gpu else None,
        image=table.image or "",
        dockerfile=tidy(table.dockerfile) if table.dockerfile else "",
    )


def _check_environment(problems: Problems, where: str, name: str | None, known: Mapping[str, Environment]) -> None:
    if name is not None and name not in known:
        hint = (
            f"its environments: {listed(known)}"
            if known
            else f'add one: [environments.{name}] with toolchain = "r@4.5"'
        )
        problems.add(where, f"there is no environment {name!r}{meant(name, known)}", hint)


def _toml(text: str | bytes, file: str) -> dict[str, Any]:
    try:
        content = text.decode() if isinstance(text, bytes) else text.encode().decode()
    except UnicodeError as error:
        data = text if isinstance(text, bytes) else text.encode(errors="surrogateescape")
        line = data[: getattr(error, "start", 0)].count(b"\n") + 1
        raise Invalid(
            f"{file} is not UTF-8 text (line {line})", hint="save it as UTF-8; TOML knows no other encoding"
        ) from None
    if not content.strip("\ufeff \t\r\n"):
        raise Invalid(f"{file} is empty", hint='it begins with [project] and name = "…"')
    try:
        return tomllib.loads(content.removeprefix("\ufeff"))
    except ValueError as error:
        raise Invalid(f"{file}: {error}", hint="the file is TOML: see https://toml.io") from None
    except RecursionError:
        raise Invalid(f"{file} is nested too deeply", hint="the file is TOML: see https://toml.io") from None


def _check_parameters(problems: Problems, where: str, names: Mapping[str, str] | Sequence[str]) -> None:
    try:
        check_names(names)
    except Invalid as error:
        problems.add(where, error.message, error.hint)


def _step(
    problems: Problems,
    where: str,
    name: str,
    table: StepTable,
    shared: Mapping[str, str],
    steps: Sequence[str],
) -> Step:
    fan = _for_each(problems, where, table, steps)
    if table.params:
        _check_parameters(problems, where, [*shared, *table.params])
    if fan and fan.values is not None:
        _check_parameters(problems, where, [*shared, *table.params, fan.variable])
        if table.params.get(fan.variable, f"{{{fan.variable}}}") != f"{{{fan.variable}}}":
            problems.add(
                where,
                f"`params` and `for_each` both give a value to {fan.variable!r}",
                "each value of `for_each` is a parameter of that name already",
            )
    if table.run is not None and (wrong := path_problem(table.run)):
        problems.add(where, f"run = {wrong[0]}", wrong[1])
    if table.command and not table.command[0]:
        problems.add(where, "the command's program is empty", 'write command = ["program", "argument"]')
    variable = fan.variable if fan else None
    inputs = _inputs(problems, where, table, variable, steps)
    return Step(
        name=name,
        script=table.run,
        command=tuple(table.command or ()),
        toolchain=table.toolchain,
        arguments=tuple(table.args),
        inputs=inputs,
        outputs=_outputs(problems, where, table, variable),
        parameters=table.params,
        resources=_resources(table),
        for_each=fan,
        after=tuple(table.after),
        retries=table.retries,
        rerun=table.rerun,
        environment=table.env,
        runs_in=table.environment,
        on=table.on,
        network=table.network,
        labels=tuple(table.labels),
        secrets=grants.secrets(problems, where, table, [entry.name for entry in inputs]),
        connections=grants.connections(problems, where, table),
        scopes=tuple(sorted(set(table.scopes))),
    )


def _resources(table: StepTable) -> Resources:
    asked = table.resources
    if asked is None:
        return Resources(timeout=table.timeout)
    return Resources(asked.cpus, asked.memory, asked.gpus, table.timeout, nodes=asked.nodes)


def _inputs(
    problems: Problems, where: str, table: StepTable, variable: str | None, steps: Sequence[str]
) -> tuple[Input, ...]:
    found: list[Input] = []
    for name, given in table.inputs.items():
        at, text = f"{where}.inputs", given.source
        if (wrong := path_problem(name)) or (wrong := _placed(name, variable)):
            problems.add(at, wrong[0], wrong[1])
        elif wrong := source_problem(text):
            problems.add(at, f"{name!r} = {wrong[0]}", wrong[1])
        else:
            found.append(Input(tidy(name), by_form(text, steps), tuple(given.labels)))
    paths = [entry.name for entry in found]
    _check_apart(problems, f"{where}.inputs", "input", paths)
    if table.run is not None and tidy(table.run) in paths:
        problems.add(where, f"the input {tidy(table.run)!r} would overwrite the step's script", "give it another path")
    return tuple(found)


def _outputs(problems: Problems, where: str, table: StepTable, variable: str | None) -> tuple[str, ...]:
    found: list[str] = []
    for name in table.outputs:
        if (wrong := pattern_problem(name)) or (wrong := _placed(name, variable)):
            problems.add(f"{where}.outputs", wrong[0], wrong[1])
        else:
            found.append(tidy(name))
    _check_apart(problems, f"{where}.outputs", "output", found)
    if table.run is not None and tidy(table.run) in found:
        problems.add(where, f"the output {tidy(table.run)!r} is the step's script", "let it write another file")
    return tuple(found)


def _placed(name: str, variable: str | None) -> tuple[str, str] | None:
    """Each task of a fan-out has a working copy of its own, so its paths need no placeholder."""
    if variable is None or variable not in placeholders(name):
        return None
    return f"{name!r} holds the placeholder {{{variable}}}", (
        "leave it out: each task has a working copy of its own, so one name serves all of them"
    )


def _check_apart(problems: Problems, where: str, what: str, paths: Sequence[str]) -> None:
    """No path twice, and none both a file and a folder."""
    seen: set[str] = set()
    for path in paths:
        if path in seen:
            problems.add(where, f"two {what}s are {path!r}", "name each path once")
        seen.add(path)
    for path in sorted(seen):
        inside = next((other for other in sorted(seen) if other != path and other.startswith(path + "/")), None)
        if inside and not path.endswith("/") and not is_glob(path):
            problems.add(where, f"{path!r} would be a file and, for {inside!r}, a folder", "rename one of them")


def _for_each(problems: Problems, where: str, table: StepTable, steps: Sequence[str]) -> ForEach | None:
    most = table.max_parallel
    if table.for_each is None:
        if most is not None:
            problems.add(where, "`max_parallel` without `for_each`", "it limits the tasks of a fan-out")
        return None
    at, entries = f"{where}.for_each", dict(table.for_each)
    if "max_parallel" in entries:
        inner = entries.pop("max_parallel")
        if isinstance(inner, bool) or not isinstance(inner, int) or inner < 1:
            problems.add(at, f"max_parallel = {inner!r} is not a whole number above 0", "write max_parallel = 4")
        elif most is not None and most != inner:
            problems.add(at, f"max_parallel is {inner} here and {most} on the step", "say it once")
        else:
            most = inner
    if len(entries) != 1:
        problems.add(
            at,
            f"has {'no variable' if not entries else 'the variables ' + listed(entries)}",
            'write one: for_each = { part = "clean/parts/*.csv" } or { region = ["north", "south"] }',
        )
        return None
    variable, given = next(iter(entries.items()))
    if not _VARIABLE.fullmatch(variable):
        problems.add(at, f"{variable!r} is no name for a variable", "use letters, digits and `_`")
        return None
    if isinstance(given, list):
        return ForEach(variable, values=_values(problems, at, variable, given), max_parallel=most)  # pyright: ignore[reportUnknownArgumentType]
    if not isinstance(given, str):
        problems.add(at, f"{variable} = {given!r} is neither a glob nor a list of values")
        return None
    wrong = pattern_problem(given)
    if scheme(given) or is_query(given):
        wrong = "a fan-out cannot be over a URL or a query", "give a list of values"
    if wrong is None and given.endswith("/"):
        wrong = f"{given!r} is a folder", f"say which of its files: {given}*"
    if wrong:
        problems.add(at, wrong[0], wrong[1])
        return None
    return ForEach(variable, source=by_form(given, steps), max_parallel=most)


def _values(problems: Problems, at: str, variable: str, given: Sequence[Any]) -> tuple[str, ...]:
    if len(given) > _MOST_TASKS:
        problems.add(at, f"has {len(given)} values", f"a fan-out has at most {_MOST_TASKS} tasks: give each a range")
        return ()
    found: list[str] = []
    for value in given:
        try:
            text = parameter_text(variable, value)
        except Invalid:
            problems.add(at, f"{value!r} is no value of {variable}", "give texts, numbers or true/false")
            continue
        if "\0" in text:
            problems.add(at, f"{text!r} holds a NUL character, which no program can be given")
        found.append(text)
    return tuple(found)
