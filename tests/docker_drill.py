"""A Docker engine of a test's own, that it may start, kill and start again; and an image that costs next to nothing.

The image has this machine's own shell and a few programs, so that no mirror is needed.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from groundplane.images.store import ImageStore
from groundplane.model.environments import Environment
from groundplane.model.errors import Unavailable
from groundplane.model.locks import Lock
from groundplane.oci.address import Address
from groundplane.oci.engine import Engine, Refused
from groundplane.services import environments, shelf
from groundplane.spi.images import Image
from tests import docker_engine
from tests.parts import require

_PROGRAMS = (
    "sh", "bash", "cat", "chmod", "cp", "dd", "env", "head", "id", "kill", "ln", "ls", "mkdir", "mv", "od", "printf",
    "pwd", "rm", "rmdir", "seq", "sleep", "sort", "stat", "tail", "tee", "touch", "tr", "true", "wc", "yes", "grep",
    "sed", "sha256sum", "date", "mount", "umount", "nproc", "setsid",
)  # fmt: skip
_START_WITHIN = 30.0
TINY = "groundplane/tiny:tests"
"""What engines call the image of `tiny_image`."""


class Daemon:
    """`dockerd` with everything of its own below `folder`, and a bridge: without one (`--bridge=none`) it would delete
    that of another engine of this machine."""

    def __init__(self, folder: Path, *, live_restore: bool = False, options: Sequence[str] = ()) -> None:
        self.folder = folder
        self.live_restore = live_restore
        folder.mkdir(parents=True, exist_ok=True)
        self.socket = folder / "docker.sock"
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
                    "dockerd", "--data-root", str(self.folder / "data"), "--exec-root", str(self.folder / "exec"),
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
        (self.folder / "exec" / "containerd" / "containerd.pid").unlink(missing_ok=True)

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
            if point.startswith(f"{self.folder}/"):
                subprocess.run(["umount", "--lazy", point], check=False)
        subprocess.run(["ip", "link", "delete", self._bridge], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _processes(self) -> list[int]:
        """Of this daemon: containerd and the shims of its containers."""
        return [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit()
            and f"{self.folder}/" in _command(int(entry.name))
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
def daemon(folder: Path, **options: Any) -> Iterator[Daemon]:
    """One that runs until the end of the block. Skips where none can be started."""
    require("docker")
    if not docker_engine.can_start():
        pytest.skip("no Docker engine can be started here: that takes root and dockerd")
    made = Daemon(folder, **options)
    try:
        yield made.start()
    finally:
        made.close()


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def tiny_image(home: Path, toolchain: str = "shell") -> Image:
    """Puts an image of this machine's shell into a home, as what `toolchain` means there. The control plane takes it
    for one that it built earlier."""
    shelf_ = ImageStore(home / "images")
    with shelf_.scratch() as scratch:
        tar = scratch / "layer.tar"
        _pack(tar)
        layer = shelf_.add_layer(tar)
    environment = Environment(name="", toolchain=toolchain)
    lock = Lock(
        name="",
        definition=environments.definition(environment, lambda _: None, Path("/")),
        toolchain=toolchain,
        engine="sh",
        version="",
        program="/bin/sh",
        builder="debian",
        layers=(layer.diff,),
    )
    shelf.keep_resolved(home, lock)
    return shelf_.add_image(
        recipe=lock.recipe,
        builder="debian",
        reference=TINY,
        layers=[layer],
        config={"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["/bin/sh"]},
        epoch=0,
        built_at=0,
        program="/bin/sh",
    )


def _pack(tar: Path) -> None:
    programs = {name: found for name in _PROGRAMS if (found := shutil.which(name))}
    said = subprocess.run(["ldd", *programs.values()], capture_output=True, text=True, check=True).stdout
    libraries = sorted(set(re.findall(r"(/\S+) \(0x", said)))
    with tarfile.open(tar, "w") as target:
        for folder in ("tmp", "proc", "sys", "dev", "etc", "usr", "bin", "ground/work", "ground/support"):
            _add(target, folder, mode=0o1777 if folder == "tmp" else 0o755)
        for name, path in programs.items():
            _add(target, f"bin/{name}", Path(path).resolve())
        for path in libraries:
            _add(target, path.lstrip("/"), Path(path).resolve())
        _add(target, "etc/passwd", content=b"root:x:0:0::/:/bin/sh\n")


def _add(
    target: tarfile.TarFile, name: str, source: Path | None = None, content: bytes | None = None, mode: int = 0o755
) -> None:
    entry = tarfile.TarInfo(name)
    if source is None and content is None:
        entry.type, entry.mode = tarfile.DIRTYPE, mode
        target.addfile(entry)
        return
    data = content if content is not None else Path(str(source)).read_bytes()
    entry.size, entry.mode = len(data), mode
    target.addfile(entry, io.BytesIO(data))
