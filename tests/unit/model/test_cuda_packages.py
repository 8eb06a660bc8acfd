"""What the packages of a lock say of CUDA."""

from __future__ import annotations

import pytest

from groundplane.model.cuda_packages import Need, Needs, needs, variables
from groundplane.model.locks import Attested, Base, Deb, File, Lock, Native, Upstream


def lock(*wheels: str, debs: tuple[str, ...] = (), kind: str = "pylock", upstream: Upstream | None = None) -> Lock:
    """A lock of `name version` each."""
    files = tuple(File(name, version, "", "", "", 0) for name, version in map(str.split, wheels))
    packages = tuple(Deb(name, version, "amd64", "", 0, "") for name, version in map(str.split, debs))
    return Lock(
        *("x" * 7),
        base=None if upstream else Base("trixie", "amd64", 0),
        packages=packages,
        native=Native(kind, "", "", files) if wheels else None,
        upstream=upstream,
    )


@pytest.mark.parametrize(
    ("wheels", "found"),
    [
        (["torch 2.4.1+cu124"], [("torch 2.4.1+cu124", "12.4")]),
        (["torch 2.4.1", "nvidia-cuda-runtime-cu12 12.1.105", "nvidia-cublas-cu12 12.1.3.1"],
         [("nvidia-cuda-runtime-cu12 12.1.105", "12.1")]),
        (["torch 2.4.1+cu124", "nvidia-cuda-runtime-cu12 12.4.127"], [("torch 2.4.1+cu124", "12.4")]),
        (["torch 2.9.0+cu130", "nvidia-cuda-runtime 13.0.48"], [("torch 2.9.0+cu130", "13.0")]),
        (["torch 1.7.1+cu92"], [("torch 1.7.1+cu92", "9.2")]),
        (["torch 1.9.0+cu102"], [("torch 1.9.0+cu102", "10.2")]),
        (["jaxlib 0.4.13+cuda12.cudnn89"], [("jaxlib 0.4.13+cuda12.cudnn89", "12")]),
        (["jaxlib 0.4.30", "jax-cuda12-plugin 0.4.30", "jax-cuda12-pjrt 0.4.30"], [("jax-cuda12-pjrt 0.4.30", "12")]),
        (["cupy-cuda12x 13.3.0"], [("cupy-cuda12x 13.3.0", "12")]),
        (["cupy_cuda110 9.0.0"], [("cupy_cuda110 9.0.0", "11.0")]),
        (["cudf-cu12 24.8.3"], [("cudf-cu12 24.8.3", "12")]),
        (["tensorflow 2.17.0", "nvidia-cuda-runtime-cu12 12.3.101"], [("nvidia-cuda-runtime-cu12 12.3.101", "12.3")]),
        (["nvidia-cublas-cu12 12.4.5.8"], [("nvidia-cublas-cu12 12.4.5.8", "12")]),
        (["torch 2.1.0+cu118", "cupy-cuda12x 13.3.0"],
         [("torch 2.1.0+cu118", "11.8"), ("cupy-cuda12x 13.3.0", "12")]),
        (["xgboost 2.1.1", "nvidia-nccl-cu12 2.22.3"], []),  # it does without
        (["torch 2.4.1"], []),  # of which index it came is not written
        (["numpy 2.1.0"], []),
    ],
)  # fmt: skip
def test_wheels(wheels: list[str], found: list[tuple[str, str]]) -> None:
    told = needs(lock(*wheels))
    assert told.cuda == tuple(Need(*each) for each in found)
    assert (told.cpu, told.known) == ((), True)


@pytest.mark.parametrize(
    ("deb", "cuda"),
    [
        ("libcudart12 12.4.127~12.4.1-2", "12.4"),
        ("libcudart11.0 11.8.89~11.8.0-5~deb12u1", "11.8"),
        ("nvidia-cuda-toolkit 1:12.4.131~12.4.1-2", "12.4"),
        ("cuda-cudart-12-4 12.4.127-1", "12.4"),
    ],
)
def test_debian_packages(deb: str, cuda: str) -> None:
    assert [need.cuda for need in needs(lock(debs=(deb, "curl 8.0"))).cuda] == [cuda]


@pytest.mark.parametrize(
    ("wheels", "package", "why"),
    [
        (["torch 2.4.1+cpu"], "torch 2.4.1+cpu", "is built for CPUs alone"),
        (["torch 2.4.1+rocm6.1"], "torch 2.4.1+rocm6.1", "is built for AMD's ROCm"),
        (["tensorflow-cpu 2.17.0"], "tensorflow-cpu 2.17.0", "is built for CPUs alone"),
        (["tensorflow 2.17.0"], "tensorflow 2.17.0", "is locked without CUDA libraries"),
        (["jax 0.4.30", "jaxlib 0.4.30"], "jaxlib 0.4.30", "is locked without its CUDA plugin"),
    ],
)
def test_what_computes_on_the_cpu(wheels: list[str], package: str, why: str) -> None:
    (found,) = needs(lock(*wheels)).cpu
    assert (found.package, found.why) == (package, why)
    assert found.hint


def test_debians_torch() -> None:
    assert [each.package for each in needs(lock(debs=("python3-torch 2.6.0",))).cpu] == ["python3-torch 2.6.0"]
    both = lock(debs=("python3-torch 2.6.0", "python3-torch-cuda 2.6.0", "libcudart12 12.4.127-1"))
    assert needs(both).cpu == ()


def test_rs_torch_is_another_torch() -> None:
    assert needs(lock("torch 0.13.0", kind="renv")) == Needs(known=True)


def test_nothing_is_known_without_a_list_of_packages() -> None:
    attested = Lock(*("x" * 7), attested=Attested("matlab.zip", "", 0))
    assert needs(None) == needs(attested) == needs(lock(upstream=Upstream("rocker/r-ver"))) == Needs()


def test_an_images_own_word() -> None:
    given = {
        "PATH": "/bin",
        "CUDA_VERSION": "12.4.1",
        "NVIDIA_REQUIRE_CUDA": "cuda>=12.4 brand=tesla,driver>=535,driver<536",
        "NVIDIA_VISIBLE_DEVICES": "all",
    }
    kept = variables(given)
    assert list(kept) == ["CUDA_VERSION", "NVIDIA_REQUIRE_CUDA"]
    found = needs(lock(upstream=Upstream("nvidia/cuda", cuda=kept)))
    assert found.cuda == (Need("the image (CUDA_VERSION)", "12.4"),)
    assert found.conditions == (given["NVIDIA_REQUIRE_CUDA"],)
    waived = Upstream("x", cuda={**kept, "NVIDIA_DISABLE_REQUIRE": "true"})
    assert needs(lock(upstream=waived)).conditions == ()
