"""Runs the function of a KFP component in a step, without KFP: `kfp.dsl` of its source is what stands here.

Copied beside the scripts of an imported pipeline. It needs Python 3.8 and nothing else. Inputs lie in `in/`, outputs go
to `out/`; a parameter's file holds text as it is and anything else as JSON, as KFP has it.
"""

from __future__ import annotations

import inspect
import json
import os
import shutil
import sys
import tarfile
import types
from collections.abc import Callable
from typing import Any, cast

_FOLDER = "groundplane.folder"


class Artifact:
    """A file or folder with metadata."""

    schema_title = "system.Artifact"
    schema_version = "0.0.1"

    def __init__(self, name: str | None = None, uri: str | None = None, metadata: dict[str, Any] | None = None) -> None:
        self.name = name or ""
        self.uri = uri or ""
        self.metadata = metadata or {}

    @property
    def path(self) -> str:
        return self.uri

    @path.setter
    def path(self, path: str) -> None:
        self.uri = path


class Dataset(Artifact):
    schema_title = "system.Dataset"


class Model(Artifact):
    schema_title = "system.Model"

    @property
    def framework(self) -> str:
        return self.metadata.get("framework", "")

    @framework.setter
    def framework(self, framework: str) -> None:
        self.metadata["framework"] = framework


class Metrics(Artifact):
    schema_title = "system.Metrics"

    def log_metric(self, metric: str, value: float) -> None:
        self.metadata[metric] = value


class ClassificationMetrics(Artifact):
    schema_title = "system.ClassificationMetrics"

    def log_roc_curve(self, fpr: list[float], tpr: list[float], threshold: list[float]) -> None:
        names = ("falsePositiveRate", "recall", "confidenceThreshold")
        self.metadata["confidenceMetrics"] = [dict(zip(names, point)) for point in zip(fpr, tpr, threshold)]

    def log_confusion_matrix(self, categories: list[str], matrix: list[list[int]]) -> None:
        self.metadata["confusionMatrix"] = {
            "annotationSpecs": [{"displayName": category} for category in categories],
            "rows": [{"row": row} for row in matrix],
        }


class HTML(Artifact):
    schema_title = "system.HTML"


class Markdown(Artifact):
    schema_title = "system.Markdown"


class _Annotation:
    """`Input[Dataset]`, `OutputPath(str)`: what the function says of an argument."""

    def __init__(self, kind: str, of: Any = None) -> None:
        self.kind = kind
        self.of = of

    def __call__(self) -> None:
        """typing takes only what can be called."""


class Input:
    def __class_getitem__(cls, of: Any) -> _Annotation:
        return _Annotation("input", of)


class Output:
    def __class_getitem__(cls, of: Any) -> _Annotation:
        return _Annotation("output", of)


def InputPath(of: Any = None) -> _Annotation:  # noqa: N802 - KFP's name
    return _Annotation("path", of)


def OutputPath(of: Any = None) -> _Annotation:  # noqa: N802 - KFP's name
    return _Annotation("path", of)


_CLASSES = (Artifact, Dataset, Model, Metrics, ClassificationMetrics, HTML, Markdown)
_PYTHON: dict[str, Any] = {
    "NUMBER_INTEGER": (int, float),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": bool,
    "LIST": list,
    "STRUCT": dict,
}
_BY_TITLE = {each.schema_title: each for each in _CLASSES}


def _as_modules() -> None:
    """`import kfp`, `from kfp.dsl import *` and the like find this."""
    names = {each.__name__: each for each in (*_CLASSES, Input, Output, InputPath, OutputPath)}
    made = {
        name: types.ModuleType(name) for name in ("kfp", "kfp.dsl", "kfp.dsl.types", "kfp.dsl.types.artifact_types")
    }
    for name, module in made.items():
        parent, _, own = name.rpartition(".")
        if parent:
            setattr(made[parent], own, module)
        if name != "kfp":
            module.__dict__.update(names, __all__=list(names))
        sys.modules[name] = module


