"""NVML's answers, replayed through the code that reads the real library.

The files in nvml_answers/ are one host each, a function's answer by its name; `source` says which were recorded on a
machine and which are constructed from NVIDIA's documents. What a device lacks is answered as NVML does: `{"error": 3}`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from groundplane.agent import nvml
from groundplane.model.gpus import Gpus

ANSWERS = Path(__file__).parent / "nvml_answers"
HOSTS = sorted(path.stem for path in ANSWERS.glob("*.json"))


def host(name: str) -> Gpus:
    """What the agent reads on that host."""
    return nvml.read(lambda path: Library(name))


class Library:
    """Answers calls as `ctypes.CDLL("libnvidia-ml.so.1")` would: an error code, results through pointers."""

    def __init__(self, name: str) -> None:
        self.answers: dict[str, Any] = json.loads((ANSWERS / f"{name}.json").read_text())
        self.open = 0

    def __getattr__(self, name: str) -> Callable[..., int]:
        if name == "nvmlInit_v2":
            return self._init
        if name == "nvmlShutdown":
            return self._shutdown
        if name == "nvmlDeviceGetCount_v2":
            return lambda count: self._give(len(self.answers["devices"]), count)
        if name == "nvmlDeviceGetHandleByIndex_v2":
            return self._handle
        if name.startswith("nvmlDeviceGet"):
            return lambda handle, *results: self._give(
                self.answers["devices"][handle.value - 1].get(name, {"error": 3}), *results
            )
        if name in self.answers:
            return lambda *results: self._give(self.answers[name], *results)
        raise AttributeError(name)

    def _init(self) -> int:
        error = self.answers.get("nvmlInit_v2", {}).get("error", 0)
        self.open += not error
        return error

    def _shutdown(self) -> int:
        self.open -= 1
        return 0

    def _handle(self, index: Any, handle: Any) -> int:
        answer = self.answers["devices"][index.value].get("nvmlDeviceGetHandleByIndex_v2", index.value + 1)
        return self._give(answer, handle)

    def _give(self, answer: Any, *results: Any) -> int:
        if isinstance(answer, dict):
            return answer["error"]
        if isinstance(answer, str):
            buffer, size = results
            assert len(answer) < size.value
            buffer.value = answer.encode()
            return 0
        for value, result in zip(answer if isinstance(answer, list) else [answer], results, strict=True):
            target = result._obj
            setattr(target, "total" if hasattr(target, "total") else "value", value)
        return 0
