"""The GPUs of a host, and what each of a task's GPUs must be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from groundplane.model.quantities import format_size


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU, as its driver tells. index: its place in the order of the PCI bus. minor: N of /dev/nvidiaN.

    memory: bytes in all, None where the driver does not tell. capability: compute capability, `8.0`. brand: `geforce`,
    `tesla`, …. mig: it is divided into parts (MIG).
    """

    index: int
    uuid: str
    name: str
    memory: int | None = None
    capability: str = ""
    brand: str = ""
    minor: int | None = None
    mig: bool = False

    @property
    def number(self) -> int:
        """What the agent calls it: the N of /dev/nvidiaN, which stays the same while the device is there."""
        return self.index if self.minor is None else self.minor

    @property
    def shown(self) -> str:
        """`GPU 0 Tesla T4, 15.0 GiB, compute capability 7.5`."""
        return f"GPU {self.index} {self.described}"

    @property
    def described(self) -> str:
        """The same without its number."""
        parts = [
            self.name,
            format_size(self.memory) if self.memory is not None else "memory not told",
            f"compute capability {self.capability}" if self.capability else "",
            "divided by MIG" if self.mig else "",
        ]
        return ", ".join(filter(None, parts))


@dataclass(frozen=True, slots=True)
class Gpus:
    """The GPUs of a host with their driver. cuda: the highest CUDA version that the driver supports.

    unread: devices that are there and do not answer, with why.
    """

    driver: str = ""
    cuda: str = ""
    devices: tuple[Device, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """`driver 535.161.08, CUDA 12.2`."""
        return f"driver {self.driver or 'not told'}, CUDA {self.cuda or 'not told'}"


@dataclass(frozen=True, slots=True)
class GpuKind:
    """What each GPU of a task must be. memory: bytes at least. toolkits: CUDA versions whose programs it must run."""

    memory: int | None = None
    toolkits: tuple[str, ...] = ()


def lacks(device: Device, kind: GpuKind | None) -> str:
    """Why the device is not of that kind: `has 15.0 GiB`; "" when it is. What is not told speaks against nothing."""
    if kind is None:
        return ""
    from groundplane.model import cuda  # the tables are for tasks with GPUs; this module is read at every start

    if kind.memory:
        if device.mig:
            return "is divided by MIG, and the size of its parts is not read"
        if device.memory is not None and device.memory < kind.memory:
            return f"has {format_size(device.memory)}"
    return next(filter(None, (cuda.device_lacks(device.capability, toolkit) for toolkit in kind.toolkits)), "")


def gpus_shown(count: int, kind: GpuKind | None) -> str:
    """`2 GPUs with 40.0 GiB each for CUDA 12.4`."""
    memory = f" with {format_size(kind.memory)}{' each' if count > 1 else ''}" if kind and kind.memory else ""
    toolkits = f" for CUDA {' and '.join(kind.toolkits)}" if kind and kind.toolkits else ""
    return f"{count} GPU{'s'[: count != 1]}{memory}{toolkits}"


def facts(host: Gpus, device: Device) -> Mapping[str, str]:
    """What an image's conditions are about."""
    return {"cuda": host.cuda, "driver": host.driver, "arch": device.capability, "brand": device.brand}
