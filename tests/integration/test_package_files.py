"""Files of a language's packages, from an index of our own: the digest decides, the address is a hint."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from groundplane.images import languages, uv, wheels
from groundplane.images.downloads import Downloads
from groundplane.model.environments import Environment
from groundplane.model.errors import Invalid, Unavailable
from groundplane.model.locks import Base, Deb, Lock, Native
from groundplane.spi.images import Progress, Recipe
from tests import r_repository

TARGET = uv.Target("3.13.5", 41, "x86_64")
NOWHERE = "http://127.0.0.1:9/simple"
DEBS = tuple(
    Deb(name, version, "amd64", "0" * 64, 1, "")
    for name, version in (("python3", "3.13.5-1"), ("libc6", "2.41-12"), ("r-base-core", "4.5.0-3"))
)
LOCK = Lock("x", "", "python", "python", "", "", "debian", Base("trixie", "amd64", 0, DEBS))


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """The address of a package index that has `tiny` 1 and 2 as wheels, and `rough` as a source alone."""
    root = tmp_path / "index"
    for name, version in (("tiny", "1"), ("tiny", "2")):
        _wheel(root / "files" / f"{name}-{version}-py3-none-any.whl", name, version)
    (root / "files" / "rough-1.tar.gz").write_bytes(b"source")
    for name in ("tiny", "rough"):
        (root / "simple" / name).mkdir(parents=True)
        links = [
            f'<a href="../../files/{path.name}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}">{path.name}</a>'
            for path in sorted((root / "files").glob(f"{name}-*"))
        ]
        (root / "simple" / name / "index.html").write_text("<!DOCTYPE html><html><body>" + "\n".join(links))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/simple"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.delenv("RENV_CONFIG_REPOS_OVERRIDE", raising=False)


def silent(_: str) -> None:
    pass


def outdated(locked: Lock, folder: Path, progress: Progress = silent) -> list[tuple[str, str, str]]:
    return languages.outdated(locked, Downloads(folder / "downloads"), folder, progress)


def test_a_lock_whose_addresses_are_gone_is_served_by_the_sites_index(
    index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", index)
    text = uv.resolve(["tiny<2"], TARGET, tmp_path)
    elsewhere = text.replace(index.removesuffix("/simple"), "http://127.0.0.1:9")
    files = wheels.chosen(elsewhere, TARGET, "pylock.toml")
    assert [(file.name, file.version) for file in files] == [("tiny", "1")]
    assert files[0].url.startswith("http://127.0.0.1:9/files/tiny-1-")
    locked = _with(Native("pylock", elsewhere, "", files))
    (path,) = languages.fetched(locked, Downloads(tmp_path / "downloads"), None, tmp_path, silent)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == files[0].sha256
    assert outdated(locked, tmp_path) == [("tiny", "1", "2")]


def test_nothing_of_the_folder_is_started(index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", index)
    folder, started = tmp_path / "sent", tmp_path / "started"
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "pyvenv.cfg").write_text("home = /usr/bin\nversion_info = 3.11.7\n")
    for name in ("python", "python3"):
        program = folder / ".venv" / "bin" / name
        program.write_text(f'#!/bin/sh\n: > {started}\nexec {sys.executable} "$@"\n')
        program.chmod(0o755)
    assert "tiny" in uv.resolve(["tiny<2"], TARGET, folder)
    assert not started.exists()


def test_without_an_index_the_locks_own_address_is_asked(
    index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", index)
    text = uv.resolve(["tiny==2"], TARGET, tmp_path)
    locked = _with(Native("pylock", text, "", wheels.chosen(text, TARGET, "pylock.toml")))
    monkeypatch.setenv("UV_DEFAULT_INDEX", NOWHERE)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "other"))
    said: list[str] = []
    assert languages.fetched(locked, Downloads(tmp_path / "downloads"), None, tmp_path, said.append)
    assert "the lock's own addresses are taken" in said[0]
    assert outdated(locked, tmp_path, said.append) == []
    assert "the package index cannot be read" in said[-1]


def test_a_wheel_that_no_address_has_is_named(index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", index)
    text = uv.resolve(["tiny"], TARGET, tmp_path)
    locked = _with(Native("pylock", text, "", wheels.chosen(text, TARGET, "pylock.toml")))
    for path in (tmp_path / "index" / "files").glob("tiny-2*"):
        path.unlink()
    with pytest.raises(Unavailable, match=r"tiny-2-py3-none-any\.whl is gone") as raised:
        languages.fetched(locked, Downloads(tmp_path / "downloads"), None, tmp_path, silent)
    assert raised.value.code == "package_gone"
    assert "ground env pool" in raised.value.hint
    assert list((tmp_path / "downloads").iterdir()) == []
    with pytest.raises(Unavailable, match="lacks tiny-2") as raised:
        languages.fetched(locked, Downloads(tmp_path / "downloads"), tmp_path / "pool", tmp_path, silent)
    assert raised.value.code == "pool_incomplete"


@pytest.mark.parametrize(
    ("wanted", "code", "said"),
    [
        ("rough", "no_wheel", "rough has no wheel for Python 3.13 on x86_64-manylinux_2_40"),
        ("nowhere-to-be-found", "unknown_package", "the package index has no nowhere-to-be-found"),
        ("tiny>=3", "unresolvable", "cannot be had together for Python 3.13"),
    ],
)
def test_what_the_index_cannot_give_is_named(
    index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str, code: str, said: str
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", index)
    with pytest.raises(Invalid) as raised:
        uv.resolve([wanted, "tiny"], TARGET, tmp_path)
    assert raised.value.code == code
    assert said in raised.value.message
    assert raised.value.hint


def test_an_index_out_of_reach_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", NOWHERE)
    with pytest.raises(Unavailable, match="the package index cannot be read") as raised:
        uv.resolve(["tiny"], TARGET, tmp_path)
    assert raised.value.code == "unreachable"


def test_a_lock_of_uv_is_exported_as_it_is(index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.setenv("UV_DEFAULT_INDEX", index)
    (project / "pyproject.toml").write_text(
        '[project]\nname = "mine"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["tiny<2"]\n'
    )
    subprocess.run([uv.program(), "lock", "--quiet"], cwd=project, check=True)
    monkeypatch.setenv("UV_DEFAULT_INDEX", NOWHERE)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "other"))
    files = wheels.chosen(uv.exported(project), TARGET, "uv.lock")
    assert [(file.name, file.version) for file in files] == [("tiny", "1")]
    (project / "uv.lock").write_text("nonsense")
    with pytest.raises(Invalid, match=r"uv\.lock cannot be read"):
        uv.exported(project)


def test_sources_of_r_are_noted_as_they_are_found(tmp_path: Path) -> None:
    r_repository.write(tmp_path / "cran")
    (tmp_path / "renv.lock").write_text(r_repository.lock((tmp_path / "cran").as_uri(), "4.4.1"))
    recipe = Recipe(Environment("r", toolchain="r"), "r", "r", (), folder=tmp_path, native="renv.lock")
    downloads, said = Downloads(tmp_path / "downloads"), []
    found = languages.native(recipe, LOCK, downloads, tmp_path, said.append)
    assert found is not None
    assert [(file.name, file.version) for file in found.files] == [("tinysum", "1.0-2"), ("tinytable", "0.1")]
    assert "/Archive/tinytable/" in found.files[1].url
    for file in found.files:
        source = Path(file.url.removeprefix("file://")).read_bytes()
        assert (file.sha256, file.size) == (hashlib.sha256(source).hexdigest(), len(source))
    assert languages.tools(found, downloads) == ("r-base-dev",)
    assert "made with R 4.4.1, and the image has R 4.5.0" in said[0]
    assert outdated(_with(found), tmp_path) == [("tinytable", "0.1", "0.2")]
    (tmp_path / "renv.lock").write_text(
        r_repository.lock((tmp_path / "cran").as_uri(), gone={"Package": "gone", "Version": "3.0"})
    )
    with pytest.raises(Invalid, match=r"no repository has gone 3\.0") as raised:
        languages.native(recipe, LOCK, downloads, tmp_path, silent)
    assert raised.value.code == "unknown_package"


def _with(native: Native) -> Lock:
    return replace(LOCK, native=native)


def _wheel(path: Path, name: str, version: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    files = {
        f"{name}.py": f"version = {version!r}\n",
        f"{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{name}-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{key},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},\n"
        for key, text in files.items()
    )
    with zipfile.ZipFile(path, "w") as archive:
        for key, text in {**files, f"{name}-{version}.dist-info/RECORD": record}.items():
            archive.writestr(key, text)
