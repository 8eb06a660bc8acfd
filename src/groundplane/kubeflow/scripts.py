"""One step's `run.sh`: see wrapper.py. Values that are known only when the pipeline runs are shell variables in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from groundplane.kubeflow import wrapper
from groundplane.kubeflow.names import input_name, parameter_name
from groundplane.kubeflow.parts import SUPPORT, Part, Start
from groundplane.kubeflow.refusals import output_of, refused
from groundplane.kubeflow.wrapper import Handed, Item, Packed, quoted
from groundplane.model.globs import fixed_folder, is_glob
from groundplane.model.pipelines import Input, SourceKind

_NASTY = "a'\"\\%&;<$ b"
_PLAIN = "A-Za-z0-9_.,:/@+ -"
"""Of a value that stands between quotes of a language's own, which a shell cannot double."""
_NUMBER = "0-9.eE+-"
_INDEX = ".index.json"


class Script:
    """produced: the steps that it needs. outputs: as declared -> artifact's name. packed, item: the names of one more
    with the files of those that are many, and of one that holds the fan-out's item; "" for none."""

    def __init__(
        self, part: Part, produced: Mapping[str, Part], outputs: Mapping[str, str], packed: str = "", item: str = ""
    ) -> None:
        self._part = part
        self._produced = produced
        self._outputs = outputs
        self._packed = packed
        self._marker_of_item = item
        fan = part.step.for_each
        self._item = (part.items or ("item",))[0] if fan else ""
        self._names = [
            name
            for name in part.step.parameters
            if not (fan and (name in fan.filled or (fan.values is not None and name == fan.variable)))
        ]

    def made(self, artifacts: Sequence[str]) -> tuple[str, list[str]]:
        """The script and the placeholders that are its arguments. artifacts: names of those that it reads, but
        lists."""
        arguments = ["{{$}}"]
        lines = ['cd "$ground/project"', "executor_input=$1", "value_support=$ground/support"]
        values = {name: f"P{index}" for index, name in enumerate(self._names)}
        for name, short in values.items():
            arguments.append(f"{{{{$.inputs.parameters['{parameter_name(name)}']}}}}")
            lines.append(f"value_{short.lower()}=${{{len(arguments)}}}")
        fan = self._part.step.for_each
        if fan is not None:
            arguments.append(f"{{{{$.inputs.parameters['{parameter_name(fan.variable)}']}}}}")
            lines.append(f"value_i=${{{len(arguments)}}}")
        found: dict[str, int] = {}
        for name in artifacts:
            arguments.append(f"{{{{$.inputs.artifacts['{name}'].path}}}}")
            found[name] = len(arguments)
        handed: list[Handed] = []
        for output, name in self._outputs.items():
            handed.append(Handed(name, output, len(arguments) + 1))
            arguments += _places(name)
        if self._packed:
            many = tuple(each.path for each in handed if each.many)
            handed.append(Packed(self._packed, "", len(arguments) + 1, paths=many))
            arguments += _places(self._packed)
        if self._marker_of_item:
            handed.append(Item(self._marker_of_item, "", len(arguments) + 1))
            arguments += _places(self._marker_of_item)
        start, guards = self._start(values)
        lines += [wrapper.LISTED, wrapper.LEFT, *guards]
        lines += [f"export {name}={quoted(text)}" for name, text in sorted(start.variables.items())]
        for entry in start.step.inputs:
            lines += self._brought(entry, found)
        lines += self._work(start)
        for each in handed:
            lines += each.lines()
        lines += wrapper.told(handed)
        return "\n".join(lines) + "\n", arguments

    def _work(self, start: Start) -> list[str]:
        command, lines = start.command, list[str]()
        for name, text in command.files.items():
            path = quoted(f"{SUPPORT}/{name}")
            lines += [f'mkdir -p "$(dirname {path})"', f"printf %s {quoted(text)} > {path}"]
        lines.append(" ".join(map(quoted, command.argv)) + " </dev/null || exit $?")
        if command.report:  # an engine that ends with 0 after an error names it there
            path = quoted(f"{SUPPORT}/{command.report}")
            lines.append(f"if grep -q 'error:' {path} 2>/dev/null; then cat {path} >&2; exit 1; fi")
        for inside, outside in command.collect.items():
            path = quoted(f"{SUPPORT}/{inside}")
            lines.append(f"if [ -e {path} ]; then mv {path} {quoted(outside)}; fi")
        return lines

    def _brought(self, entry: Input, found: Mapping[str, int]) -> list[str]:
        """Puts an input where the step reads it."""
        if entry.source.kind is SourceKind.PROJECT:
            lines = list[str]()
            placed = (self._part.placed or {}).get(entry.name)
            for path, name in placed if placed is not None else ((entry.name, entry.source.path),):
                if path != name.removeprefix("./"):
                    lines += [_folder(path), f"cp {quoted(name)} {quoted(path)}"]
            return lines
        producer = self._produced[entry.source.step]
        output = output_of(producer.step, entry.source.path)
        name = input_name(entry.source.step, output)
        if producer.items is not None:
            return self._joined(entry, producer, name)
        source, many = f'"${{{found[name]}}}"', output.endswith("/") or is_glob(output)
        if not many:
            return [_folder(entry.name), f"cp {source} {quoted(entry.name)}"]
        if not entry.name.endswith("/"):  # one file of many
            return [_folder(entry.name), f"cp {source}/{quoted(entry.source.path)} {quoted(entry.name)}"]
        inside = fixed_folder(output) if is_glob(output) else output
        return [_folder(entry.name), f"cp -R {source}/{quoted(inside)}. {quoted(entry.name)}"]

    def _joined(self, entry: Input, producer: Part, name: str) -> list[str]:
        """A fan-out's outputs as a folder, in the form that Groundplane's own backends give it."""
        items = producer.items or ()
        width = len(str(max(len(items) - 1, 0)))
        base = entry.source.path[len(fixed_folder(entry.source.path)) :]
        index = [{"index": at, "item": item, "file": f"{at:0{width}d}-{base}"} for at, item in enumerate(items)]
        text = json.dumps(index, ensure_ascii=False, indent=1) + "\n"
        target = quoted(f"{entry.name}{wrapper.value('N')}-{base}")
        return [
            _folder(entry.name + "x"),
            "number=0",
            f"each_path {name} | while IFS= read -r path; do",
            f'  value_n=$(printf %0{width}d "$number"); number=$((number + 1))',
            f"  {_folder(entry.name + wrapper.value('N') + '-' + base)}",
            f'  cp "$path" {target}',
            "done",
            f"printf %s {quoted(text)} > {quoted(entry.name + _INDEX)}",
        ]

    def _start(self, values: Mapping[str, str]) -> tuple[Start, list[str]]:
        """The task with shell variables for its parameters, and what a value may not hold."""
        given, guards = dict(self._part.step.parameters), list[str]()
        item = wrapper.value("I") if self._part.step.for_each else ""
        for name, short in values.items():
            marker, allowed = self._marker(name, wrapper.value(short))
            given[name] = marker
            if allowed:
                guards.append(_guard(f"value_{short.lower()}", name, allowed))
        fan = self._part.step.for_each
        if fan is not None:
            item = self._item_marker(given, item)
        start = self._part.start(given, item)
        markers = {text: wrapper.value(values[name]) for name, text in given.items() if name in values}
        markers[item] = wrapper.value("I")
        return _with(start, markers), guards

    def _marker(self, name: str, token: str) -> tuple[str, str]:
        """What to give as the parameter's value, and of which characters the real one must be ("" for any)."""
        before = self._part.step.parameters
        plain = self._rendered(before, self._item)
        for marker, allowed in ((token, ""), (_numeral(token), _NUMBER)):
            texts = self._rendered({**before, name: marker}, self._item)
            if [text.replace(marker, before[name]) for text in texts] != plain:
                continue
            if allowed:
                return marker, allowed
            nasty = self._rendered({**before, name: token + _NASTY}, self._item)
            verbatim = [text.replace(token + _NASTY, token) for text in nasty] == texts
            return marker, "" if verbatim else _PLAIN
        raise refused(
            self._part.step.name,
            f"the parameter {name!r}, which its engine gets in a form that depends on the value",
            "write it as a whole number or as a text without special characters",
        )

    def _item_marker(self, given: Mapping[str, str], token: str) -> str:
        """What to give as the item: the items are known, and what is made of each must be what they need."""
        for marker in (token, _numeral(token)):
            texts = self._rendered(given, marker)
            if all(
                self._rendered(given, item) == [text.replace(marker, item) for text in texts]
                for item in self._part.items or ()
            ):
                return marker
        raise refused(
            self._part.step.name,
            "the items of its fan-out, which its engine gets in a form that depends on each",
            "pass them in `args`",
        )

    def _rendered(self, parameters: Mapping[str, str], item: str) -> list[str]:
        command = self._part.start(parameters, item).command
        return [*command.argv, *command.files.values()]


