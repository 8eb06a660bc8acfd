"""A local driver with a home, and what tests do to its agent from outside."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from groundplane.drivers.local import LocalDriver
from groundplane.spi import layout
from groundplane.spi.snapshots import Entry, Manifest, digest_of
from tests.conformance.driver_bench import PATIENCE, Bench


class AgentBench(Bench):
    """The local driver's bench."""

    driver: LocalDriver

    @property
    def agent_pid(self) -> int:
        return int(self.driver.check().facts["agent_pid"])

    def kill_agent(self) -> int:
        """kill -9; returns the pid that it had."""
        pid = self.agent_pid
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not alive(pid))
        return pid

    def snapshot(self, folder: Path, in_place: tuple[str, ...] = ()) -> str:
        """Puts a folder's files into the store, as the control plane does; returns the digest."""
        entries: list[Entry] = []
        for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()):
            name, status = str(path.relative_to(folder)), path.stat()
            executable = bool(status.st_mode & 0o100)
            if name in in_place:
                entries.append(
                    Entry(
                        name,
                        status.st_size,
                        executable,
                        source=str(path),
                        mtime_ns=status.st_mtime_ns,
                        ctime_ns=status.st_ctime_ns,
                        inode=status.st_ino,
                    )
                )
                continue
            entries.append(Entry(name, status.st_size, executable, self.blob(path.read_bytes())))
        others = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*"))}
        links = tuple((name, os.readlink(path)) for name, path in others.items() if path.is_symlink())
        empty = tuple(name for name, path in others.items() if path.is_dir() and not any(path.iterdir()))
        data = Manifest(tuple(entries), links, empty).to_json()
        digest = digest_of(data)
        target = layout.manifest(self.home, digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        return digest

    def blob(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        target = layout.blob(self.home, digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            target.write_bytes(data)
            target.chmod(0o444)
        return digest


@contextmanager
def agent_bench(home: Path) -> Iterator[AgentBench]:
    driver = LocalDriver(home)
    bench = AgentBench(driver, home, lambda: LocalDriver(home))
    try:
        yield bench
    finally:
        pid = bench.agent_pid
        driver.shutdown(end_work=True)
        driver.close()
        eventually(lambda: not alive(pid))


_CHANGED = """
import fcntl, os, sys
from groundplane.agent import main
exec(sys.argv[2])
home = os.path.realpath(sys.argv[1])
os.makedirs(home + "/agent")
lock = os.open(home + "/agent/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
fcntl.flock(lock, fcntl.LOCK_EX)
main.serve(home, lock)
"""


def agent_without_cgroups(home: Path) -> AbstractContextManager[AgentBench]:
    """As where this user may not make any."""
    return changed_agent(home, "from groundplane.agent import cgroups; cgroups._base = lambda name: cgroups._Base()")


@contextmanager
def changed_agent(home: Path, change: str) -> Iterator[AgentBench]:
    """An agent that has run `change`, some Python, before it serves."""
    with subprocess.Popen([sys.executable, "-c", _CHANGED, str(home), change], start_new_session=True) as process:
        eventually(lambda: layout.agent_socket(home).exists())
        with agent_bench(home) as bench:
            yield bench
        process.wait()


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it did not come to be so"
        time.sleep(0.01)


def agents_of(home: Path) -> list[int]:
    """The pids of this home's agents."""
    found: list[int] = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"groundplane.agent" in words and os.fsencode(home) in words and alive(int(folder.name)):
            found.append(int(folder.name))
    return found
