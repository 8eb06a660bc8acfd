"""The real parts that a test needs: a part that the machine lacks is a skip with its reason, or, when
GROUND_TEST_REQUIRE names it (comma-separated; CI does), a failure."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import urllib.request
from functools import cache
from pathlib import Path

import pytest

from tests import docker_engine

_PROGRAMS = {
    "r": ("Rscript",),
    "matlab": ("octave-cli",),
    "spss": ("pspp",),
    "docker-registry": ("docker-registry",),
    "bubblewrap": ("bwrap",),
    "mmdebstrap": ("mmdebstrap", "apt-get"),
    "chromium": ("chromium",),
    "kubectl": ("kubectl",),
    "saslite": (),
}
POSTGRES_BIN = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


def available(part: str) -> bool:
    """Whether this machine has the part."""
    if part == "postgres":
        return POSTGRES_BIN is not None or shutil.which("initdb") is not None
    if part == "root":
        return os.geteuid() == 0
    if part == "docker":
        return docker_engine.answers() or docker_engine.can_start()
    if part == "gpu":
        return Path("/dev/nvidia0").exists() and shutil.which("nvidia-smi") is not None
    if part == "s3":
        return s3_program() is not None
    if part == "oidc-provider":
        return oidc_folder() is not None
    if part == "odbc":  # with PostgreSQL's driver, and R's way to it
        return shutil.which("isql") is not None and "PostgreSQL Unicode" in _odbc_drivers()
    if part == "kfp":
        return importlib.util.find_spec("kfp") is not None
    if part == "kubernetes":
        return _cluster()
    if part == "debian-mirror":
        return _debian_mirror()
    return all(shutil.which(program) for program in _PROGRAMS[part])


@cache
def _odbc_drivers() -> str:
    known = Path("/etc/odbcinst.ini")
    return known.read_text() if known.exists() else ""


@cache
def s3_program() -> Path | None:
    """The S3 server, where `tools/versitygw` has built it."""
    tool = Path(__file__).parents[1] / "tools" / "versitygw"
    found = subprocess.run([tool, "--path"], capture_output=True, text=True, check=False)
    return Path(found.stdout.strip()) if found.returncode == 0 else None


@cache
def oidc_folder() -> Path | None:
    """Where `tools/oidc-provider` has installed the OpenID provider."""
    tool = Path(__file__).parents[1] / "tools" / "oidc-provider"
    found = subprocess.run([tool, "--path"], capture_output=True, text=True, check=False)
    return Path(found.stdout.strip()) if found.returncode == 0 else None


@cache
def _cluster() -> bool:
    """Whether a cluster answers that KUBECONFIG or ~/.kube/config names."""
    from groundplane.model.errors import GroundError
    from tests.cluster import Api

    try:
        with Api() as api:
            return api.ready()
    except GroundError:
        return False


@cache
def _debian_mirror() -> bool:
    address = "http://deb.debian.org/debian/dists/trixie/Release"
    try:
        with urllib.request.urlopen(address, timeout=20) as answer:
            return answer.status == 200
    except OSError:
        return False


def require(part: str) -> None:
    """Call first in a test or fixture that needs the part."""
    if available(part):
        return
    message = f"this machine has no {part}"
    if part in os.environ.get("GROUND_TEST_REQUIRE", "").split(","):
        pytest.fail(message + ", and GROUND_TEST_REQUIRE names it")
    pytest.skip(message)
