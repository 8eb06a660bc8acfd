"""The GPUs of this host: found without slowing the start, given out whole, each to one attempt."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from groundplane.model.gpus import Device, GpuKind, Gpus, lacks

_NODE = re.compile(r"nvidia(\d+)")
_PATIENCE = 10.0  # seconds: a driver that sleeps needs a few, and one that hangs would hold the agent up for ever


def _read() -> Gpus:
    from groundplane.agent import nvml  # ctypes is dear, and most hosts have no GPU

    return nvml.read()


class GpuPool:
    """A GPU is known by the N of its /dev/nvidiaN. All but the reading is on the loop's thread.

    Where there are device nodes a thread reads NVML from the start on, so that nobody waits for it later. Without an
    answer the nodes are counted, and what they are is not known for this agent's life. folder: "" has none.
    """

    def __init__(self, folder: str = "/dev", read: Callable[[], Gpus] = _read) -> None:
        names = os.listdir(folder) if folder else []
        self._nodes = sorted(int(match[1]) for match in map(_NODE.fullmatch, names) if match)
        self._read = read
        self._answer: Gpus | str = "NVML has not answered"  # the thread's only gift
        self._thread: threading.Thread | None = None
        self._deadline = time.monotonic() + _PATIENCE
        self._held: set[int] = set()  # by attempts that a predecessor left, before it is known what there is
        self._found: Gpus | None = None
        self._why = ""
        self._devices: dict[int, Device | None] | None = None
        self._free: list[int] = []
        if self._nodes or "dxg" in names:  # dxg: a WSL, whose GPUs have no nodes of their own
            self._thread = threading.Thread(target=self._look, name="nvml", daemon=True)
            self._thread.start()
        else:
            self._devices, self._found = {}, Gpus()

    def _look(self) -> None:
        try:
            self._answer = self._read()
        except Exception as error:  # noqa: BLE001  whatever a foreign library does, work goes on without its word
            self._answer = str(error) or repr(error)

    def _settle(self) -> dict[int, Device | None]:
        """What there is; once asked for, it stays."""
        if self._devices is not None:
            return self._devices
        if self._thread is not None:
            self._thread.join(max(0.0, self._deadline - time.monotonic()))
        if isinstance(self._answer, Gpus):
            self._found = self._answer
            self._devices = {device.number: device for device in self._answer.devices}
        else:
            self._why = self._answer
            self._devices = dict.fromkeys(self._nodes)
        self._free = self._ordered(number for number in self._devices if number not in self._held)
        return self._devices

    def _ordered(self, numbers: Iterable[int]) -> list[int]:
        """The smallest first: who asks for little leaves the large ones to those who need them."""
        known = {number: device.memory or 0 for number, device in (self._devices or {}).items() if device}
        return sorted(numbers, key=lambda number: (known.get(number, 0), number))

    @property
    def count(self) -> int:
        return len(self._settle())

    @property
    def found(self) -> Gpus | None:
        """With their driver; None when it is not known (`why`)."""
        self._settle()
        return self._found

    @property
    def why(self) -> str:
        """Why nothing is known of the devices."""
        self._settle()
        return self._why

    @property
    def free(self) -> list[int]:
        self._settle()
        return self._free

    def never(self, count: int, kind: GpuKind | None) -> str:
        """Why so many of that kind can never be given: what this host has; "" when they can."""
        devices = self._settle()
        if count > len(devices):
            return f"{len(devices)}"
        if len(self.suitable(list(devices), kind)) >= count:
            return ""
        return "; ".join(
            f"{device.shown}{f' ({why})' if (why := lacks(device, kind)) else ''}"
            for device in devices.values()
            if device
        )

    def suitable(self, numbers: list[int], kind: GpuKind | None) -> list[int]:
        """Those of that kind, in their order. What is not known is."""
        if kind is None:
            return numbers
        devices = self._settle()
        return [n for n in numbers if (device := devices.get(n)) is None or not lacks(device, kind)]

    def take(self, count: int, kind: GpuKind | None) -> list[int] | None:
        """That many of that kind; None when they are not free."""
        given = self.suitable(self.free, kind)[:count]
        if len(given) < count:
            return None
        self._free = [number for number in self._free if number not in given]
        return given

    def hold(self, numbers: Sequence[int]) -> None:
        """An inherited attempt has them already."""
        self._held.update(numbers)
        self._free = [number for number in self._free if number not in self._held]

    def give_back(self, numbers: Sequence[int]) -> None:
        self._held.difference_update(numbers)
        devices = self._settle()
        self._free = self._ordered({*self._free, *(number for number in numbers if number in devices)})

    def visible(self, numbers: Sequence[int]) -> dict[str, str]:
        """The variables that show a process these GPUs alone.

        By number, in the order of the PCI bus that NVML counts in too: CUDA's own default order is another one, and
        programs in use (vLLM) read the list as numbers, so that UUIDs break them. Where the two countings may differ,
        because CUDA leaves a device out that NVML counts or cuts one up, the UUID names the right one.
        """
        devices = self._settle()
        found = self._found
        exact = found is None or (not found.unread and not any(device.mig for device in found.devices))
        places = {number: str(place) for place, number in enumerate(sorted(devices))}

        def name(number: int) -> str:
            device = devices.get(number)
            if device is None:  # inherited and gone since, or nothing is known: the order of the nodes
                return places.get(number, str(number))
            return str(device.index) if exact else device.uuid

        return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(map(name, numbers))}
