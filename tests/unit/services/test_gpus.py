"""A step that wants GPUs against hosts whose answers are constructed (tests/nvml.py)."""

from __future__ import annotations

import pytest

from groundplane.model.environments import Environment, Gpu
from groundplane.model.errors import Invalid
from groundplane.model.gpus import GpuKind, Gpus
from groundplane.model.locks import Lock, Upstream
from groundplane.model.pipelines import Step
from groundplane.model.resources import Resources
from groundplane.services import gpus
from groundplane.spi.driver import Health
from tests.nvml import host
from tests.unit.model.test_cuda_packages import lock

GIB = 1024**3


def environment(**gpu: object) -> Environment:
    return Environment("deep", toolchain="python", gpu=Gpu(**gpu) if gpu else None)  # pyright: ignore


def judged(where: str | Gpus | None, packages: Lock | None, count: int = 1, **gpu: object) -> list[str]:
    """What is said of a step with these packages on that host."""
    devices = host(where) if isinstance(where, str) else where
    chosen = {"train": (environment(**gpu), packages)}
    step = gpus.settled(Step("train", resources=Resources(gpus=count)), chosen)
    health = Health(True, "ready", gpus=len(devices.devices) if devices else 2, devices=devices)
    return gpus.judge(step, "local", health, *chosen["train"])


def refused(where: str, packages: Lock | None, count: int = 1, **gpu: object) -> Invalid:
    with pytest.raises(Invalid) as error:
        judged(where, packages, count, **gpu)
    assert error.value.code == "gpu_unsuitable"
    assert "'train'" in error.value.message
    assert error.value.hint
    return error.value


def test_what_suits_is_not_talked_about() -> None:
    assert judged("a100x2_535", lock("torch 2.4.1+cu121"), 2, memory=80 * GIB, cuda="12.2") == []
    assert judged("h100_570", lock("torch 2.7.0+cu128")) == []
    assert judged("rtx4090_560", lock("torch 2.1.0+cu118"), memory=24 * 10**9) == []


def test_a_driver_that_is_too_old_for_the_packages() -> None:
    error = refused("t4_470", lock("torch 2.4.1+cu124"))
    assert error.message == (
        "step 'train' asks for 1 GPU for CUDA 12.4 on backend 'local': torch 2.4.1+cu124 brings CUDA 12.4, which the "
        "driver does not run (driver 470.256.02, CUDA 11.4; GPU 0 Tesla T4, 14.8 GiB, compute capability 7.5)"
    )
    assert error.hint == (
        "install driver 525.60.13 or newer, or take a build of it for CUDA 11 or older, or choose another backend with "
        "--on (`ground backends list`)"
    )


def test_a_newer_minor_version_runs_and_its_limit_is_told() -> None:
    (warning,) = judged("a100x2_535", lock("torch 2.4.1+cu124"))
    assert "torch 2.4.1+cu124 brings CUDA 12.4" in warning
    assert "driver 535.161.08, CUDA 12.2" in warning
    assert "compiled from PTX while it runs needs driver 550.54.14" in warning


def test_the_least_cuda_that_is_asked_for_is_the_drivers_own() -> None:
    error = refused("a100x2_535", lock("torch 2.4.1+cu121"), cuda="12.4")
    assert "asks for CUDA 12.4, which the driver does not support" in error.message
    assert "install driver 550.54.14 or newer" in error.hint
    assert 'cuda = "12.2"' in error.hint
    assert judged("h100_550", lock("torch 2.4.1+cu121"), cuda="12.4") == []
    assert judged("h100_550", lock("torch 2.4.1+cu121"), cuda="12") == []


def test_a_device_with_too_little_memory() -> None:
    error = refused("t4_a100_535", lock("torch 2.4.1+cu121"), 2, memory=40 * GIB)
    assert "asks for 2 GPUs with 40.0 GiB each for CUDA 12.1" in error.message
    assert "of its 2 GPUs 1 would do" in error.message
    assert "GPU 0 NVIDIA A100-SXM4-80GB, 80.0 GiB, compute capability 8.0: would do" in error.message
    assert "GPU 1 Tesla T4, 14.8 GiB, compute capability 7.5: has 14.8 GiB" in error.message
    assert "ask for less memory (gpu.memory)" in error.hint
    assert judged("t4_a100_535", lock("torch 2.4.1+cu121"), 1, memory=40 * GIB) == []


