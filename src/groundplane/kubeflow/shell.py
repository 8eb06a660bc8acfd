"""A container component as a shell script: KFP's placeholders become the step's files and parameters."""

from __future__ import annotations

import json
import re
from typing import Any, cast

from groundplane.kubeflow import ir
from groundplane.kubeflow.ir import Body
from groundplane.kubeflow.tasks import Task, refused, run_variable

_PLACEHOLDER = re.compile(r"\{\{\$\.?(.*?)\}\}")
_NAMED = re.compile(r"(inputs|outputs)\.(parameters|artifacts)\['([^']+)'\](?:\.(\w+))?")

_PATH = "inputs.artifacts['{}'].path"

_HEAD = """#!/bin/sh
# The container of a KFP component, as the task {task}.
set -eu
mkdir -p out
item=
for word in "$@"; do case $word in --kfp-item=*) item=${{word#--kfp-item=}} ;; esac; done
"""

_MINE = """mine() { # the file of the folder $1 that was made for item number $2
  for file in "$1"*; do
    name=${file##*/}
    if [ "${name%%-*}" -eq "$2" ]; then printf %s "$PWD/$file"; return; fi
  done
}"""


_JSON = """json() { # the text $1 as it stands between quotes in JSON
  printf '%sx' "$1" | sed -e 's/\\\\/\\\\\\\\/g' -e 's/"/\\\\"/g' | sed -e ':a' -e 'N;$!ba' -e 's/\\n/\\\\n/g'
}"""

_LISTED = """listed() { # the artifacts that are the files of the folder $1
  between=
  for file in "$1"*; do
    printf '%s{"uri": "%s"}' "$between" "$PWD/$file"
    between=', '
  done
}"""


def shell_script(task: Task, plan: Body) -> str:
    """The step's script. plan: as kfp_step.py has it. Raises Invalid for what a shell cannot make."""
    return _Script(task, plan).text()


