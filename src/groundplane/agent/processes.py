"""The processes of this host as /proc shows them, and which of them are an attempt's."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_MARK = b"GROUND_ATTEMPT="


@dataclass(frozen=True, slots=True)
class Process:
    """ticks: start time in clock ticks since boot. resident: bytes."""

    pid: int
    parent: int
    session: int
    ticks: int
    resident: int
    zombie: bool


@dataclass(frozen=True, slots=True)
class Used:
    """What a process itself used up to now: seconds of CPU, and bytes of memory at the peak."""

    cpu: float = 0.0
    peak: int = 0


def boot_id() -> str:
    """Changes with every boot: a process id means nothing across it."""
    return _read("/proc/sys/kernel/random/boot_id").decode().strip()


def inspect(pid: int) -> Process | None:
    """One process; None when it is gone."""
    text = _read(f"/proc/{pid}/stat")
    if not text:
        return None
    # The name may hold spaces and parentheses: what counts begins behind the last one.
    fields = text[text.rindex(b")") + 2 :].split()
    return Process(
        pid=pid,
        parent=int(fields[1]),
        session=int(fields[3]),
        ticks=int(fields[19]),
        resident=int(fields[21]) * _PAGE,
        zombie=fields[0] in (b"Z", b"X"),
    )


def everything() -> dict[int, Process]:
    """All processes, zombies included."""
    found: dict[int, Process] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            process = inspect(int(name))
            if process is not None:
                found[process.pid] = process
    return found


def attempt_of(pid: int) -> str:
    """The attempt that a process was started for, by its environment; "" when it has none or hides it."""
    environment = _read(f"/proc/{pid}/environ")
    at = 0 if environment.startswith(_MARK) else environment.find(b"\0" + _MARK) + 1
    if at == 0 and not environment.startswith(_MARK):
        return ""
    return environment[at + len(_MARK) :].split(b"\0", 1)[0].decode(errors="replace")


def children() -> list[int]:
    """This process's own, adopted ones included: all are the main thread's."""
    return [int(pid) for pid in _read(f"/proc/self/task/{os.getpid()}/children").split()]


def now_ticks() -> int:
    """The present, as processes' start times are counted."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS) + 1


def members(mains: Mapping[str, int], by_environment: bool = True) -> dict[str, list[Process]]:
    """The live processes of attempts: main process, its session, all their descendants, and (`by_environment`)
    whatever carries the attempt's id in its environment. `mains`: attempt -> pid of its main process, or 0."""
    own = os.getpid()
    table = everything()
    owner: dict[int, str] = {pid: attempt for attempt, pid in mains.items() if pid}
    result: dict[str, list[Process]] = {attempt: [] for attempt in mains}

    def find(process: Process) -> str:
        chain: list[int] = []
        current: Process | None = process
        found = ""
        while current is not None and current.pid != own and current.pid not in owner:
            if current.session in owner and owner[current.session] in mains:
                found = owner[current.session]
                break
            if by_environment or current.parent == own:
                marked = attempt_of(current.pid)
                if marked in mains:
                    found = marked
                    break
            chain.append(current.pid)
            current = table.get(current.parent)
        else:
            found = owner.get(current.pid, "") if current is not None else ""
        for pid in chain:
            owner[pid] = found
        owner.setdefault(process.pid, found)
        return found

    for process in table.values():
        if process.zombie or process.pid == own or process.pid == 2 or process.parent == 2:
            continue
        attempt = owner.get(process.pid)
        if attempt is None:
            attempt = find(process)
        if attempt:
            result[attempt].append(process)
    return result


def send(pids: list[int], number: signal.Signals) -> None:
    """A signal to each; those that are gone, or are not ours, are passed over."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def proportional(pid: int) -> int:
    """Memory of a process in bytes where shared pages count in part; 0 when it will not say."""
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def used(pid: int) -> Used:
    """Nothing when it is gone."""
    text = _read(f"/proc/{pid}/stat")
    if not text:
        return Used()
    fields = text[text.rindex(b")") + 2 :].split()
    peak = 0
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith(b"VmHWM:"):
            peak = int(line.split()[1]) * 1024
    return Used((int(fields[11]) + int(fields[12])) / _TICKS, peak)


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        data = b""
        while chunk := os.read(fd, 65536):
            data += chunk
        return data
    except OSError:  # the process ended meanwhile, or is not ours
        return b""
    finally:
        os.close(fd)
