"""Reads the GPUs from the driver's own library, NVML, by ctypes. It was run on an H100 and an H200 alone: other
devices are *untested*.

Its signatures are those of NVIDIA's NVML API Reference. `library` is what `ctypes.CDLL` gives, or whatever answers the
same calls: the tests replay recorded answers through it, and call a compiled stand-in for the conventions of C.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from groundplane.model.gpus import Device, Gpus

_PATHS = ("libnvidia-ml.so.1", "/usr/lib/wsl/lib/libnvidia-ml.so.1")
_TEXT = 96  # NVML_DEVICE_UUID_V2_BUFFER_SIZE, NVML_DEVICE_NAME_V2_BUFFER_SIZE; the driver's version needs 80
_ERRORS = {  # nvmlReturn_t
    1: "it was not initialised",
    3: "it is not supported",
    4: "permission was denied",
    6: "it was not found",
    9: "the NVIDIA driver is not loaded",
    10: "it has timed out",
    12: "a library of the driver was not found",
    15: "the GPU has fallen off the bus, or is lost otherwise",
    17: "the operating system has blocked it",
    18: "driver and library are of different versions: reboot, or load the new driver",
}
_BRANDS = (  # nvmlBrandType_t, as the conditions of NVIDIA's images call them
    "unknown",
    "quadro",
    "tesla",
    "nvs",
    "grid",
    "geforce",
    "titan",
    "nvidiavapps",
    "nvidiavpc",
    "nvidiavcs",
    "nvidiavws",
    "nvidiacloudgaming",
    "quadrortx",
    "nvidiartx",
    "nvidia",
    "geforcertx",
    "titanrtx",
)


class Unreadable(Exception):
    """NVML is not there or does not answer; the text says why."""


class _Memory(ctypes.Structure):
    """nvmlMemory_t."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def read(load: Callable[[str], Any] = ctypes.CDLL) -> Gpus:
    """The host's GPUs. Raises Unreadable. May take seconds where no program keeps the driver awake."""
    library = _loaded(load)
    _call(library, "nvmlInit_v2")
    try:
        driver = ctypes.create_string_buffer(_TEXT)
        _call(library, "nvmlSystemGetDriverVersion", driver, ctypes.c_uint(_TEXT))
        version, count = ctypes.c_int(), ctypes.c_uint()
        _call(library, "nvmlSystemGetCudaDriverVersion", ctypes.byref(version))
        _call(library, "nvmlDeviceGetCount_v2", ctypes.byref(count))
        devices: list[Device] = []
        unread: list[str] = []
        for index in range(count.value):
            try:
                devices.append(_device(library, index))
            except Unreadable as error:  # one that is lost must not hide the others
                unread.append(f"GPU {index}: {error}")
        cuda = f"{version.value // 1000}.{version.value % 1000 // 10}"
        return Gpus(_text(driver), cuda, tuple(devices), tuple(unread))
    finally:
        # An open library keeps the driver's module in use: nobody could update it under a running agent.
        library.nvmlShutdown()


def _loaded(load: Callable[[str], Any]) -> Any:
    problems: list[str] = []
    for path in _PATHS:
        try:
            return load(path)
        except OSError as error:
            problems.append(str(error))
    raise Unreadable(f"NVIDIA's management library cannot be loaded: {problems[0]}")


def _call(library: Any, name: str, *arguments: Any) -> None:
    try:
        function = getattr(library, name)
    except AttributeError:
        raise Unreadable(f"{name}: this driver has no such function") from None
    code = int(function(*arguments))
    if code:
        raise Unreadable(f"{name}: {_ERRORS.get(code, f'error {code}')}")


def _told(library: Any, name: str, *arguments: Any) -> bool:
    """Whether an answer came that not every device gives."""
    try:
        _call(library, name, *arguments)
    except Unreadable:
        return False
    return True


def _device(library: Any, index: int) -> Device:
    handle = ctypes.c_void_p()
    _call(library, "nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
    name, uuid = ctypes.create_string_buffer(_TEXT), ctypes.create_string_buffer(_TEXT)
    _call(library, "nvmlDeviceGetName", handle, name, ctypes.c_uint(_TEXT))
    _call(library, "nvmlDeviceGetUUID", handle, uuid, ctypes.c_uint(_TEXT))
    memory, major, minor = _Memory(), ctypes.c_int(), ctypes.c_int()
    node, brand, mig, pending = (ctypes.c_uint() for _ in range(4))
    known = _told(library, "nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory))
    capable = _told(library, "nvmlDeviceGetCudaComputeCapability", handle, ctypes.byref(major), ctypes.byref(minor))
    numbered = _told(library, "nvmlDeviceGetMinorNumber", handle, ctypes.byref(node))
    branded = _told(library, "nvmlDeviceGetBrand", handle, ctypes.byref(brand)) and brand.value < len(_BRANDS)
    divisible = _told(library, "nvmlDeviceGetMigMode", handle, ctypes.byref(mig), ctypes.byref(pending))
    return Device(
        index=index,
        uuid=_text(uuid),
        name=_text(name),
        memory=int(memory.total) if known else None,
        capability=f"{major.value}.{minor.value}" if capable else "",
        brand=_BRANDS[brand.value] if branded else "",
        minor=node.value if numbered else None,
        mig=divisible and mig.value == 1,
    )


def _text(buffer: Any) -> str:
    return bytes(buffer.value).decode(errors="replace")