def _places(artifact: str) -> list[str]:
    return [f"{{{{$.outputs.artifacts['{artifact}'].{what}}}}}" for what in ("path", "uri")]


def _with(start: Start, markers: Mapping[str, str]) -> Start:
    """Numerals that stand for a value become the shell variable, too."""
    from dataclasses import replace

    def swapped(text: str) -> str:
        for marker, token in markers.items():
            text = text.replace(marker, token) if marker else text
        return text

    command = start.command
    return Start(
        start.step,
        replace(
            command,
            argv=tuple(map(swapped, command.argv)),
            files={name: swapped(text) for name, text in command.files.items()},
        ),
        {name: swapped(text) for name, text in start.variables.items()},
    )


def _numeral(token: str) -> str:
    digits = "".join(letter for letter in token if letter.isdigit()) or "99999"  # the item has none
    return f"735{int(digits):05d}917"


def _guard(variable: str, name: str, allowed: str) -> str:
    message = quoted(f"error: the value of {name} may only be made of {allowed}: this engine gets it in a file")
    characters = allowed.replace(" ", "\\ ")
    return f'case "${variable}" in *[!{characters}]*) echo {message} >&2; exit 2;; esac'


def _folder(path: str) -> str:
    folder = path.rpartition("/")[0]
    return f"mkdir -p {quoted(folder)}" if folder else ":"
