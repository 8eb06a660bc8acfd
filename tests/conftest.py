"""What tests of several folders share."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import docker_engine as engines
from tests.parts import require

# A shell has what it starts in the background ignore Ctrl-C, `nohup` has it ignore SIGHUP, and so would everything that
# a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[str]:
    """The address of an engine: the one that answers here, else a private one, to which DOCKER_HOST then leads."""
    if engines.answers() or not engines.can_start():
        require("docker")
        yield os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        return
    before = os.environ.get("DOCKER_HOST")
    with engines.private_engine() as private:
        os.environ["DOCKER_HOST"] = private.url
        try:
            yield private.url
        finally:
            if before is None:
                os.environ.pop("DOCKER_HOST", None)
            else:
                os.environ["DOCKER_HOST"] = before


@pytest.fixture(scope="session")
def docker_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`host:port` of Docker's own registry, on loopback."""
    require("docker-registry")
    with engines.registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture(scope="session")
def tiny_image(docker_engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image with a shell, of 3 MB, that only the engine has."""
    from tests.tiny_image import Images

    images = Images(docker_engine)
    yield images.load(tmp_path_factory.mktemp("tiny") / "tiny.tar")
    images.forget()


@pytest.fixture(scope="session")
def examples_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a Python with what the examples import, as a reader would make it."""
    root, folder = Path(__file__).parents[1], tmp_path_factory.mktemp("python") / "venv"
    uv = shutil.which("uv") or str(root / ".uv" / "bin" / "uv")
    for command in (
        [uv, "venv", "--quiet", "--python", str(Path(sys.executable).resolve()), str(folder)],
        [uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), "ipykernel", "-r",
         str(root / "examples" / "trial" / "requirements.txt")],
    ):  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=200)
    return folder / "bin"
