"""GPUs are given out whole, each to one attempt, and only to those that it is enough for."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from groundplane.agent import gpus
from groundplane.agent.capacity import Capacity, Room
from groundplane.agent.gpus import GpuPool
from groundplane.model.gpus import GpuKind, Gpus
from groundplane.model.resources import Resources
from tests.nvml import host

GIB = 1024**3
BIG = GpuKind(memory=40 * GIB)


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    """A folder like /dev with two GPUs."""
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    return tmp_path


def pool(dev: Path, name: str) -> GpuPool:
    return GpuPool(str(dev), lambda: host(name))


def broken() -> Gpus:
    raise OSError("libnvidia-ml.so.1: cannot open shared object file")


def test_without_a_node_nobody_is_asked(tmp_path: Path) -> None:
    def read() -> Gpus:
        raise AssertionError("it was read")

    before = threading.active_count()
    found = GpuPool(str(tmp_path), read)
    assert threading.active_count() == before
    assert (found.count, found.found, found.why) == (0, Gpus(), "")
    assert found.never(1, None) == "0"


def test_each_is_given_once(dev: Path) -> None:
    found = pool(dev, "a100x2_535")
    assert found.take(1, None) == [0]
    assert found.take(2, None) is None
    assert found.take(1, None) == [1]
    found.give_back([0])
    assert found.take(1, BIG) == [0]


def test_the_smallest_that_is_enough_is_given(dev: Path) -> None:
    """The T4 is /dev/nvidia0 and the second on the bus."""
    found = pool(dev, "t4_a100_535")
    assert found.take(1, None) == [0]
    assert found.take(1, BIG) == [1]
    found.give_back([1])
    found.give_back([0])
    assert found.take(1, BIG) == [1]
    assert found.take(1, BIG) is None, "the T4 has 15 GiB"
    assert found.take(1, None) == [0]


def test_what_can_never_be_given_is_refused_with_numbers(dev: Path) -> None:
    found = pool(dev, "t4_a100_535")
    assert found.never(1, BIG) == ""
    told = found.never(2, BIG)
    assert "GPU 0 NVIDIA A100-SXM4-80GB, 80.0 GiB" in told
    assert "GPU 1 Tesla T4, 14.8 GiB, compute capability 7.5 (has 14.8 GiB)" in told
    assert found.never(3, None) == "2"
    assert found.never(1, GpuKind(toolkits=("12.4",))) == ""


def test_a_device_without_code_in_the_image_is_not_given(dev: Path) -> None:
    found = pool(dev, "k80_a100_470")
    assert found.take(1, GpuKind(toolkits=("12.1",))) == [1], "the K80 would be smaller"
    assert found.take(1, GpuKind(toolkits=("11.8",))) == [0]


def test_the_capacity_refuses_gives_and_promises(dev: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    capacity = Capacity()
    capacity.gpus = pool(dev, "t4_a100_535")
    capacity.free_cpus = 8.0
    refused = capacity.never(Resources(gpus=2, gpu_kind=BIG))
    assert refused is not None
    assert refused.code == "does_not_fit"
    assert refused.message.startswith("it asks for 2 GPUs with 40.0 GiB each; this host has GPU 0 NVIDIA A100")
    big, small = Resources(gpus=1, gpu_kind=BIG), Resources(gpus=1)
    assert capacity.take(big) == [1]
    before = capacity.free_cpus
    assert capacity.take(big) is None
    assert capacity.free_cpus == before, "what was not given is not taken"
    room = capacity.room()
    assert not room.fits(big)
    assert room.fits(small), "it waits for another device"
    assert not room.fits(small)


def test_who_waits_for_two_is_not_overtaken(dev: Path) -> None:
    found = pool(dev, "a100x2_535")
    assert found.take(1, None) == [0]
    room = Room(8, 100, found)
    assert not room.fits(Resources(gpus=2))
    assert not room.fits(Resources(gpus=1))
    assert room.fits(Resources())


def test_where_nothing_is_told_the_nodes_are_counted(dev: Path) -> None:
    found = GpuPool(str(dev), broken)
    assert (found.count, found.found, found.why) == (2, None, "libnvidia-ml.so.1: cannot open shared object file")
    assert found.take(2, BIG) == [0, 1]
    assert found.visible([1]) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "1"}


def test_in_a_container_the_first_node_is_cudas_first_device(tmp_path: Path) -> None:
    (tmp_path / "nvidia3").touch()
    assert GpuPool(str(tmp_path), broken).visible([3])["CUDA_VISIBLE_DEVICES"] == "0"


def test_a_driver_that_hangs_is_waited_for_once(dev: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "_PATIENCE", 0.05)
    go_on = threading.Event()

    def read() -> Gpus:
        go_on.wait(20)
        return host("a100x2_535")

    found = GpuPool(str(dev), read)
    assert (found.count, found.why) == (2, "NVML has not answered")
    go_on.set()
    assert found.found is None, "what tasks were given by stays as it is"


def test_devices_are_named_by_their_place_on_the_bus(dev: Path) -> None:
    found = pool(dev, "t4_a100_535")
    assert found.visible([0])["CUDA_VISIBLE_DEVICES"] == "1"
    assert found.visible([0, 1])["CUDA_VISIBLE_DEVICES"] == "1,0"


@pytest.mark.parametrize("name", ["a100_mig_535", "a100_lost_535"])
def test_where_cuda_may_count_otherwise_a_device_is_named_by_its_uuid(dev: Path, name: str) -> None:
    assert pool(dev, name).visible([0])["CUDA_VISIBLE_DEVICES"] == "GPU-aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa"


def test_a_divided_device_is_not_given_to_who_asks_for_memory(dev: Path) -> None:
    found = pool(dev, "a100_mig_535")
    assert found.take(1, BIG) == [1]
    assert found.take(1, BIG) is None
    assert found.take(1, None) == [0]


def test_what_an_inherited_attempt_has_is_not_given_again(dev: Path) -> None:
    found = pool(dev, "a100x2_535")
    found.hold([0])
    assert found.free == [1]
    found.give_back([0])
    assert found.free == [0, 1]
    found.hold([1])
    assert found.free == [0]
    found.give_back([1, 7])
    assert found.free == [0, 1], "a device that is gone does not come back"


def test_a_wsl_has_gpus_without_nodes(tmp_path: Path) -> None:
    (tmp_path / "dxg").touch()
    found = pool(tmp_path, "wsl_560")
    assert found.take(1, None) == [0]
    assert found.visible([0])["CUDA_VISIBLE_DEVICES"] == "0"
