"""NVIDIA's rules: versions, drivers, devices, and the conditions of NVIDIA's images."""

from __future__ import annotations

import pytest

from groundplane.model import cuda
from groundplane.model.gpus import Device, GpuKind, facts, lacks
from tests.nvml import host


@pytest.mark.parametrize(
    ("driver", "highest", "wanted", "runs"),
    [
        ("535.161.08", "12.2", "12.2", True),
        ("535.161.08", "12.2", "12.4", True),  # minor-version compatibility
        ("535.161.08", "12.2", "11.8", True),  # a driver runs what is older
        ("535.161.08", "12.2", "13.0", False),
        ("470.256.02", "11.4", "11.8", True),
        ("470.256.02", "11.4", "12", False),
        ("470.256.02", "11.4", "12.4", False),
        ("450.51.06", "11.0", "11.8", False),  # before 450.80.02
        ("440.33.01", "10.2", "11.0", False),
        ("440.33.01", "10.2", "10.1", True),
        ("418.40.04", "10.1", "10.2", False),  # no minor-version compatibility before 11
        ("580.65.06", "13.0", "13.3", True),
        ("999.1", "14.0", "14.2", True),  # newer than the table: by what the driver says
        ("580.65.06", "13.0", "14.0", False),
        ("", "", "12.4", True),
        ("", "11.4", "12.4", False),
        ("535.161.08", "", "12.4", True),
    ],
)
def test_a_driver_and_a_cuda_version(driver: str, highest: str, wanted: str, runs: bool) -> None:
    assert cuda.driver_runs(driver, highest, wanted) is runs


def test_the_driver_to_install() -> None:
    assert (cuda.least_driver("12.4"), cuda.own_driver("12.4")) == ("525.60.13", "550.54.14")
    assert (cuda.least_driver("11"), cuda.least_driver("10.2"), cuda.least_driver("14.0")) == (
        "450.80.02",
        "440.33",
        "",
    )


def test_a_driver_is_never_older_for_a_newer_toolkit() -> None:
    found = [cuda.numbers(cuda.own_driver(f"{major}.{minor}")) for major in range(9, 14) for minor in range(10)]
    known = [driver for driver in found if driver]
    assert known == sorted(known)
    assert len(known) > 25


@pytest.mark.parametrize(
    ("capability", "wanted", "said"),
    [
        ("3.7", "11.8", ""),
        ("3.7", "12.0", "is Kepler, which CUDA 12.0 dropped"),
        ("3.0", "11.0", "is Kepler, which CUDA 11.0 dropped"),
        ("5.2", "12.9", ""),
        ("5.2", "13.0", "is Maxwell, which CUDA 13.0 dropped"),
        ("6.1", "13", "is Pascal, which CUDA 13.0 dropped"),
        ("7.0", "13.0", "is Volta, which CUDA 13.0 dropped"),
        ("7.5", "13.0", ""),
        ("8.0", "10.2", "is Ampere or Ada, which CUDA knows from 11.0 on"),
        ("8.9", "11.0", ""),  # what is compiled for 8.0 runs on 8.9
        ("9.0", "11.7", "is Hopper, which CUDA knows from 11.8 on"),
        ("9.0", "11.8", ""),
        ("9.0", "11", ""),  # some 11.x do
        ("10.0", "12.6", "is Blackwell, which CUDA knows from 12.8 on"),
        ("12.0", "12.8", ""),
        ("12.0", "12", ""),
        ("12.0", "11", "is Blackwell, which CUDA knows from 12.8 on"),
        ("11.0", "12.9", "is Thor, which CUDA knows from 13.0 on"),
        ("13.0", "12.4", ""),  # newer than the table
        ("", "12.4", ""),
    ],
)
def test_a_device_and_a_cuda_version(capability: str, wanted: str, said: str) -> None:
    assert cuda.device_lacks(capability, wanted) == said


CONDITION = (
    "cuda>=12.4 brand=tesla,driver>=470,driver<471 "
    "brand=geforce,driver>=470,driver<471 brand=tesla,driver>=535,driver<536"
)


@pytest.mark.parametrize(
    ("given", "holds"),
    [
        ({"cuda": "12.4", "driver": "550.54.15", "brand": "geforce"}, True),
        ({"cuda": "12.2", "driver": "535.161.08", "brand": "tesla"}, True),  # by forward compatibility
        ({"cuda": "12.2", "driver": "535.161.08", "brand": "geforce"}, False),
        ({"cuda": "11.4", "driver": "470.256.02", "brand": "geforce"}, True),
        ({"cuda": "12.1", "driver": "530.30.02", "brand": "tesla"}, False),
        ({}, True),  # nothing is known, so nothing speaks against it
    ],
)
def test_the_conditions_of_an_image(given: dict[str, str], holds: bool) -> None:
    assert cuda.condition_holds(CONDITION, given) is holds


@pytest.mark.parametrize(
    ("term", "holds"),
    [
        ("cuda=12", True),
        ("cuda!=12.0.0", False),
        ("cuda>12", False),
        ("cuda<=12", True),
        ("cuda<12.1", True),
        ("brand!=tesla", False),
        ("brand>tesla", False),
        ("arch>=8.0", True),
        ("arch<7", False),
        ("colour=red", False),
        ("cuda~12", False),
        ("nonsense", False),
    ],
)
def test_a_term_of_a_condition(term: str, holds: bool) -> None:
    known = {"cuda": "12.0", "driver": "525.60.13", "arch": "8.0", "brand": "tesla"}
    assert cuda.condition_holds(term, known) is holds


def test_what_a_device_lacks() -> None:
    gib = 1024**3
    (t4,) = host("t4_470").devices
    assert lacks(t4, None) == lacks(t4, GpuKind(memory=14 * gib, toolkits=("11.8",))) == ""
    assert lacks(t4, GpuKind(memory=16 * gib)) == "has 14.8 GiB"
    assert lacks(host("a100_mig_535").devices[0], GpuKind(memory=gib)).startswith("is divided by MIG")
    assert lacks(host("gb10_580").devices[0], GpuKind(memory=400 * gib)) == ""
    assert lacks(host("v100_580").devices[0], GpuKind(toolkits=("12.4", "13.0"))) == "is Volta, which CUDA 13.0 dropped"


def test_what_conditions_are_about() -> None:
    found = host("t4_470")
    assert facts(found, found.devices[0]) == {
        "cuda": "11.4",
        "driver": "470.256.02",
        "arch": "7.5",
        "brand": "nvidia",
    }
    assert Device(0, "", "X").shown == "GPU 0 X, memory not told"
