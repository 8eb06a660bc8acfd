"""`ground env`: from ground.toml to a lock to an image, with a real Debian suite."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from groundplane.images import uv
from tests import r_repository
from tests.e2e.cli_ground import Ground
from tests.parts import require

SPEC = """
[project]
name = "trial"
[environments.tools]
toolchain = "shell"
system_packages = ["hello"]
[environments.plain]
toolchain = "shell"
"""
NO_NETWORK = {
    "GROUND_DEBIAN_MIRROR": "http://127.0.0.1:9",
    "GROUND_DEBIAN_SECURITY_MIRROR": "http://127.0.0.1:9",
    "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple",
}


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    found = Ground(tmp_path)
    (found.work / "ground.toml").write_text(SPEC)
    yield found
    found.close()


def run(ground: Ground, *words: str, code: int = 0, told: bool = False, **variables: str) -> str:
    """told: with what it says on standard error, which an error always is."""
    done = subprocess.run(
        ["ground", *words],
        cwd=ground.work,
        env={**ground.env, **variables},
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr if code or told else done.stdout


def test_lock_build_verify_and_again_from_a_pool(ground: Ground, tmp_path: Path) -> None:
    for part in ("root", "mmdebstrap", "debian-mirror"):
        require(part)
    assert "tools: locked: sh" in run(ground, "env", "lock")
    text = (ground.work / "ground.lock").read_text()
    assert 'name = "hello"' in text
    locked = json.loads(run(ground, "env", "lock", "--json"))
    assert locked["changed"] == []
    assert (ground.work / "ground.lock").read_text() == text

    shown = json.loads(run(ground, "env", "show", "tools", "--json"))
    plain = json.loads(run(ground, "env", "show", "plain", "--json"))
    assert shown["layers"][0] == plain["layers"][0]  # they stand on one base
    assert len(shown["layers"]) == 2
    assert {
        "name",
        "toolchain",
        "version",
        "engine",
        "lock_sha256",
        "image_digest",
        "layers",
        "packages",
        "size",
    } <= set(shown)
    assert {"provenance", "builder", "built_at"} <= set(shown)
    assert [p["name"] for p in shown["packages"] if p not in plain["packages"]] == ["hello"]
    assert "apt" not in [p["name"] for p in plain["packages"]]
    assert "+ hello" in run(ground, "env", "diff", "plain", "tools")
    assert json.loads(run(ground, "env", "build", "--json"))["environments"][0]["built"] is False
    assert "tools: ok" in run(ground, "env", "verify")
    assert json.loads(run(ground, "env", "sbom", "tools"))["specVersion"] == "1.6"
    assert Path(shown["provenance"]).read_text() == json.dumps(
        json.loads(run(ground, "env", "provenance", "tools")), sort_keys=True
    )
    assert json.loads(run(ground, "keys", "list", "--json"))[0]["algorithm"] == "ed25519"
    images = {row["name"].partition(":")[0]: row for row in json.loads(run(ground, "images", "list", "--json"))}
    assert images["groundplane/sh"]["shared_bytes"] > images["groundplane/sh"]["own_bytes"]

    files = json.loads(run(ground, "env", "pool", "-o", "pool", "--json"))["files"]
    assert files == len(list((ground.work / "pool").iterdir())) > 50
    other = Ground(tmp_path / "elsewhere")
    try:
        for name in ("ground.toml", "ground.lock"):
            shutil.copy(ground.work / name, other.work / name)
        built = json.loads(run(other, "env", "build", "--offline", str(ground.work / "pool"), "--json", **NO_NETWORK))
        assert built["environments"][0]["layers"] == shown["layers"]
        assert built["environments"][0]["image_digest"] == shown["image_digest"]
        _damage(other, shown["image_digest"])
        said = run(other, "env", "verify", code=1)
        assert "tools: changed" in said
        assert "has the digest" in said
    finally:
        other.close()


def _damage(ground: Ground, image_digest: str) -> None:
    """Changes the manifest of the image."""
    blob = Path(ground.env["GROUND_HOME"]) / "images" / "blobs" / "sha256" / image_digest.removeprefix("sha256:")
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes() + b" ")


PACKAGES = """
[project]
name = "trial"
[environments.listed]
toolchain = "python@3.13"
packages = ["markupsafe>=3", "tabulate"]
[environments.own]
toolchain = "python@3.13"
[environments.r]
toolchain = "r@4.5"
"""


@pytest.mark.timeout(800)
def test_a_languages_own_packages_are_a_layer_above_debians(ground: Ground, tmp_path: Path) -> None:
    """Python's by uv and by the project's own lock, R's from source; again elsewhere, from a pool and with no index."""
    for part in ("root", "mmdebstrap", "debian-mirror"):
        require(part)
    ground.write("ground.toml", PACKAGES)
    ground.write("pylock.toml", uv.resolve(["six"], uv.Target("3.13.5", 41, platform.machine()), ground.work))
    r_repository.write(tmp_path / "cran")
    ground.write("renv.lock", r_repository.lock((tmp_path / "cran").as_uri()))
    (tmp_path / "cran" / "src" / "contrib" / "PACKAGES").unlink()

    run(ground, "env", "lock", "listed", "own")
    run(ground, "env", "lock", "r")
    listed, own, r = (json.loads(run(ground, "env", "show", name, "--json")) for name in ("listed", "own", "r"))
    assert listed["layers"][:2] == own["layers"][:2]
    assert listed["layers"][2:] != own["layers"][2:]
    assert _own(listed) == ["markupsafe", "tabulate"]
    assert _own(own) == ["six"]
    assert _own(r) == ["tinysum", "tinytable"]
    assert "gcc" not in {package["name"] for package in r["packages"]}  # it compiled, and stayed behind
    assert "pkg:cran/tinysum@1.0-2" in run(ground, "env", "sbom", "r")
    assert run(ground, "env", "verify").count(": ok") == 3
    said = "import markupsafe._speedups, tabulate, os; print(tabulate.__file__, os.path.isfile(tabulate.__cached__))"
    python = "/usr/local/lib/python3.13/dist-packages/tabulate/__init__.py True\n"
    assert in_image(ground, listed, tmp_path / "listed", "python3", "-c", said) == python
    assert "name" in in_image(ground, listed, tmp_path / "listed", "/usr/local/bin/tabulate", "--help")
    assert "0.25" in in_image(ground, r, tmp_path / "r", "Rscript", "-e", "tinytable::share(c(1, 3))[1]")

    run(ground, "env", "pool", "listed", "-o", "pool")
    (wheel,) = (ground.work / "pool").glob("*-tabulate-*.whl")
    other = Ground(tmp_path / "elsewhere")
    try:
        for name in ("ground.toml", "ground.lock", "pylock.toml", "renv.lock"):
            shutil.copy(ground.work / name, other.work / name)
        for name in ("bases", "blobs"):  # Debian's layers are known there: those of the language are what is built
            shutil.copytree(ground.home / "images" / name, other.home / "images" / name)
        wheel.rename(tmp_path / wheel.name)
        offline = ("env", "build", "listed", "--offline", str(ground.work / "pool"), "--json")
        assert f"lacks {wheel.name.partition('-')[2]}" in run(other, *offline, code=3, **NO_NETWORK)
        (tmp_path / wheel.name).rename(wheel)
        built = json.loads(run(other, *offline, **NO_NETWORK))["environments"][0]
        assert (built["layers"], built["image_digest"]) == (listed["layers"], listed["image_digest"])
    finally:
        other.close()


