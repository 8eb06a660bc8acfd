"""Which CUDA an environment brings, by the packages in its lock. What they do not tell is unknown, never guessed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from groundplane.model.locks import Deb, File, Lock

_LOCAL = re.compile(r"cu(?:da)?(9|1\d)(\d+)?(?:\.|$)")  # torch 2.4.1+cu124, jaxlib 0.4.13+cuda12.cudnn89
_NAMED = re.compile(r"(?!nvidia-).+-(?:cu|cuda)(\d\d)(\d|x)?(?:-plugin|-pjrt)?")  # cupy-cuda12x, cudf-cu12
_RUNTIME = re.compile(r"nvidia-cuda-runtime(?:-cu\d\d)?")
_CUBLAS = re.compile(r"nvidia-cublas-cu(\d\d)")
_DEB = re.compile(r"libcudart\d+(?:\.\d+)?|nvidia-cuda-toolkit|cuda-cudart-\d+-\d+")
_VERSION = re.compile(r"(?:\d+:)?(\d+)\.(\d+)")
_VARIABLES = re.compile(r"CUDA_VERSION|NVIDIA_REQUIRE_\w+|NVIDIA_DISABLE_REQUIRE")


@dataclass(frozen=True, slots=True)
class Need:
    """A package that brings CUDA libraries, and of which version: `12.4`, or `12` where it tells no more."""

    package: str
    cuda: str


@dataclass(frozen=True, slots=True)
class Cpu:
    """A package that would compute on the CPU although others of its kind use GPUs. why: `is built for …`. hint: what
    to ask for instead."""

    package: str
    why: str
    hint: str


@dataclass(frozen=True, slots=True)
class Needs:
    """What a lock says. conditions: an image's own, for `cuda.condition_holds`; where it has some, they decide about
    the driver. known: whether the lock names everything that is installed."""

    cuda: tuple[Need, ...] = ()
    cpu: tuple[Cpu, ...] = ()
    conditions: tuple[str, ...] = ()
    known: bool = False


def needs(lock: Lock | None) -> Needs:
    """What the lock's packages bring; with no lock nothing is known."""
    if lock is None:
        return Needs()
    if lock.upstream is not None:
        return of_image(lock.upstream.cuda)
    wheels = lock.native.files if lock.native is not None and lock.native.kind == "pylock" else ()
    found = _least([*_of_wheels(wheels), *_of_debs(lock.packages)])
    return Needs(found, (*_cpu_wheels(wheels, found), *_cpu_debs(lock.packages)), known=lock.base is not None)


def variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Of an image's variables those that `of_image` reads."""
    return {name: value for name, value in sorted(environment.items()) if _VARIABLES.fullmatch(name)}


def of_image(environment: Mapping[str, str]) -> Needs:
    """What an image says of itself as NVIDIA's own do: `CUDA_VERSION`, and conditions in `NVIDIA_REQUIRE_…`."""
    version = _VERSION.match(environment.get("CUDA_VERSION", ""))
    found = (Need("the image (CUDA_VERSION)", f"{version[1]}.{version[2]}"),) if version else ()
    waived = environment.get("NVIDIA_DISABLE_REQUIRE", "").lower() in ("1", "true")
    conditions = tuple(value for name, value in environment.items() if name.startswith("NVIDIA_REQUIRE_") and value)
    return Needs(found, conditions=() if waived else conditions)


def _of_wheels(files: Iterable[File]) -> Iterable[Need]:
    for file in files:
        name, package = _normal(file.name), f"{file.name} {file.version}"
        local = file.version.partition("+")[2]
        if match := _LOCAL.search(local):
            yield Need(package, f"{match[1]}.{match[2]}" if match[2] else match[1])
        elif _RUNTIME.fullmatch(name) and (match := _VERSION.match(file.version)):
            yield Need(package, f"{match[1]}.{match[2]}")
        elif match := _CUBLAS.fullmatch(name):
            yield Need(package, match[1])
        elif match := _NAMED.fullmatch(name):
            minor = match[2] if match[2] and match[2] != "x" else ""
            yield Need(package, f"{match[1]}.{minor}" if minor else match[1])


def _of_debs(packages: Iterable[Deb]) -> Iterable[Need]:
    for deb in packages:
        if _DEB.fullmatch(deb.name) and (match := _VERSION.match(deb.version)):
            yield Need(f"{deb.name} {deb.version}", f"{match[1]}.{match[2]}")


def _least(found: Iterable[Need]) -> tuple[Need, ...]:
    """One for each version: a framework before the libraries that came with it, and `12` only where no `12.4` is."""
    by_version: dict[str, Need] = {}
    for need in sorted(found, key=lambda need: (need.package.startswith(("nvidia-", "lib", "cuda-")), need.package)):
        by_version.setdefault(need.cuda, need)
    majors = {version.partition(".")[0] for version in by_version if "." in version}
    return tuple(need for version, need in sorted(by_version.items()) if version not in majors)


def _cpu_wheels(files: Iterable[File], cuda: tuple[Need, ...]) -> Iterable[Cpu]:
    versions = {_normal(file.name): file.version for file in files}
    if torch := versions.get("torch"):
        public, _, local = torch.partition("+")
        hint = f"ask for a CUDA build of torch {public}, whose version ends in +cu…, from PyTorch's index of that CUDA"
        if local.startswith("cpu"):
            yield Cpu(f"torch {torch}", "is built for CPUs alone", hint)
        elif local.startswith(("rocm", "xpu")):
            maker = "AMD's ROCm" if local.startswith("rocm") else "Intel's GPUs"
            yield Cpu(f"torch {torch}", f"is built for {maker}", hint)
    if "tensorflow-cpu" in versions:
        hint = "ask for tensorflow[and-cuda] instead"
        yield Cpu(f"tensorflow-cpu {versions['tensorflow-cpu']}", "is built for CPUs alone", hint)
    if "tensorflow" in versions and not cuda:
        hint = "ask for tensorflow[and-cuda]"
        yield Cpu(f"tensorflow {versions['tensorflow']}", "is locked without CUDA libraries", hint)
    jaxlib = versions.get("jaxlib", "")
    if jaxlib and "cuda" not in jaxlib and not any(re.fullmatch(r"jax-cuda\d\d-plugin", name) for name in versions):
        yield Cpu(f"jaxlib {jaxlib}", "is locked without its CUDA plugin", "ask for jax[cuda12] or jax[cuda13]")


def _cpu_debs(packages: Iterable[Deb]) -> Iterable[Cpu]:
    versions = {deb.name: deb.version for deb in packages}
    if "python3-torch" in versions and "python3-torch-cuda" not in versions:
        why = "is Debian's build for CPUs alone"
        yield Cpu(f"python3-torch {versions['python3-torch']}", why, "take an image or wheels with a CUDA build")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
