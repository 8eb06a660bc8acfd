"""A Docker engine for tests: the one that answers here, else a private `dockerd` that is started by hand and ended; and
a registry, Docker's own, on a loopback port."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from groundplane.model.errors import GroundError, Unavailable
from groundplane.oci.address import Address, from_environment, parse
from groundplane.oci.engine import Engine, Refused

_SECONDS = 40
_START_WITHIN = 30.0


def answers(url: str | None = None) -> bool:
    """Whether an engine answers there, or where this user's own is."""
    try:
        engine = Engine(parse(url) if url else from_environment(os.environ))
        engine.call("GET", "/version", tries=1)
        engine.close()
    except (GroundError, Refused):
        return False
    return True


def can_start() -> bool:
    """Whether this machine lets an engine be started."""
    return os.geteuid() == 0 and all(map(shutil.which, ("dockerd", "ip")))


class Daemon:
    """`dockerd` with everything of its own below `folder`, a bridge, and a short folder for its sockets, whose paths
    have 100 bytes. Without a bridge (`--bridge=none`) it would delete that of another engine of this machine.

    in_memory: its images lie in memory while it lives. To delete those of some languages, tens of thousands of files,
    takes a disk up to minutes.
    """

    def __init__(
        self, folder: Path, *, live_restore: bool = False, options: Sequence[str] = (), in_memory: bool = False
    ) -> None:
        self.folder = folder
        self.live_restore = live_restore
        folder.mkdir(parents=True, exist_ok=True)
        if in_memory:
            data = folder / "data"
            data.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=711", "tmpfs", str(data)], check=True)
        self._short = Path(tempfile.mkdtemp(prefix="gdk"))
        self.socket = self._short / "docker.sock"
        self.url = f"unix://{self.socket}"
        self._bridge = f"gdd{os.urandom(4).hex()}"
        self._options = [f"--bridge={self._bridge}", *(["--live-restore"] if live_restore else []), *options]
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def call(self, method: str, path: str, query: Mapping[str, object] | None = None) -> Any:
        """One request on a connection of its own."""
        engine = Engine(Address(self.url))
        try:
            return engine.call(method, path, query, tries=1)
        finally:
            engine.close()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> Daemon:
        """Returns when it answers."""
        assert self._process is None, "it runs"
        if not Path("/sys/class/net", self._bridge).exists():
            subprocess.run(["ip", "link", "add", self._bridge, "type", "bridge"], check=True)
        self.folder.joinpath("pid").unlink(missing_ok=True)
        self.starts += 1
        with self.folder.joinpath("dockerd.log").open("ab") as said:
            self._process = subprocess.Popen(
                [
                    "dockerd", "--data-root", str(self.folder / "data"), "--exec-root", str(self._short / "exec"),
                    "--pidfile", str(self.folder / "pid"), "--host", self.url, "--iptables=false",
                    "--ip-forward=false", "--ip-masq=false",
                    *self._options,
                ],
                stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + _START_WITHIN
        while not self.answers():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)
        return self

    def answers(self) -> bool:
        try:
            self.call("GET", "/version")
        except (Unavailable, Refused):
            return False
        return True

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Ends it; returns when it has ended. Its containers live on where it was killed."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(timeout=60)
        self._process = None
        self._end_containerd()

    def _end_containerd(self) -> None:
        """It ends with its parent, a moment later: a new one must not meet it."""
        deadline = time.monotonic() + 10
        while any("containerd.toml" in _command(pid) for pid in self._processes()):
            assert time.monotonic() < deadline, "containerd lives on"
            time.sleep(0.02)
        # Where process 1 reaps late, the next one would take it for alive.
        (self._short / "exec" / "containerd" / "containerd.pid").unlink(missing_ok=True)

    def close(self) -> None:
        """Ends it with all that it runs."""
        if self._process is not None and self._process.poll() is None:
            for found in self.containers():
                try:
                    self.call("DELETE", f"/containers/{found['Id']}", {"force": 1, "v": 1})
                except (Unavailable, Refused):
                    pass  # it is going already
            self.kill(signal.SIGTERM)
        for pid in self._processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        with Path("/proc/self/mounts").open() as mounts:
            points = [line.split()[1] for line in mounts]
        for point in reversed(points):
            if point.startswith((f"{self.folder}/", f"{self._short}/")):
                subprocess.run(["umount", "--lazy", point], check=False)
        subprocess.run(["ip", "link", "delete", self._bridge], check=False, capture_output=True)
        for each in (self.folder, self._short):
            shutil.rmtree(each, ignore_errors=True)

    def _processes(self) -> list[int]:
        """Of this daemon: containerd and the shims of its containers."""
        return [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit()
            and any(f"{each}/" in _command(int(entry.name)) for each in (self.folder, self._short))
            and int(entry.name) != os.getpid()
        ]

    def containers(self) -> list[Mapping[str, Any]]:
        """All that it has, running or not."""
        return self.call("GET", "/containers/json", {"all": 1})

    def running(self) -> list[str]:
        """Names of the containers that run."""
        return sorted(found["Names"][0].lstrip("/") for found in self.containers() if found["State"] == "running")

    def ended(self) -> None:
        """Waits until it has no container left."""
        deadline = time.monotonic() + 20
        while left := self.containers():
            assert time.monotonic() < deadline, [(found["Names"], found["Status"]) for found in left]
            time.sleep(0.05)

    def log(self) -> str:
        """The last of what it said."""
        return self.folder.joinpath("dockerd.log").read_text(errors="replace")[-3000:]


@contextmanager
def private_engine() -> Iterator[Daemon]:
    """An engine of its own until the end of the block."""
    engine = Daemon(Path(tempfile.mkdtemp(prefix="gdk")))
    try:
        yield engine.start()
    finally:
        engine.close()


@contextmanager
def registry(
    folder: Path, certificate: Path | None = None, host: str = "127.0.0.1", port: int = 0, proxy: str = ""
) -> Iterator[str]:
    """Docker's registry; its `host:port`. certificate: with its key in the same file; None: without TLS. port: 0 for
    any. proxy: the URL of the one whose images it passes on. What the folder has of an earlier one is there again."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.create_server((host, port)) as free:
        port = free.getsockname()[1]
    (folder / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: '{host}:{port}', secret: trial"
        + (f", tls: {{certificate: '{certificate}', key: '{certificate}'}}" if certificate else "")
        + "}\n"
        + (f"proxy: {{remoteurl: '{proxy}'}}\n" if proxy else "")
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=log, start_new_session=True
        )
    try:
        limit = time.monotonic() + _SECONDS
        while not (_listens(host, port) if certificate else responds(f"http://{host}:{port}/v2/")):
            if process.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(f"docker-registry did not start:\n{(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)
        yield f"{host}:{port}"
    finally:
        process.kill()
        process.wait()


def _listens(host: str, port: int) -> bool:
    with socket.socket() as made:
        return made.connect_ex((host, port)) == 0


def responds(url: str) -> bool:
    """Whether there is something at that address."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