def _own(shown: dict[str, Any]) -> list[str]:
    return [package["name"] for package in shown["packages"] if package["kind"] != "deb"]


def in_image(ground: Ground, shown: dict[str, Any], root: Path, *command: str) -> str:
    """What the command prints in the image, as its user."""
    blobs = ground.home / "images" / "blobs" / "sha256"
    if not root.is_dir():
        root.mkdir()
        manifest = json.loads((blobs / shown["image_digest"].removeprefix("sha256:")).read_bytes())
        for layer in manifest["layers"]:
            blob = blobs / layer["digest"].removeprefix("sha256:")
            subprocess.run(["tar", "-xzpf", blob, "--numeric-owner", "-C", root], check=True)
    done = subprocess.run(
        ["/usr/sbin/chroot", "--userspec=1000:1000", root, *command],
        env={"PATH": "/usr/bin:/bin", "HOME": "/home/ground", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_wrong_is_named_before_anything_is_fetched(ground: Ground) -> None:
    assert "has no environment 'nope'" in run(ground, "env", "lock", "nope", code=2)
    assert "ground env lock tools" in run(ground, "env", "show", "tools", code=2)
    rows = json.loads(run(ground, "env", "list", "--json"))
    assert {row["name"]: row["state"] for row in rows} == {"tools": "not locked", "plain": "not locked"}
    for toolchain, said in (
        ('"r@9"', "environment 'x': no version '9' of r"),
        ('"matlab@R2024b"', "environment 'x': matlab needs a licence"),
        ('"cobol"', "cobol"),
        ('"python"\nengine = "r"', "engine = 'r' is none of its engines"),
        ('"octave@9"\nengine = "matlab"', "engine = 'matlab' is none of its engines"),
    ):
        (ground.work / "ground.toml").write_text(f'[project]\nname = "t"\n[environments.x]\ntoolchain = {toolchain}\n')
        assert said in run(ground, "env", "lock", "x", code=2)
    os.remove(ground.work / "ground.toml")
    assert "there is no ground.toml" in run(ground, "env", "list", code=2)


def test_what_nobody_attested_holds_up_no_other(ground: Ground) -> None:
    spec = '[project]\nname = "t"\n[environments.m]\ntoolchain = "matlab@R2024b"\n'
    (ground.work / "ground.toml").write_text(spec)
    for action in ("lock", "build", "verify"):
        assert "ground env attest m --installer FILE" in run(ground, "env", action, told=True)
    assert "ground env attest m --installer FILE" in run(ground, "env", "show", "m", code=2)
    (ground.work / "ground.toml").write_text(f'{spec}[environments.r]\ntoolchain = "r@9"\n')
    assert "environment 'r': no version '9'" in run(ground, "env", "build", code=2)


def test_only_what_needs_a_licence_is_attested(ground: Ground) -> None:
    (ground.work / "installer.zip").write_bytes(b"installer")
    said = run(ground, "env", "attest", "plain", "--installer", "installer.zip", code=2)
    assert "needs no licence" in said
    assert not (ground.work / "ground.lock").exists()


def test_a_package_that_the_suite_lacks_is_named(ground: Ground) -> None:
    require("debian-mirror")
    (ground.work / "ground.toml").write_text(SPEC.replace('"hello"', '"helo"'))
    said = run(ground, "env", "lock", "tools", code=2)
    assert "trixie has no package helo" in said


def test_a_mirror_out_of_reach_is_named(ground: Ground) -> None:
    require("mmdebstrap")
    said = run(ground, "env", "lock", "tools", code=3, **NO_NETWORK)
    assert "the indices of trixie cannot be fetched" in said
    assert "GROUND_DEBIAN_MIRROR" in said


def test_a_licensed_engine_is_attested_and_only_that_one_runs(ground: Ground, tmp_path: Path) -> None:
    """`matlab` here is a stand-in: a shell script that prints a version and runs nothing. MATLAB itself is untested."""
    (ground.work / "ground.toml").write_text('[project]\nname = "t"\n[environments.m]\ntoolchain = "matlab@R2024b"\n')
    (ground.work / "fit.m").write_text("disp(1)\n")
    (ground.work / "installer.zip").write_bytes(b"installer")
    assert "your PATH has no matlab" in run(ground, "env", "attest", "m", "--installer", "installer.zip", code=2)
    program = tmp_path / "bin" / "matlab"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho stand-in\n")
    program.chmod(0o755)
    path = f"{program.parent}:{ground.env['PATH']}"
    row = json.loads(run(ground, "env", "attest", "m", "--installer", "installer.zip", "--json", PATH=path))
    assert (row["engine"], row["builder"], row["image_digest"]) == ("matlab", "attested", None)
    lock = (ground.work / "ground.lock").read_text()
    assert 'installer = "installer.zip"' in lock
    planned = json.loads(run(ground, "plan", "fit.m", "--env", "m", "--json", PATH=path))
    assert planned["steps"][0]["runs_in"] == "m"
    assert planned["steps"][0]["engine_path"] == str(program)
