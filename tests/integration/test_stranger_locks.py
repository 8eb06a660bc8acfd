"""Locks and files of packages that strangers name: what they reach of the host that builds them, which is nothing."""

from __future__ import annotations

import http.server
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from groundplane.images import languages, renv, uv, wheels
from groundplane.images.downloads import Downloads, Wanted
from groundplane.images.languages import native
from groundplane.model.environments import Environment
from groundplane.model.errors import GroundError, Invalid, Unavailable
from groundplane.model.locks import Native
from groundplane.model.requests import Context, EnvironmentRequest
from groundplane.services import locking, shelf
from groundplane.services.access import Actor
from groundplane.services.downloads import opened_for_strangers
from groundplane.spi.images import Recipe
from groundplane.store.database import sqlite_url
from tests import r_repository
from tests.integration.test_package_files import LOCK, TARGET, index, own_settings, silent
from tests.parts import require
from tests.planes import ME, Ground

__all__ = ("index", "own_settings")  # fixtures
STRANGER = Actor(ME.name, "owner", source="192.0.2.7", credential="token")


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """The address of a server of this host alone, and what it was asked for."""
    paths: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"private")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", paths
    server.shutdown()
    server.server_close()


def strangers(folder: Path) -> Downloads:
    return Downloads(folder / "downloads", opened_for_strangers)


def recipe(folder: Path, name: str = "", *packages: str) -> Recipe:
    kind = "r" if name == "renv.lock" else "python"
    return Recipe(Environment("x", toolchain=kind), kind, kind, (), folder=folder, native=name, python=packages)


def pylock(url: str) -> str:
    return f"""lock-version = "1.0"
created-by = "somebody"
[[packages]]
name = "tiny"
version = "1"
[[packages.wheels]]
name = "tiny-1-py3-none-any.whl"
url = "{url}/tiny-1-py3-none-any.whl"
hashes = {{ sha256 = "{"a" * 64}" }}
"""


