"""`ground env`: from ground.toml to a lock to an image, with a real Debian suite."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

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
NO_NETWORK = {"GROUND_DEBIAN_MIRROR": "http://127.0.0.1:9", "GROUND_DEBIAN_SECURITY_MIRROR": "http://127.0.0.1:9"}


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    found = Ground(tmp_path)
    (found.work / "ground.toml").write_text(SPEC)
    yield found
    found.close()


def run(ground: Ground, *words: str, code: int = 0, **variables: str) -> str:
    done = subprocess.run(
        ["ground", *words],
        cwd=ground.work,
        env={**ground.env, **variables},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr if code else done.stdout


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

    assert json.loads(run(ground, "env", "pool", "-o", "pool", "--json"))["files"] > 60
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


def test_what_is_wrong_is_named_before_anything_is_fetched(ground: Ground) -> None:
    assert "has no environment 'nope'" in run(ground, "env", "lock", "nope", code=2)
    assert "ground env lock tools" in run(ground, "env", "show", "tools", code=2)
    rows = json.loads(run(ground, "env", "list", "--json"))
    assert {row["name"]: row["state"] for row in rows} == {"tools": "not locked", "plain": "not locked"}
    for toolchain, said in (
        ('"r@9"', "no version '9' of r"),
        ('"matlab@R2024b"', "needs a licence"),
        ('"cobol"', "cobol"),
    ):
        (ground.work / "ground.toml").write_text(f'[project]\nname = "t"\n[environments.x]\ntoolchain = {toolchain}\n')
        assert said in run(ground, "env", "lock", code=2)
    os.remove(ground.work / "ground.toml")
    assert "there is no ground.toml" in run(ground, "env", "list", code=2)


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