_as_modules()


def run(function: Callable[..., Any], plan: dict[str, Any]) -> None:
    """Calls the component's function as KFP would, and leaves what it gives where the step declares it."""
    os.makedirs("out", exist_ok=True)
    item = _item()
    outputs = {name: _output(name, about) for name, about in plan["artifacts_out"].items()}
    given: dict[str, Any] = {}
    hints = function.__annotations__
    for name in inspect.signature(function).parameters:
        by_path = getattr(hints.get(name), "kind", "") == "path"
        if name in plan["parameters"]:
            found = value(plan["parameters"][name], item)
            if found is not None:
                given[name] = found
        elif name in plan["artifacts"]:
            read = _input(name, plan["artifacts"][name], item)
            given[name] = read.path if by_path and isinstance(read, Artifact) else read
        elif name in outputs:
            given[name] = outputs[name].path if by_path else outputs[name]
        elif name in plan["parameters_out"]:
            given[name] = os.path.abspath(os.path.join("out", name))
    returned = function(**given)
    for name, one in _returned(returned, hints.get("return"), plan).items():
        if name in plan["parameters_out"]:
            _write(os.path.join("out", name), _text(one, plan["parameters_out"][name]))
        elif isinstance(one, Artifact):
            outputs[name].metadata.update(one.metadata)
            if os.path.abspath(one.path) != outputs[name].path and os.path.exists(one.path):
                (shutil.copytree if os.path.isdir(one.path) else shutil.copy)(one.path, outputs[name].path)
        else:
            _write(outputs[name].path, str(one))
    for name, artifact in outputs.items():
        _leave(artifact, os.path.join("out", name), plan["artifacts_out"][name]["metadata"])


def split(plan: dict[str, Any]) -> None:
    """Leaves each value of a list as a file, for a fan-out to go over."""
    found = value(plan["list"], _item())
    if not isinstance(found, list):
        sys.exit(f"error: a loop goes over what is no list: {found!r}")
    os.makedirs("items", exist_ok=True)
    _write(os.path.join("items", "none"), "")  # a step that declares files has to leave one
    for index, one in enumerate(cast("list[Any]", found)):
        _write(os.path.join("items", f"{index:05d}"), _text(one, plan["type"]))


def value(source: dict[str, Any], item: str) -> Any:
    """What a parameter is: see importing.py for the forms. None: nothing, so the function's own default."""
    if "constant" in source:
        return source["constant"]
    if "parts" in source:
        return "".join(part if isinstance(part, str) else _shown(value(part, item)) for part in source["parts"])
    if "field" in source:
        found = value(source["of"], item)
        return (json.loads(found) if isinstance(found, str) else found)[source["field"]]
    if "run" in source:
        return os.environ.get(source["run"], "")
    if "parameter" in source:
        text = os.environ.get(source["variable"], "")
        if text == "" and source["required"]:
            sys.exit(f"error: the parameter {source['parameter']!r} has no value: give it with -p")
        return None if text == "" and source["optional"] else _parameter(source["parameter"], text, source["type"])
    if "item" in source:
        return _read(item, source["type"])
    if source["many"] == "all":
        return [_read(_content(path), source["type"]) for path in _joined(source["file"])]
    path = _mine(source, item) if source["many"] == "mine" else source["file"]
    return _read(_content(path), source["type"])


def _parameter(name: str, text: str, kind: str) -> Any:
    """What somebody gave with -p, who has to hear which parameter it is that cannot be read."""
    if kind in _PYTHON and not _is(text, kind):
        sys.exit(f"error: the parameter {name!r} has the type {kind} in KFP, and {text!r} is no value of it")
    return _read(text, kind)


def _is(text: str, kind: str) -> bool:
    try:
        told = json.loads(text.lower() if kind == "BOOLEAN" else text)
    except ValueError:
        return False
    if not isinstance(told, _PYTHON[kind]) or (isinstance(told, bool) and kind != "BOOLEAN"):
        return False
    return kind != "NUMBER_INTEGER" or told % 1 == 0


