"""How near the agent comes to a bare spawn loop: `python bench/agent.py [COUNT]`.

Everything is measured in one run on the same cores: attempts through LocalDriver, agent and journal (each ending
durable before it is told), against os.posix_spawn and os.wait with as many in flight as there are cores.
"""

from __future__ import annotations

import hashlib
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from groundplane.drivers.local import LocalDriver
from groundplane.model.ids import new_id
from groundplane.spi import layout
from groundplane.spi.launch import Launch, Phase
from groundplane.spi.snapshots import Entry, Manifest, digest_of
from groundplane.spi.toolchain import Command

_CORES = len(os.sched_getaffinity(0))
_PYTHON = (sys.executable, "-c", "pass")


def bare(argv: Sequence[str], count: int) -> float:
    """Processes a second."""
    started, running, left = time.monotonic(), 0, count
    while left or running:
        while left and running < _CORES:
            os.posix_spawn(argv[0], list(argv), os.environ)
            left, running = left - 1, running + 1
        os.wait()
        running -= 1
    return count / (time.monotonic() - started)


def snapshot(home: Path, files: int) -> str:
    """A project folder of so many small files, in the store."""
    entries: list[Entry] = []
    for number in range(files):
        data = f"file {number}\n".encode() * 20
        sha256 = hashlib.sha256(data).hexdigest()
        target = layout.blob(home, sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        entries.append(Entry(f"src/{number:03}.txt", len(data), sha256=sha256))
    body = Manifest(tuple(entries)).to_json()
    digest = digest_of(body)
    layout.manifest(home, digest).parent.mkdir(parents=True, exist_ok=True)
    layout.manifest(home, digest).write_bytes(body)
    return digest


def through_agent(driver: LocalDriver, argv: Sequence[str], count: int, digest: str) -> float:
    """Attempts a second, from the submit to the last observation of an ending."""
    env = dict(os.environ)
    launches = [Launch(new_id(), 1, "bench", f"t[{n}]", digest, Command(tuple(argv)), env) for n in range(count)]
    left = {launch.attempt for launch in launches}
    cursor = driver.changes("", 0.0).cursor
    started = time.monotonic()
    driver.submit(launches)
    while left:
        changes = driver.changes(cursor, 10.0)
        cursor = changes.cursor
        ended = [told.attempt for told in changes.observations if told.phase is Phase.ENDED]
        left.difference_update(ended)
        driver.cleanup(ended)
    return count / (time.monotonic() - started)


def log_rate(driver: LocalDriver, size: int) -> float:
    """Megabytes a second of one attempt's output into its segment."""
    command = Command(("sh", "-c", f"yes 'a line of output like many others' | head -c {size}"))
    launch = Launch(new_id(), 1, "log", "t", "", command, dict(os.environ))
    cursor = driver.changes("", 0.0).cursor
    started = time.monotonic()
    driver.submit([launch])
    while True:
        changes = driver.changes(cursor, 10.0)
        cursor = changes.cursor
        if any(told.attempt == launch.attempt and told.phase is Phase.ENDED for told in changes.observations):
            return size / 1e6 / (time.monotonic() - started)


def cpu_of(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        driver = LocalDriver(home)
        agent = int(driver.check().facts["agent_pid"])
        small, large = snapshot(home, 5), snapshot(home, 200)
        through_agent(driver, ["/bin/true"], 50, small)
        for name, argv, amount, digest in (
            ("/bin/true, 5 files", ["/bin/true"], count, small),
            ("/bin/true, 200 files (overlay as root)", ["/bin/true"], count // 2, large),
            ("fresh python, 5 files", _PYTHON, count * 2 // 5, small),
            ("fresh python, 200 files (overlay as root)", _PYTHON, count // 5, large),
        ):
            before = cpu_of(agent)
            rate = through_agent(driver, argv, amount, digest)
            cpu = (cpu_of(agent) - before) / amount * 1e3
            own = bare(argv, amount)
            print(f"{name}: {rate:.0f}/s, bare {own:.0f}/s, ratio {rate / own:.2f}; agent {cpu:.2f} ms CPU a task")
        print(f"log: {log_rate(driver, 500_000_000):.0f} MB/s")
        usage = resource.getrusage(resource.RUSAGE_SELF)
        print(f"this process: {usage.ru_utime + usage.ru_stime:.2f} s CPU")
        driver.shutdown(end_work=True)
        driver.close()
        while layout.agent_socket(home).exists():
            time.sleep(0.01)


if __name__ == "__main__":
    main()
