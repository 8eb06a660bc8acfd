"""A small image without any registry: the shell of this machine and what it is linked with, as an engine imports it."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
import uuid
from pathlib import Path

from groundplane.oci.address import parse
from groundplane.oci.engine import Engine, Refused

STATUS = """Package: hello
Status: install ok installed
Architecture: amd64
Version: 2.10-3

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""
FILES = {
    "etc/os-release": "ID=debian\nVERSION_CODENAME=trixie\n",
    "var/lib/dpkg/status": STATUS,
    "usr/lib/python3/site-packages/trial-1.2.dist-info/METADATA": "Metadata-Version: 2.1\nName: trial\nVersion: 1.2\n",
    "usr/bin/Rscript": "#!/bin/sh\necho 'Rscript (R) version 4.5.1 (2025-06-13)'\n",
}


class Images:
    """What this module puts into an engine."""

    def __init__(self, url: str) -> None:
        self._engine = Engine(parse(url))
        self._name = f"groundplane-trial/{uuid.uuid4().hex[:8]}"

    def load(self, tar: Path) -> str:
        """The image's name."""
        write(tar)
        query = {"fromSrc": "-", "repo": self._name, "tag": "1"}
        with tar.open("rb") as file:
            for _ in self._engine.events("POST", "/images/create", query, iter(lambda: file.read(1 << 20), b"")):
                pass
        return f"{self._name}:1"

    def forget(self) -> None:
        """Takes it out again."""
        try:
            self._engine.call("DELETE", f"/images/{self._name}:1", {"force": 1})
        except Refused as error:
            if error.status != 404:
                raise
        self._engine.close()


def write(target: Path) -> None:
    """The root file system as a tar."""
    programs = [Path(found).resolve() for name in ("sh", "date", "sleep") if (found := shutil.which(name))]
    linked = {Path("/" + path) for program in programs for path in _libraries(program)}
    with tarfile.open(target, "w") as out:
        for path in sorted(linked):
            out.add(path.resolve(), str(path).lstrip("/"))
        for name, program in zip(("sh", "date", "sleep"), programs, strict=True):
            out.add(program, f"bin/{name}")
        for name, text in FILES.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o755
            out.addfile(entry, io.BytesIO(text.encode()))
        folder = tarfile.TarInfo("tmp")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
        out.addfile(folder)


def _libraries(program: Path) -> list[str]:
    said = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
    return re.findall(r"(?:=> |\t)/(\S+) \(0x", said)