def _item() -> str:
    mark = "--kfp-item="
    return next((word[len(mark) :] for word in sys.argv[1:] if word.startswith(mark)), "")


def _shown(found: Any) -> str:
    return found if isinstance(found, str) else json.dumps(found)


def _content(path: str) -> str:
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(text)


def _read(text: str, kind: str) -> Any:
    if kind == "STRING":
        return text
    if kind == "BOOLEAN":
        return json.loads(text.lower())
    found = json.loads(text)
    if kind == "NUMBER_INTEGER":
        return int(found)
    return float(found) if kind == "NUMBER_DOUBLE" else found


def _text(found: Any, kind: str) -> str:
    if kind == "STRING":
        return _shown(found)
    return json.dumps(int(found) if kind == "NUMBER_INTEGER" else found)


def _index(folder: str) -> list[dict[str, Any]]:
    return json.loads(_content(folder + ".index.json"))


def _joined(folder: str) -> list[str]:
    """The files of a fan-out, in the order of its items."""
    return [os.path.join(folder, entry["file"]) for entry in _index(folder)]


def _mine(source: dict[str, Any], item: str) -> str:
    """The file that the other step of this loop left for the same item."""
    folder: str = source["file"]
    return next(os.path.join(folder, entry["file"]) for entry in _index(folder) if entry["item"] == item)


def _input(name: str, about: dict[str, Any], item: str) -> Any:
    kind = _BY_TITLE.get(about["title"], Artifact)
    if about["many"] == "all":
        paths = _joined(about["file"])
        told = _joined(about["metadata"]) if about["metadata"] else [""] * len(paths)
        return [_opened(kind(name, os.path.abspath(p)), m) for p, m in zip(paths, told)]
    path, metadata = about["file"], about["metadata"]
    if about["many"] == "mine":
        path = _mine(about, item)
        metadata = _mine({"file": metadata}, item) if metadata else ""
    return _opened(kind(name, os.path.abspath(path)), metadata)


def _opened(artifact: Artifact, metadata: str) -> Artifact:
    if metadata:
        artifact.metadata = json.loads(_content(metadata))
    if artifact.metadata.pop(_FOLDER, False):
        folder = artifact.path + ".folder"
        with tarfile.open(artifact.path) as tar:
            if hasattr(tarfile, "data_filter"):
                tar.extractall(folder, filter="data")
            else:
                tar.extractall(folder)  # noqa: S202 - a task before this one made it
        artifact.path = folder
    return artifact


def _output(name: str, about: dict[str, Any]) -> Artifact:
    return _BY_TITLE.get(about["title"], Artifact)(name, os.path.abspath(os.path.join("out", name)))


def _leave(artifact: Artifact, path: str, metadata: str) -> None:
    """One file and its metadata, whatever the function made of the artifact."""
    told = dict(artifact.metadata)
    if os.path.abspath(artifact.path) != os.path.abspath(path) and os.path.exists(artifact.path):
        (shutil.copytree if os.path.isdir(artifact.path) else shutil.copy)(artifact.path, path)
    if os.path.isdir(path):
        shutil.move(path, path + ".folder")
        with tarfile.open(path, "w") as tar:
            tar.add(path + ".folder", arcname=".")
        shutil.rmtree(path + ".folder")
        told[_FOLDER] = True
    if not os.path.exists(path):
        _write(path, "")
    _write(metadata, json.dumps(told, sort_keys=True))


def _returned(returned: Any, hint: Any, plan: dict[str, Any]) -> dict[str, Any]:
    if returned is None:
        return {}
    fields = getattr(hint, "_fields", None)
    if fields is None:
        return {"Output": returned}
    if len(fields) != len(returned):
        sys.exit(f"error: the function gave {len(returned)} values, and declares {len(fields)}")
    return dict(zip(fields, returned))
