"""The GPUs of this machine, where it has any: told as NVIDIA's own program tells them, and each given to one task."""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.e2e.cli_ground import Ground
from tests.parts import require

SEES = """
import ctypes, os, time
cuda = ctypes.CDLL("libcuda.so.1")
count = ctypes.c_int()
if (code := cuda.cuInit(0)) == 100:  # CUDA_ERROR_NO_DEVICE
    print("none")
    raise SystemExit
assert code == 0, code
assert cuda.cuDeviceGetCount(ctypes.byref(count)) == 0
uuids = []
for number in range(count.value):
    uuid = (ctypes.c_ubyte * 16)()
    assert cuda.cuDeviceGetUuid_v2(uuid, number) == 0
    uuids.append(bytes(uuid).hex())
began = time.monotonic()
time.sleep(0.5)
print(began, time.monotonic(), *uuids)
"""


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    require("gpu")
    made = Ground(tmp_path)
    made.write("sees.py", SEES)
    yield made
    made.close()


def told(*fields: str) -> list[list[str]]:
    """What nvidia-smi says, a row a device."""
    asked = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    return [[field.strip() for field in row] for row in csv.reader(said.splitlines())]


def test_doctor_tells_each_device_as_nvidia_does(ground: Ground) -> None:
    findings = {each["name"]: each for each in ground.json("doctor", code=None)}
    for index, name, mebibytes, capability, driver in told(
        "index", "name", "memory.total", "compute_cap", "driver_version"
    ):
        found = findings[f"local GPU {index}"]
        size = f"{int(mebibytes) / 1024:.1f} GiB"
        assert found["level"] == "ok"
        assert found["message"].startswith(f"{name}, {size}, compute capability {capability}, driver {driver}, CUDA ")


def test_a_device_is_given_to_one_task_at_a_time_and_seen_alone(ground: Ground) -> None:
    devices = {row[0].removeprefix("GPU-").replace("-", "") for row in told("uuid")}
    items = ", ".join(f'"{number}"' for number in range(2 * len(devices) + 1))
    ground.write(
        "ground.toml",
        '[project]\nname = "gpus"\n[pipelines.p.steps.sees]\nrun = "sees.py"\n'
        f"for_each = {{ i = [{items}] }}\nresources = {{ gpus = 1 }}\n",
    )
    run = ground.json("run", "p", "--fresh")
    lines = [line.split() for line in ground("runs", "logs", run["id"]).stdout.splitlines()]
    assert {len(line) for line in lines} == {3}, "each sees one device"
    assert {line[2] for line in lines} <= devices
    for device in devices:
        times = sorted((float(begin), float(end)) for begin, end, uuid in lines if uuid == device)
        assert all(one[1] <= other[0] for one, other in pairwise(times)), times


def test_more_than_there_are_is_refused_with_what_there_is(ground: Ground) -> None:
    has = told("name", "driver_version")
    ground.write(
        "ground.toml",
        '[project]\nname = "gpus"\n[pipelines.p.steps.sees]\nrun = "sees.py"\n'
        f"resources = {{ gpus = {len(has) + 1} }}\n",
    )
    for command in ("plan", "run"):
        said = ground(command, "p", code=2).stderr
        assert f"it has {len(has)} (driver {has[0][1]}" in said
        assert has[0][0] in said


def test_a_script_alone_sees_what_the_shell_lets_it_see(ground: Ground) -> None:
    assert len(ground("run", "sees.py").stdout.split()) == 2 + len(told("uuid"))
    assert ground("run", "sees.py", CUDA_VISIBLE_DEVICES="").stdout == "none\n"
