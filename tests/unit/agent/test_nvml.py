"""Reading the GPUs: constructed answers by the real library's path, and C's conventions by a compiled stand-in."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from groundplane.agent import nvml
from groundplane.model.gpus import Device
from tests.nvml import HOSTS, Library, host

GIB = 1024**3

STAND_IN = r"""
/* A stand-in for NVIDIA's library: it has one device, which does not exist. */
#include <string.h>
typedef struct { int here; } device;
typedef struct { unsigned long long total, free, used; } memory;
static device one = { 1 };
static int opened = 0;
int nvmlInit_v2(void) { opened++; return 0; }
int nvmlShutdown(void) { opened--; return 0; }
int opened_now(void) { return opened; }
int nvmlSystemGetDriverVersion(char *text, unsigned int size) { if (size < 80) return 7; strcpy(text, "535.161.08"); return 0; }
int nvmlSystemGetCudaDriverVersion(int *version) { *version = 12020; return 0; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, device **found) { if (index) return 2; *found = &one; return 0; }
int nvmlDeviceGetName(device *it, char *text, unsigned int size) { if (it != &one || size < 96) return 2; strcpy(text, "Stand-in"); return 0; }
int nvmlDeviceGetUUID(device *it, char *text, unsigned int size) { if (it != &one || size < 96) return 2; strcpy(text, "GPU-stand-in"); return 0; }
int nvmlDeviceGetMemoryInfo(device *it, memory *m) { if (it != &one) return 2; m->total = 85899345920ull; m->free = 1; m->used = 2; return 0; }
int nvmlDeviceGetCudaComputeCapability(device *it, int *major, int *minor) { if (it != &one) return 2; *major = 8; *minor = 9; return 0; }
int nvmlDeviceGetMinorNumber(device *it, unsigned int *number) { if (it != &one) return 2; *number = 3; return 0; }
int nvmlDeviceGetBrand(device *it, unsigned int *brand) { if (it != &one) return 2; *brand = 14; return 0; }
"""  # noqa: E501


@pytest.mark.parametrize("name", [name for name in HOSTS if name != "mismatch"])
def test_a_host_is_read_and_the_library_let_go(name: str) -> None:
    library = Library(name)
    found = nvml.read(lambda path: library)
    assert library.open == 0
    assert found.driver == library.answers["nvmlSystemGetDriverVersion"]
    assert len(found.devices) + len(found.unread) == len(library.answers["devices"])
    assert all(device.uuid.startswith("GPU-") and device.capability for device in found.devices)


def test_every_field_of_a_device() -> None:
    found = host("t4_470")
    uuid = "GPU-cccccccc-cccc-cccc-cccc-cccccccccccc"
    assert found.devices == (Device(0, uuid, "Tesla T4", 15109 * 1024**2, "7.5", "nvidia", 0, mig=False),)
    assert (found.driver, found.cuda) == ("470.256.02", "11.4")
    assert host("rtx4090_560").devices[0].brand == "geforce"
    assert [device.mig for device in host("a100_mig_535").devices] == [True, False]


def test_what_is_not_told_is_unknown() -> None:
    assert host("gb10_580").devices[0].memory is None
    assert host("wsl_560").devices[0].minor is None
    assert host("wsl_560").devices[0].number == 0


def test_a_lost_device_hides_no_other() -> None:
    found = host("a100_lost_535")
    assert [device.index for device in found.devices] == [0]
    (told,) = found.unread
    assert told.startswith("GPU 1: nvmlDeviceGetHandleByIndex_v2: the GPU has fallen off the bus")


def test_a_driver_that_was_updated_under_its_library_says_so() -> None:
    with pytest.raises(nvml.Unreadable, match="driver and library are of different versions: reboot"):
        host("mismatch")


def test_no_library() -> None:
    with pytest.raises(nvml.Unreadable, match="cannot be loaded"):
        nvml.read(lambda path: ctypes.CDLL("libgroundplane-no-such-library.so.1"))


def test_an_old_driver_without_a_function() -> None:
    library = Library("t4_470")
    del library.answers["nvmlSystemGetCudaDriverVersion"]
    with pytest.raises(nvml.Unreadable, match="no such function"):
        nvml.read(lambda path: library)
    assert library.open == 0


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not there to compile the stand-in")
def test_the_calls_keep_to_the_conventions_of_c(tmp_path: Path) -> None:
    source, made = tmp_path / "nvml.c", tmp_path / "libnvidia-ml.so.1"
    source.write_text(STAND_IN)
    subprocess.run(["gcc", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(made), str(source)], check=True)
    library = ctypes.CDLL(str(made))
    found = nvml.read(lambda path: library)
    assert found.devices == (Device(0, "GPU-stand-in", "Stand-in", 80 * GIB, "8.9", "nvidia", 3, mig=False),)
    assert (found.driver, found.cuda, library.opened_now()) == ("535.161.08", "12.2", 0)