class _Script:
    def __init__(self, task: Task, plan: Body) -> None:
        self._task = task
        self._plan = plan
        self._lines: list[str] = []
        self._known: dict[str, str] = {}

    def text(self) -> str:
        container = self._task.container
        command: list[str] = container.get("command", [])
        if not command:
            raise refused(self._task.name, "a container that its image's own entry point starts", "give it a `command`")
        words = [word for each in (*command, *container.get("args", [])) for word in self._words(each)]
        body = "".join(f"{line}\n" for line in self._lines) + "exec " + " ".join(words) + "\n"
        head = _HEAD.format(task=self._task.name)
        if "$(mine " in body:
            head += f"{self._number()}{_MINE}\n"
        return head + body

    def _number(self) -> str:
        """Which item of the loop this is."""
        loop = self._task.loop
        if loop is None or loop.items is None:
            return "number=${item##*/}\n"
        cases = "".join(f"  {_quoted(item)}) number={at} ;;\n" for at, item in enumerate(loop.items))
        return f"case $item in\n{cases}esac\n"

    def _words(self, word: Any) -> list[str]:
        """A word of the command, which may be none or several where it asks whether there is an input."""
        if isinstance(word, str) and word.startswith(('{"Concat": ', '{"IfPresent": ')):
            word = json.loads(word)
        if isinstance(word, str):
            return [self._word(word)]
        if isinstance(word, list):
            return [each for part in cast(list[Any], word) for each in self._words(part)]
        body = cast(Body, word)
        if "Concat" in body:
            return ["".join(each for part in body["Concat"] for each in self._words(part))]
        asked = body["IfPresent"]
        there = asked["InputName"] in self._task.inputs
        chosen = asked.get("Then") if there else asked.get("Else")
        return [] if chosen is None else self._words(chosen)

    def _word(self, text: str) -> str:
        found, at = "", 0
        for hit in _PLACEHOLDER.finditer(text):
            found += _quoted(text[at : hit.start()]) if hit.start() > at else ""
            found += self._placeholder(hit[0], hit[1])
            at = hit.end()
        return (found + _quoted(text[at:]) if at < len(text) else found) or "''"

    def _placeholder(self, whole: str, inside: str) -> str:
        if whole == "{{$}}":
            return self._executor_input()
        if variable := run_variable(inside):
            return f'"${variable}"'
        named = _NAMED.fullmatch(inside)
        if named is None:
            raise refused(self._task.name, f"the placeholder {whole}")
        side, kind, name, what = named.groups()
        if side == "inputs" and kind == "parameters" and what is None:
            source: Body | None = self._plan["parameters"].get(name)
            return self._value(name, source) if source is not None else "''"
        if side == "outputs" and (kind, what) in (
            ("parameters", "output_file"),
            ("artifacts", "path"),
            ("artifacts", "uri"),
        ):
            return f'"$PWD"/{_quoted(f"out/{name}")}'
        if side == "inputs" and kind == "artifacts" and what in ("path", "uri"):
            about: Body | None = self._plan["artifacts"].get(name)
            if about is None:
                return "''"
            if about["many"] == "all":
                raise refused(self._task.name, f"the list of artifacts {name!r} in a command", "read it in a function")
            if about["many"] == "mine":
                return f'"$(mine {_quoted(about["file"])} "$number")"'
            return f'"$PWD"/{_quoted(about["file"])}'
        raise refused(self._task.name, f"the placeholder {whole}")

    def _executor_input(self) -> str:
        """All that KFP tells a component, as JSON."""
        if "input" in self._known:
            return '"$executor_input"'
        self._known["input"] = "executor_input"
        types = ir.inputs(self._task.component, "parameters")
        made = [_said('{"inputs": {"parameterValues": {')]
        for at, (name, source) in enumerate(self._plan["parameters"].items()):
            word, text = self._value(name, source), types[name]["parameterType"] == "STRING"
            made.append(_said(_key(at, name)))
            made.append(f'text=$(json {word}); printf \'"%s"\' "${{text%x}}"' if text else f"printf %s {word}")
        made.append(_said('}, "artifacts": {'))
        for at, (name, about) in enumerate(self._plan["artifacts"].items()):
            made.append(_said(_key(at, name) + '{"artifacts": ['))
            if about["many"] == "all":
                made.append(f"listed {_quoted(about['file'])}")
            else:
                made.append(f'printf \'{{"uri": "%s"}}\' {self._placeholder("", _PATH.format(name))}')
            made.append("printf ']}'")
        made.append(_said('}}, "outputs": {"parameters": {'))
        made += self._outputs("parameters_out", '{"outputFile": "%s"}')
        made.append(_said('}, "artifacts": {'))
        made += self._outputs("artifacts_out", '{"artifacts": [{"uri": "%s"}]}')
        made.append('printf \'}, "outputFile": "%s/executor_output.json"}}\' "$PWD"')
        self._lines += [_JSON, _LISTED, "executor_input=$(", *(f"  {line}" for line in made), ")"]
        return '"$executor_input"'

    def _outputs(self, kind: str, form: str) -> list[str]:
        return [
            f'printf {_quoted(_key(at, name) + form)} "$PWD"/{_quoted(f"out/{name}")}'
            for at, name in enumerate(self._plan[kind])
        ]

    def _value(self, name: str, source: Body) -> str:
        """A word that gives the parameter's text; what has to be read first is read into a variable."""
        if "constant" in source:
            constant = source["constant"]
            return _quoted(constant if isinstance(constant, str) else json.dumps(constant))
        if "parts" in source:
            parts: list[Any] = source["parts"]
            return (
                "".join(_quoted(each) if isinstance(each, str) else self._value(name, each) for each in parts) or "''"
            )
        if "run" in source:
            return f'"${source["run"]}"'
        if "parameter" in source:
            if source["required"]:
                told = f"the parameter {source['parameter']} has no value: give it with -p"
                return f'"${{{source["variable"]}:?{told}}}"'
            return f'"${source["variable"]}"'
        if "item" in source:
            return '"$item"'
        if "field" in source:
            return self._field(name, source)
        if source["many"] == "all":
            raise refused(self._task.name, f"the list {name!r} of a loop in a command", "read it in a function")
        path = f'"$(mine {_quoted(source["file"])} "$number")"' if source["many"] else _quoted(source["file"])
        return self._read(path)

    def _read(self, path: str) -> str:
        """The file's content with every newline at its end."""
        if path not in self._known:
            variable = self._known[path] = f"value_{len(self._known)}"
            self._lines.append(f"{variable}=$(cat {path}; echo x); {variable}=${{{variable}%x}}")
        return f'"${self._known[path]}"'

    def _field(self, name: str, source: Body) -> str:
        """A part of an item that is known: of what a step makes, a shell cannot take one."""
        loop = self._task.loop
        if "item" not in source["of"] or loop is None or loop.items is None:
            raise refused(self._task.name, f"a part of {name!r} in a command", "read it in a function")
        variable = self._known.setdefault(f"field {source['field']}", f"value_{len(self._known)}")
        cases = " ".join(
            f"{_quoted(item)}) {variable}={_quoted(_shown(json.loads(item)[source['field']]))} ;;"
            for item in loop.items
        )
        self._lines.append(f"case $item in {cases} esac")
        return f'"${variable}"'


def _said(text: str) -> str:
    return f"printf %s {_quoted(text)}"


def _key(at: int, name: str) -> str:
    """A key of a JSON object, the `at`-th."""
    return f"{', ' if at else ''}{json.dumps(name)}: "


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
