"""CPU and memory limits by control group, version 1 or 2, for the attempts that ask for one."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from groundplane.model.resources import Resources

_ROOT = Path("/sys/fs/cgroup")
_PERIOD = 100_000  # µs in which a quota of CPU time is used up
_LEAST_QUOTA = 1000  # µs, the kernel's


class Group:
    """One attempt's group: with version 1 up to two, for each controller is a tree of its own."""

    def __init__(self, memory: Path | None, cpu: Path | None, version: int) -> None:
        """memory, cpu: the folders that limit them, the same one with version 2."""
        self.limits_memory = memory is not None
        self._memory = memory
        self._folders = tuple(dict.fromkeys(folder for folder in (memory, cpu) if folder is not None))
        self._version = version

    @property
    def entries(self) -> tuple[str, ...]:
        """The files to which a process writes its id to join."""
        return tuple(str(folder / "cgroup.procs") for folder in self._folders)

    def members(self) -> list[int]:
        found: dict[int, None] = {}
        for entry in self.entries:
            found.update(dict.fromkeys(map(int, _words(Path(entry)))))
        return list(found)

    def killed(self) -> bool:
        """Whether the kernel has ended a process for want of memory."""
        if self._memory is None:
            return False
        name = "memory.oom_control" if self._version == 1 else "memory.events"
        return _number_in(self._memory / name, "oom_kill") > 0

    def peak(self) -> int:
        """Bytes of memory at the highest, page cache included; 0 when the kernel does not say."""
        if self._memory is None:
            return 0
        name = "memory.max_usage_in_bytes" if self._version == 1 else "memory.peak"
        try:
            return int((self._memory / name).read_text())
        except (OSError, ValueError):
            return 0

    def remove(self) -> None:
        """It stays while a process is in it."""
        for folder in self._folders:
            _remove(folder)


@dataclass(frozen=True, slots=True)
class _Base:
    """Where groups are made: `memory` and `cpu` are None where this user may not limit these."""

    memory: Path | None = None
    cpu: Path | None = None
    version: int = 0


class Groups:
    """Makes groups where this user may."""

    def __init__(self, agent: str) -> None:
        self._base = _base(f"groundplane-{agent}")

    @property
    def limits_memory(self) -> str:
        """`cgroup v1` or `cgroup v2`; "" where memory is sampled."""
        return f"cgroup v{self._base.version}" if self._base.memory else ""

    @property
    def limits_cpus(self) -> str:
        """`cgroup v1` or `cgroup v2`; "" where CPUs are an affinity alone."""
        return f"cgroup v{self._base.version}" if self._base.cpu else ""

    def make(self, attempt: str, resources: Resources) -> Group | None:
        """A group that may use what was asked for; None where nothing was, or none can be made."""
        memory = cpu = None
        if resources.memory and self._base.memory:
            memory = _made(self._base.memory / attempt, _memory_knobs(resources.memory, self._base.version))
        if resources.cpus and self._base.cpu:
            cpu = _made(self._base.cpu / attempt, _cpu_knobs(resources.cpus, self._base.version))
        return Group(memory, cpu, self._base.version) if memory or cpu else None

    def find(self, attempt: str, memory: bool) -> Group | None:
        """The group of an attempt that a former agent started. memory: whether its memory was limited."""
        folders = [base / attempt if base else None for base in (self._base.memory, self._base.cpu)]
        limiting, cpu = [folder if folder and folder.is_dir() else None for folder in folders]
        if not memory and self._base.version == 2:
            limiting, cpu = None, cpu or limiting
        return Group(limiting, cpu, self._base.version) if limiting or cpu else None

    def close(self) -> None:
        """Removes what is empty."""
        for base in {folder for folder in (self._base.memory, self._base.cpu) if folder}:
            for folder in base.iterdir():
                if folder.is_dir():
                    _remove(folder)
            try:
                base.rmdir()
            except OSError:
                continue


def _memory_knobs(limit: int, version: int) -> dict[str, str]:
    """The first one has to be there, the others are not in every kernel."""
    if version == 1:
        return {"memory.limit_in_bytes": str(limit), "memory.memsw.limit_in_bytes": str(limit)}
    return {"memory.max": str(limit), "memory.swap.max": "0", "memory.oom.group": "1"}


def _cpu_knobs(cpus: float, version: int) -> dict[str, str]:
    quota = max(_LEAST_QUOTA, round(cpus * _PERIOD))
    if version == 1:  # a new group's period is the same
        return {"cpu.cfs_quota_us": str(quota)}
    return {"cpu.max": f"{quota} {_PERIOD}"}


def _made(folder: Path, knobs: dict[str, str]) -> Path | None:
    """The folder with its knobs set; None when it cannot be made or does not limit."""
    (first, text), *others = knobs.items()
    there = folder.is_dir()
    try:
        folder.mkdir(exist_ok=True)
        (folder / first).write_text(text)
    except OSError:
        if not there:
            _remove(folder)
        return None
    for name, text in others:
        _try_write(folder / name, text)
    return folder


def _remove(folder: Path) -> None:
    for _ in range(3):
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.001)  # the last process is on its way out
        else:
            return


def _base(name: str) -> _Base:
    if (_ROOT / "memory" / "memory.limit_in_bytes").exists():
        return _Base(_tree("memory", name), _tree("cpu", name), 1)
    if "memory" in _words(_ROOT / "cgroup.controllers"):
        # A group that holds processes cannot limit its children: so above our own, as far as we may write.
        own = _ROOT / _own("")
        for parent in own.parents if own != _ROOT else (_ROOT,):
            base = parent / name
            try:
                (parent / "cgroup.subtree_control").write_text("+memory")
                base.mkdir(exist_ok=True)
                (base / "cgroup.subtree_control").write_text("+memory")
            except OSError:
                if parent == _ROOT:
                    break
                continue
            if os.access(parent / "cgroup.procs", os.W_OK):
                cpus = all(_try_write(folder / "cgroup.subtree_control", "+cpu") for folder in (parent, base))
                return _Base(base, base if cpus else None, 2)
    return _Base()


def _tree(controller: str, name: str) -> Path | None:
    """This agent's folder in a controller's own tree (version 1); None where it may make none."""
    root = _ROOT / controller
    for parent in dict.fromkeys((root / _own(controller), root)):
        base = parent / name
        try:
            base.mkdir(exist_ok=True)
        except OSError:
            continue
        if os.access(base / "cgroup.procs", os.W_OK):
            return base
    return None


def _own(controller: str) -> str:
    """This process's group, relative to the controller's root."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path.lstrip("/")
    return ""


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _number_in(path: Path, name: str) -> int:
    try:
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    except OSError:
        return 0
    return 0


def _try_write(path: Path, text: str) -> bool:
    """For knobs that not every kernel has."""
    try:
        path.write_text(text)
    except OSError:
        return False
    return True
