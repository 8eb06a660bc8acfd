"""The image that stages, built for real from Debian's packages."""

from __future__ import annotations

import json
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from groundplane.images import staging
from groundplane.services import shelf
from groundplane.spi.images import Image
from tests.parts import require

_IMPORTS = "import http.client, ssl, tarfile, json, select, hashlib, urllib.request"
_AGENT = "import groundplane.agent.main as m, groundplane.agent.staging as s; print(m.__file__, m.__cached__)"


@pytest.mark.timeout(600)
def test_the_image_is_built_once_and_runs_the_agent(tmp_path: Path) -> None:
    for part in ("root", "mmdebstrap", "debian-mirror"):
        require(part)
    store, told = shelf.store(tmp_path / "home"), list[str]()

    def build() -> Image:
        return staging.image(store, shelf.builder(tmp_path / "home", "debian"), told.append)

    with ThreadPoolExecutor(2) as threads:
        made, too = threads.map(lambda _: build(), range(2))
    assert made == too
    assert told.count("adding the agent's files") == 1
    told.clear()
    assert build() == made
    assert told == []
    assert made.reference == staging.name()
    assert store.check(made) == []

    store.remove(made.recipe)
    again = build()
    assert told.count("adding the agent's files") == 1
    assert (again.manifest, again.config, again.layers) == (made.manifest, made.config, made.layers)

    config = json.loads(store.blob(made.config).read_bytes())["config"]
    assert config["User"] == "65532:65532"
    assert not {"Cmd", "Entrypoint"} & set(config)
    root = tmp_path / "root"
    for layer in made.layers:
        with tarfile.open(store.blob(layer.digest)) as tar:
            tar.extractall(root, filter="fully_trusted")
    place = "/usr/lib/python3/dist-packages/groundplane/agent"
    assert inside(root, config, _IMPORTS) == ""
    assert inside(root, config, _AGENT) == f"{place}/main.py {place}/__pycache__/main.cpython-313.pyc"
    compiled = (root / place.lstrip("/") / "__pycache__" / "main.cpython-313.pyc").read_bytes()
    assert int.from_bytes(compiled[4:8], "little") == 1  # it names its source's hash, which nobody checks
    certificates = "import ssl; print(ssl.create_default_context().cert_store_stats()['x509_ca'] > 50)"
    assert inside(root, config, certificates) == "True"


def inside(root: Path, config: dict[str, list[str]], code: str) -> str:
    """What Python code prints in the image, as the image's user."""
    argv = ["chroot", f"--userspec={config['User']}", root, "/usr/bin/env", "-i", *config["Env"]]
    done = subprocess.run([*argv, "python3", "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
