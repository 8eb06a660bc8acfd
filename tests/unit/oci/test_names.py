"""Names of images, and where Docker keeps what registries want to know."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from groundplane.images import pulls
from groundplane.model.errors import GroundError, Invalid, NotFound, Outside, Unavailable
from groundplane.oci import credentials, reference
from groundplane.oci.credentials import Credentials
from groundplane.oci.engine import Refused
from groundplane.oci.reference import Reference
from groundplane.oci.registry import is_plain

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("python", Reference("", "python")),
        ("team/python:3.13", Reference("", "team/python", "3.13")),
        ("localhost/a", Reference("localhost", "a")),
        ("host.example/a/b:t", Reference("host.example", "a/b", "t")),
        ("127.0.0.1:5000/a", Reference("127.0.0.1:5000", "a")),
        (f"[::1]:5000/a@{DIGEST}", Reference("[::1]:5000", "a", "", DIGEST)),
    ],
)
def test_what_a_name_means(text: str, found: Reference) -> None:
    assert reference.parse(text) == found
    assert str(found) == text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("python:3", "docker.io/library/python:3"),
        ("team/x", "docker.io/team/x"),
        (f"docker.io/python@{DIGEST}", f"docker.io/library/python@{DIGEST}"),
        ("localhost/a:1", "localhost/a:1"),
    ],
)
def test_a_name_without_a_registry_is_the_hubs(text: str, found: str) -> None:
    assert str(reference.parse(text).full) == found


@pytest.mark.parametrize(
    "text", ["", "UPPER", "a:b:c", "a@sha256:1", "h.example/../a", "a:", "h.example:port/a", "a b"]
)
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(Invalid):
        reference.parse(text)


def written(folder: Path, body: object) -> Path:
    (folder / "config.json").write_text(json.dumps(body))
    return folder


def test_credentials_of_docker_login(tmp_path: Path) -> None:
    assert credentials.of("host.example", tmp_path) is None
    auth = base64.b64encode(b"me:pass:word").decode()
    written(tmp_path, {"auths": {"https://host.example/v1/": {"auth": auth}, "other:5": {"identitytoken": "t"}}})
    assert credentials.of("host.example", tmp_path) == Credentials("me", "pass:word")
    assert credentials.of("other:5", tmp_path) == Credentials(token="t")
    assert credentials.of("third", tmp_path) is None
    assert "pass" not in repr(credentials.of("host.example", tmp_path))
    written(tmp_path, {"auths": {"https://index.docker.io/v1/": {"auth": auth}}})
    assert credentials.of("docker.io", tmp_path) == Credentials("me", "pass:word")
    written(tmp_path, {"auths": {"host.example": {"auth": "!"}}})
    with pytest.raises(Invalid, match="damaged"):
        credentials.of("host.example", tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(Invalid, match="cannot be read"):
        credentials.of("host.example", tmp_path)


def test_credentials_of_a_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, {"credsStore": "trial", "credHelpers": {"special:1": "none"}})
    with pytest.raises(Invalid, match="docker-credential-trial, which is not on PATH"):
        credentials.of("host.example", tmp_path)
    program = tmp_path / "docker-credential-trial"
    program.write_text(
        "#!/bin/sh\nread host || true\n"
        '[ "$1 $host" = "get host.example" ] && echo \'{"Username": "me", "Secret": "s"}\' && exit 0\n'
        '[ "$host" = token.example ] && echo \'{"Username": "<token>", "Secret": "t"}\' && exit 0\n'
        '[ "$host" = broken.example ] && echo locked && exit 1\n'
        "echo credentials not found in native keychain; exit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert credentials.of("host.example", tmp_path) == Credentials("me", "s")
    assert credentials.of("token.example", tmp_path) == Credentials(token="t")
    assert credentials.of("nobody.example", tmp_path) is None
    with pytest.raises(Invalid, match="locked"):
        credentials.of("broken.example", tmp_path)


def test_only_loopback_and_what_is_named_is_without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(map(is_plain, ("localhost:5000", "127.0.0.1", "127.9.9.9:1", "[::1]:5000")))
    assert not any(map(is_plain, ("localhost.example", "127.0.0.1.example", "10.0.0.1:5000", "")))
    monkeypatch.setenv("GROUND_INSECURE_REGISTRIES", "10.0.0.1:5000, two.example")
    assert is_plain("10.0.0.1:5000")
    assert is_plain("two.example")
    assert not is_plain("10.0.0.1")


@pytest.mark.parametrize(
    ("status", "said", "kind", "code"),
    [
        (404, "manifest for x:1 not found: manifest unknown: manifest unknown", NotFound, "image_missing"),
        (404, "pull access denied for x, repository does not exist or may require", NotFound, "image_missing"),
        (500, 'Get "https://h/v2/": dial tcp: lookup h: no such host', Outside, "registry_unavailable"),
        (500, "Get https://h/v2/: x509: certificate signed by unknown authority", Outside, "registry_unavailable"),
        (500, "write /var/x: no space left on device", Unavailable, "no_space"),
        (500, "something else", Outside, "backend_unavailable"),
    ],
)  # fmt: skip
def test_what_an_engine_says_of_a_pull_is_sorted(status: int, said: str, kind: type[GroundError], code: str) -> None:
    found = pulls.told(Refused(status, said), "h.example/x:1")
    assert (type(found), found.code) == (kind, code)
    assert said in found.message
    assert found.hint


def test_the_digest_is_of_the_repository_that_was_named() -> None:
    known = [f"h.example/x@{DIGEST}", "python@sha256:" + "b" * 64]
    assert pulls._digest("h.example/x:1", known) == DIGEST
    assert pulls._digest("python:3.13", known) == "sha256:" + "b" * 64
    assert pulls._digest("default.example/library/python:3", known) == "sha256:" + "b" * 64
    assert pulls._digest("other/x:1", known) == ""
    assert pulls._digest("a" * 64, known) == ""
