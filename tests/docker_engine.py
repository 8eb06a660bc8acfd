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
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from groundplane.model.errors import GroundError
from groundplane.oci.address import from_environment, parse
from groundplane.oci.engine import Engine, Refused

_SECONDS = 40
_DOCKERD = ("--iptables=false", "--ip-forward=false", "--ip-masq=false", "--log-level=error")


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


class PrivateEngine:
    """A `dockerd` with a data folder, a socket and a bridge of its own. Its containers reach this machine alone.

    Without a bridge (`--bridge=none`) it would delete the bridge of the engine that this machine may have.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"unix://{folder}/docker.sock"
        self.bridge = f"gdk{uuid.uuid4().hex[:8]}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        argv = ["dockerd", *_DOCKERD, "--host", self.url, "--pidfile", str(self.folder / "pid")]
        argv += ["--bridge", self.bridge]
        if not Path("/sys/class/net", self.bridge).exists():
            subprocess.run(["ip", "link", "add", self.bridge, "type", "bridge"], check=True)
        argv += ["--data-root", str(self.folder / "data"), "--exec-root", str(self.folder / "exec")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
        limit = time.monotonic() + _SECONDS
        while not answers(self.url):
            if self.process.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(f"dockerd did not start:\n{(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ends it, its containerd and whatever its containers run."""
        if self.process is not None:
            self.process.send_signal(how)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None
        mine = f"{self.folder}/exec".encode()
        for folder in Path("/proc").glob("[0-9]*"):  # containerd and its shims survive a kill -9
            try:
                if mine in (folder / "cmdline").read_bytes():
                    os.kill(int(folder.name), signal.SIGKILL)
            except OSError:
                continue
        # A dead one that nobody has waited for still has its number: dockerd would take it for a living one.
        for name in ("containerd.pid", "containerd.sock"):
            (self.folder / "exec" / "containerd" / name).unlink(missing_ok=True)

    def remove(self) -> None:
        """Nothing of it stays."""
        with open("/proc/mounts", encoding="utf-8") as mounts:
            mine = [line.split()[1] for line in mounts if line.split()[1].startswith(f"{self.folder}/")]
        for place in sorted(mine, reverse=True):
            subprocess.run(["umount", "-l", place], check=False, capture_output=True)
        subprocess.run(["ip", "link", "delete", self.bridge], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def private_engine() -> Iterator[PrivateEngine]:
    """A private engine in a short temporary folder (a socket's path has 100 bytes)."""
    engine = PrivateEngine(Path(tempfile.mkdtemp(prefix="gdk")))
    try:
        engine.start()
        yield engine
    finally:
        engine.stop()
        engine.remove()


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Docker's registry; its `host:port`."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}', secret: trial}}\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=log, start_new_session=True
        )
    try:
        limit = time.monotonic() + _SECONDS
        while not responds(f"http://127.0.0.1:{port}/v2/"):
            if process.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(f"docker-registry did not start:\n{(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def responds(url: str) -> bool:
    """Whether there is something at that address."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
