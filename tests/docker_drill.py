"""A Docker engine of a test's own, that it may start, kill and start again; and an image that costs next to nothing.

The image has this machine's own shell and a few programs, so that no mirror is needed.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from groundplane.images.store import ImageStore
from groundplane.model.environments import Environment
from groundplane.model.locks import Lock
from groundplane.services import environments, shelf
from groundplane.spi.images import Image
from tests import docker_engine
from tests.docker_engine import Daemon
from tests.parts import require

_PROGRAMS = (
    "sh", "bash", "cat", "chmod", "cp", "dd", "env", "head", "id", "kill", "ln", "ls", "mkdir", "mv", "od", "printf",
    "pwd", "rm", "rmdir", "seq", "sleep", "sort", "stat", "tail", "tee", "touch", "tr", "true", "wc", "yes", "grep",
    "sed", "sha256sum", "date", "mount", "umount", "nproc", "setsid", "perl",
    "base64", "dirname", "gzip", "mktemp", "tar",
)  # fmt: skip
TINY = "groundplane/tiny:tests"
"""What engines call the image of `tiny_image`."""


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


def tiny_image(home: Path, toolchain: str = "shell") -> Image:
    """Puts an image of this machine's shell into a home, as what `toolchain` means there. The control plane takes it
    for one that it built earlier."""
    shelf_ = ImageStore(home / "images")
    with shelf_.scratch() as scratch:
        tar = scratch / "layer.tar"
        pack(tar)
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


def pack(tar: Path) -> None:
    """The files of that image."""
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
