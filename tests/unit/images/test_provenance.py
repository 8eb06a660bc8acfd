"""Signed provenance and bills of materials: what was altered is told."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundplane.images import keys, provenance, sbom
from groundplane.images.versions import newer
from groundplane.model.locks import Base, Deb, Lock
from groundplane.spi.images import Image, Layer

DEB = Deb("r-base-core", "4.5.0-3", "amd64", "a" * 64, 3, "pool/r.deb")
LOCK = Lock("r45", "d" * 64, "r", "r", "4.5.0", "/usr/bin/Rscript", "debian", Base("trixie", "amd64", 1, ()), (DEB,))
IMAGE = Image(
    LOCK.recipe, "debian", "groundplane/r:1", "b" * 64, "c" * 64, (Layer("e", "f", 1),), 1_700_000_000_000_000
)


def test_an_envelope_is_verified(tmp_path: Path) -> None:
    envelope = provenance.sign(LOCK, IMAGE, keys.signing(tmp_path))
    assert provenance.verify(envelope, keys.public(tmp_path), IMAGE, LOCK) == []
    statement = json.loads(base64.b64decode(json.loads(envelope)["payload"]))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    uris = [each["uri"] for each in statement["predicate"]["buildDefinition"]["resolvedDependencies"]]
    assert uris == ["pkg:deb/debian/r-base-core@4.5.0-3?arch=amd64&distro=trixie"]


def test_what_was_altered_is_told(tmp_path: Path) -> None:
    envelope = provenance.sign(LOCK, IMAGE, keys.signing(tmp_path))
    altered = json.loads(envelope)
    altered["payload"] = base64.b64encode(base64.b64decode(altered["payload"]).replace(b"4.5.0", b"4.5.1")).decode()
    public = keys.public(tmp_path)
    assert "altered" in provenance.verify(json.dumps(altered).encode(), public, IMAGE, LOCK)[0]
    for other in (b"{}", b"{", b"[]", b"\xff\xfe", b'{"payload": 1, "payloadType": 2, "signatures": []}'):
        assert "altered" in provenance.verify(other, public, IMAGE, LOCK)[0]
    assert "altered" in provenance.verify(envelope, keys.public(tmp_path / "other"), IMAGE, LOCK)[0]
    assert "of image" in provenance.verify(envelope, public, replace(IMAGE, manifest="0" * 64), LOCK)[0]
    assert "names lock" in provenance.verify(envelope, public, IMAGE, replace(LOCK, version="4.5.1"))[0]


def test_the_key_is_private_and_stays(tmp_path: Path) -> None:
    (first,) = keys.listing(tmp_path / "keys")
    assert (first["name"], first["algorithm"]) == ("provenance", "ed25519")
    assert first["public_key"].startswith("-----BEGIN PUBLIC KEY-----")
    assert keys.listing(tmp_path / "keys") == [first]
    assert (tmp_path / "keys" / "provenance.pem").stat().st_mode & 0o777 == 0o600


def test_a_bill_of_materials_names_every_package() -> None:
    body = json.loads(sbom.sbom(LOCK, IMAGE))
    assert (body["bomFormat"], body["specVersion"]) == ("CycloneDX", "1.6")
    assert [each["purl"] for each in body["components"]] == [
        "pkg:deb/debian/r-base-core@4.5.0-3?arch=amd64&distro=trixie"
    ]
    assert body["components"][0]["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    assert sbom.sbom(LOCK, IMAGE) == sbom.sbom(LOCK, IMAGE)


part = st.from_regex(r"[0-9][0-9a-z.+~]{0,5}", fullmatch=True)
versions = st.builds(lambda a, b: f"{a}-{b}" if b else a, part, st.none() | part)


@given(versions, versions)
def test_versions_are_ordered_as_dpkg_orders_them(a: str, b: str) -> None:
    if shutil.which("dpkg") is None:
        pytest.skip("this machine has no dpkg to compare with")
    known = subprocess.run(["dpkg", "--compare-versions", a, "gt", b], check=False, stderr=subprocess.DEVNULL)
    assert newer(a, b) == (known.returncode == 0)