@pytest.mark.parametrize(
    ("where", "wheel", "said"),
    [
        ("b200_580", "torch 2.4.1+cu124", "compute capability 10.0: is Blackwell, which CUDA knows from 12.8 on"),
        ("h100_550", "torch 1.13.1+cu117", "is Hopper, which CUDA knows from 11.8 on"),
        ("v100_580", "torch 2.9.0+cu130", "is Volta, which CUDA 13.0 dropped"),
        ("k80_a100_470", "torch 1.9.0+cu102", "is Ampere or Ada, which CUDA knows from 11.0 on"),
    ],
)
def test_a_device_that_the_packages_have_no_code_for(where: str, wheel: str, said: str) -> None:
    count = 2 if where == "k80_a100_470" else 1
    error = refused(where, lock(wheel), count)
    assert said in error.message
    assert f"take {wheel} in a build for another CUDA" in error.hint


@pytest.mark.parametrize("where", ["a100x2_535", "mismatch"])
def test_a_build_for_the_cpu_is_refused_wherever_it_would_run(where: str) -> None:
    devices = host(where) if where != "mismatch" else None
    with pytest.raises(Invalid) as error:
        judged(devices, lock("torch 2.4.1+cpu"))
    assert error.value.code == "gpu_unsuitable"
    assert "would compute on the CPU: torch 2.4.1+cpu is built for CPUs alone" in error.value.message
    assert "CUDA build of torch 2.4.1" in error.value.hint
    assert "gpus = 0" in error.value.hint


def test_a_cpu_build_beside_a_package_that_uses_gpus_is_told() -> None:
    (warning,) = judged("a100x2_535", lock("torch 2.4.1+cu121", "jaxlib 0.4.30"))
    assert "jaxlib 0.4.30 is locked without its CUDA plugin" in warning


def test_what_is_not_known_is_said() -> None:
    (packages,) = judged("a100x2_535", None)
    assert "which CUDA environment 'deep' needs is not known: nothing tells what is installed in it" in packages
    (none,) = judged("a100x2_535", lock("numpy 2.1.0"))
    assert "no package of it is known to bring CUDA" in none
    (devices,) = judged(None, lock("torch 2.4.1+cu124"))
    assert "backend 'local' does not tell which GPUs it has: whether they suit step 'train' is not known" in devices
    (memory,) = judged("gb10_580", lock("torch 2.9.0+cu130"), memory=100 * GIB)
    assert "does not tell the memory of GPU 0" in memory
    assert judged("a100x2_535", None, cuda="12.0") == []


def test_an_images_conditions_decide_for_each_device() -> None:
    condition = "cuda>=12.4 brand=nvidia,driver>=535,driver<536"
    image = lock(upstream=Upstream("nvidia/cuda", cuda={"CUDA_VERSION": "12.4.1", "NVIDIA_REQUIRE_CUDA": condition}))
    assert judged("a100x2_535", image) == [], "forward compatibility"
    error = refused("t4_470", image)
    assert "does not meet the image's condition 'cuda>=12.4'" in error.message


def test_the_steps_own_number_counts_then_its_environments() -> None:
    chosen = {"train": (environment(count=2, memory=GIB), lock("torch 2.4.1+cu124"))}

    def settled(count: int | None) -> Resources:
        return gpus.settled(Step("train", resources=Resources(gpus=count, cpus=3)), chosen).resources

    kind = GpuKind(GIB, ("12.4",))
    assert settled(None) == Resources(cpus=3, gpus=2, gpu_kind=kind)
    assert settled(1) == Resources(cpus=3, gpus=1, gpu_kind=kind)
    assert settled(0) == Resources(cpus=3, gpus=0)
    assert gpus.settled(Step("other"), chosen).resources == Resources(gpus=0)
    assert gpus.settled(Step("other", resources=Resources(gpus=1)), chosen).resources == Resources(gpus=1)