def test_an_address_of_this_host_in_a_pylock_is_not_asked(
    asked: tuple[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, paths = asked
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    (tmp_path / "pylock.toml").write_text(pylock(address))
    with pytest.raises(Unavailable, match="address of the control plane's own host"):
        native(recipe(tmp_path, "pylock.toml"), LOCK, strangers(tmp_path), tmp_path, silent)
    assert paths == []
    with pytest.raises(Unavailable, match="not what the lock names"):
        native(recipe(tmp_path, "pylock.toml"), LOCK, Downloads(tmp_path / "own"), tmp_path, silent)
    assert paths, "its owner may ask himself"
    for url in (f"file://{tmp_path}", "ftp://127.0.0.1", "http://169.254.169.254", "http://[::1]:80", "nonsense"):
        (tmp_path / "pylock.toml").write_text(pylock(url))
        with pytest.raises(GroundError):
            native(recipe(tmp_path, "pylock.toml"), LOCK, strangers(tmp_path), tmp_path, silent)


@pytest.mark.parametrize(
    ("old", "new"), [("a" * 64, "../../etc/passwd"), ("tiny-1-py3-none-any.whl", "../tiny-1-py3-none-any.whl")]
)
def test_a_digest_or_a_name_that_is_a_path_is_refused(old: str, new: str, tmp_path: Path) -> None:
    """Files are kept under their digests, and unpacked under their names."""
    (tmp_path / "pylock.toml").write_text(pylock("https://index.example").replace(old, new))
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("x")
    downloads = Downloads(tmp_path / "home" / "downloads", opened_for_strangers)
    (tmp_path / "home" / "downloads").mkdir(parents=True)
    said: list[str] = []
    with pytest.raises(Invalid):
        native(recipe(tmp_path, "pylock.toml"), LOCK, downloads, tmp_path, said.append)
    assert said == []


def test_a_file_of_this_host_in_an_renv_lock_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    r_repository.write(tmp_path / "cran")
    address = (tmp_path / "cran").as_uri()
    (tmp_path / "renv.lock").write_text(r_repository.lock(address, "4.5.0"))
    with pytest.raises(GroundError, match="address of the control plane's own host"):
        native(recipe(tmp_path, "renv.lock"), LOCK, strangers(tmp_path), tmp_path, silent)
    locked = replace(LOCK, native=Native("renv", r_repository.lock(address), "", ()))
    with pytest.raises(Unavailable, match="cannot be read"):
        renv.latest(locked.native.text if locked.native else "", strangers(tmp_path))
    monkeypatch.setenv(renv.OVERRIDE, address)  # what the platform's owner has set
    found = native(recipe(tmp_path, "renv.lock"), LOCK, strangers(tmp_path), tmp_path, silent)
    assert found is not None and [file.name for file in found.files] == ["tinysum", "tinytable"]
    monkeypatch.delenv(renv.OVERRIDE)
    (file, *_) = found.files
    assert strangers(tmp_path).has(file.sha256, file.size)


def test_an_index_of_this_host_that_its_owner_has_set_goes_on_working(
    index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", index)
    text = uv.resolve(["tiny<2"], TARGET, tmp_path)
    files = wheels.chosen(text, TARGET, "pylock.toml")
    locked = replace(LOCK, native=Native("pylock", text, "", files))
    (path,) = languages.fetched(locked, strangers(tmp_path), None, tmp_path, silent)
    assert path.stat().st_size > 0
    found = native(recipe(tmp_path, "", "tiny<2"), LOCK, strangers(tmp_path / "fresh"), tmp_path, silent)
    assert found is not None and [file.version for file in found.files] == ["1"]


def test_how_uv_works_is_not_for_a_strangers_project_to_say(
    index: str, asked: tuple[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, paths = asked
    monkeypatch.setenv("UV_DEFAULT_INDEX", index)
    monkeypatch.delenv("UV_NO_CONFIG")
    monkeypatch.delenv("UV_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    project, scratch = tmp_path / "project", tmp_path / "scratch"
    project.mkdir()
    scratch.mkdir()
    settings = f'cache-dir = "{tmp_path / "evil"}"\nextra-index-url = ["{address}/simple"]\nfind-links = ["/etc"]\n'
    (project / "uv.toml").write_text(settings)
    (project / "pip.conf").write_text(f"[global]\nindex-url = {address}/simple\n")
    said: list[str] = []
    found = native(recipe(project, "", "tiny"), LOCK, strangers(tmp_path), scratch, said.append)
    assert found is not None and [file.name for file in found.files] == ["tiny"]
    assert paths == [] and not (tmp_path / "evil").exists()
    assert any("uv.toml says how uv works, and does not count here" in line for line in said)
    with pytest.raises(GroundError):  # what the server says is no index
        native(recipe(project, "", "tiny"), LOCK, Downloads(tmp_path / "own"), scratch, silent)
    assert paths and (tmp_path / "evil").exists(), "its owner's own project may say it"


def test_a_uv_lock_writes_nothing_and_reads_nothing_but_its_folder(
    index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", index)
    monkeypatch.delenv("UV_NO_CONFIG")
    monkeypatch.delenv("UV_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    project, evil, started = tmp_path / "project", tmp_path / "evil", tmp_path / "started"
    (project / ".venv" / "bin").mkdir(parents=True)
    plain = '[project]\nname = "mine"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["tiny<2"]\n'
    (project / "pyproject.toml").write_text(plain)
    subprocess.run([uv.program(), "lock", "--quiet"], cwd=project, check=True)
    (project / ".venv" / "pyvenv.cfg").write_text("home = /usr/bin\nversion_info = 3.11.7\n")
    for name in ("python", "python3"):
        (project / ".venv" / "bin" / name).write_text(f"#!/bin/sh\n: > {started}\n")
        (project / ".venv" / "bin" / name).chmod(0o755)
    (project / "pyproject.toml").write_text(f'{plain}[tool.uv]\ncache-dir = "{evil}"\n')
    assert "tiny" in uv.exported(project)
    assert not evil.exists() and not started.exists()
    for member in ("../*", "/etc"):
        (project / "pyproject.toml").write_text(f'{plain}[tool.uv.workspace]\nmembers = ["{member}"]\n')
        with pytest.raises(Invalid, match="lies outside of the project"):
            uv.exported(project)


@pytest.mark.parametrize(
    "wanted",
    [
        "-r /etc/passwd",
        "--index-url http://127.0.0.1/simple",
        "-e .",
        "--find-links=/etc",
        "git+https://example.org/x.git",
        "x @ git+ssh://example.org/x.git",
        "x @ file:///etc/passwd",
        "x @ http://127.0.0.1/x-1-py3-none-any.whl",
        "/etc/passwd",
        "./x",
        "../x-1-py3-none-any.whl",
        'x; python_version > "3\n-r /etc/passwd\n"',
    ],
)
def test_what_is_no_package_of_an_index_is_refused_by_name(wanted: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid) as refused:
        native(recipe(tmp_path, "", "tiny", wanted), LOCK, strangers(tmp_path), tmp_path, silent)
    assert repr(wanted) in refused.value.message and refused.value.hint


def test_what_another_address_gave_is_no_debian_package(tmp_path: Path) -> None:
    """Its scripts would run as root: only a mirror brings one, whatever else lies here under its digest."""
    body = b"not of a mirror"
    given = tmp_path / "given"
    given.write_bytes(body)
    downloads = shelf.downloads(tmp_path)
    path, _ = downloads.discover(name="x", urls=[given.as_uri()], named=[], progress=silent)
    debs = downloads.apart("debian")
    assert not debs.has(path.name, len(body))
    with pytest.raises(Unavailable):
        debs.get_all([Wanted("x.deb", path.name, len(body), ("http://127.0.0.1:9/x.deb",))], None, silent)
    assert downloads.clear() == len(body)


SPEC = '[project]\nname = "trial"\n[environments.py]\ntoolchain = "python@3.13"\n'


@pytest.mark.timeout(200)
def test_whoever_locks_over_tcp_is_a_stranger(
    local_on: Callable[[str], Ground],
    tmp_path: Path,
    asked: tuple[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for part in ("mmdebstrap", "debian-mirror"):
        require(part)
    ground = local_on(sqlite_url(tmp_path / "ground.db"))
    address, paths = asked
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    (ground.project / "pylock.toml").write_text(pylock(address))
    wanted = EnvironmentRequest(str(ground.project), Context("/", {}), SPEC)
    said: dict[str, Any] = {}
    for who in (STRANGER, ME):
        with pytest.raises(Unavailable) as failed:
            locking.lock(ground.platform, who, wanted, silent)
        said[who.source] = failed.value.message, list(paths)
    assert "an address of the control plane's own host" in said[STRANGER.source][0] and said[STRANGER.source][1] == []
    assert "not what the lock names" in said[ME.source][0] and said[ME.source][1] != []
