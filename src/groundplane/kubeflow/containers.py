"""What a KFP component's container says: the function in it, its image and packages, its resources."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from groundplane.kubeflow.ir import Body
from groundplane.kubeflow.tasks import Task, refused

_KNOWN = {"image", "command", "args", "env", "resources"}
_PLAIN = re.compile(r"(?:docker\.io/)?(?:library/)?python:(\d+\.\d+)[\w.-]*")
_TAKES_VALUE = {"--index-url", "--extra-index-url", "--trusted-host"}
_OF_KFP = re.compile(r"(?:kfp|kfp-pipeline-spec|typing-extensions)\b")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a component runs in. packages: of Python's that it installs first."""

    image: str
    packages: tuple[str, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether any Python will do."""
        return not self.packages and _PLAIN.fullmatch(self.image) is not None

    def table(self) -> Body:
        """The environment in ground.toml."""
        python = _PLAIN.fullmatch(self.image)
        if self.packages and python:
            return {"toolchain": f"python@{python[1]}", "packages": list(self.packages)}
        return {"image": self.image}


def is_function(container: Body) -> bool:
    """Whether it is a Python function that the SDK put into a container."""
    return "--function_to_execute" in container.get("args", []) and any(
        "kfp.dsl.executor_main" in word for word in container.get("command", [])
    )


def function_of(task: Task) -> tuple[str, str]:
    """The function's name and the source that has it."""
    args, source = task.container["args"], str(task.container["command"][-1])
    name = str(args[args.index("--function_to_execute") + 1])
    if not re.search(rf"^def {re.escape(name)}\(", source, re.MULTILINE):
        raise refused(task.name, f"a component whose source is not in the file: {name}", "use a lightweight component")
    return name, source


def environment_of(task: Task) -> Wanted:
    """Its image, and the packages that it installs at its start."""
    image = str(task.container.get("image", ""))
    if "{{$" in image:
        raise refused(task.name, f"an image that an input names: {image}", "name the image")
    packages: list[str] = []
    command: list[str] = task.container.get("command", []) if is_function(task.container) else []
    for word in command:
        if "pip install" in word:
            packages += _packages(task, word)
    wanted = Wanted(image, tuple(dict.fromkeys(packages)))
    if wanted.packages and not _PLAIN.fullmatch(image):
        raise refused(
            task.name,
            f"packages ({', '.join(wanted.packages)}) that are installed into the image {image} at its start",
            "build them into an image",
        )
    return wanted


def _packages(task: Task, script: str) -> list[str]:
    found: list[str] = []
    for line in re.findall(r"pip install ([^\n]*?)(?:&&|$)", script, re.MULTILINE):
        words = shlex.split(line)
        while words:
            word = words.pop(0)
            if word in _TAKES_VALUE:
                raise refused(task.name, f"an index of packages of its own ({word})", "build an image")
            if not word.startswith("-") and not _OF_KFP.match(word):
                found.append(word)
    return found


def check_container(task: Task) -> None:
    """Raises Invalid for what a step has no word for."""
    strange = sorted(key for key, value in task.container.items() if key not in _KNOWN and value)
    if strange:
        raise refused(task.name, f"what its container says of {', '.join(strange)}")
    for entry in task.container.get("env", []):
        if "{{$" in str(entry.get("value", "")):
            raise refused(task.name, f"the variable {entry['name']!r}, which an input gives", "pass it as a parameter")
        if str(entry["name"]).startswith("GROUND_"):
            raise refused(task.name, f"the variable {entry['name']!r}: such names are Groundplane's own")


def resources_of(task: Task) -> Body:
    """cpus, memory and gpus."""
    asked: Body = task.container.get("resources", {})
    found: Body = {}
    if any("{{$" in str(value) for value in (*asked.values(), *asked.get("accelerator", {}).values())):
        raise refused(task.name, "resources that an input gives", "write the numbers")
    cpu = asked.get("resourceCpuLimit") or asked.get("cpuLimit")
    if cpu:
        text = str(cpu)
        found["cpus"] = float(text[:-1]) / 1000 if text.endswith("m") else float(text)
    memory = asked.get("resourceMemoryLimit")
    if memory or asked.get("memoryLimit"):
        found["memory"] = _bytes(task, str(memory)) if memory else round(float(asked["memoryLimit"]) * 1e9)
    accelerator: Body = asked.get("accelerator", {})
    if accelerator:
        kind = str(accelerator.get("resourceType") or accelerator.get("type", ""))
        if kind != "nvidia.com/gpu" and "nvidia" not in kind.lower():
            raise refused(task.name, f"the accelerator {kind}", "use nvidia.com/gpu")
        found["gpus"] = int(accelerator.get("resourceCount") or accelerator.get("count") or 0)
    return found


def _bytes(task: Task, quantity: str) -> int:
    """A quantity of Kubernetes: `2Gi` is 2 * 1024**3, and `2G` is 2 * 1000**3."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(?:([kKMGTPE])(i?))?", quantity)
    if found is None:
        raise refused(task.name, f"the memory limit {quantity!r}", "write it like 2Gi")
    power = "KMGTPE".index(found[2].upper()) + 1 if found[2] else 0
    return round(float(found[1]) * (1024 if found[3] else 1000) ** power)
