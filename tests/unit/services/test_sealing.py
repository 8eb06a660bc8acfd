"""Envelopes: what opens them and what does not."""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from groundplane.model.errors import GroundError, Invalid, Unavailable
from groundplane.services import sealing

BOUND = ("trial", "token", 3)


@pytest.fixture(autouse=True)
def no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GROUND_SECRETS_KEY", "VAULT_ADDR", "VAULT_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def test_it_opens_for_what_it_is_bound_to_and_for_nothing_else(tmp_path: Path) -> None:
    value = os.urandom(100)
    envelope = sealing.seal(tmp_path, value, *BOUND)
    assert sealing.open_(tmp_path, envelope, "it", *BOUND) == value
    assert value not in envelope.sealed + envelope.wrapped
    for other in (("trial", "token", 2), ("", "token", 3), ("trial", "tokem", 3), ("trialtoken", "", 3)):
        with pytest.raises(Unavailable, match="changed it"):
            sealing.open_(tmp_path, envelope, "it", *other)


def test_each_has_a_key_of_its_own(tmp_path: Path) -> None:
    one, two = (sealing.seal(tmp_path, b"same", *BOUND) for _ in range(2))
    assert one.wrapped != two.wrapped and one.sealed != two.sealed
    for mixed in (replace(one, wrapped=two.wrapped), replace(one, sealed=two.sealed)):
        with pytest.raises(Unavailable, match="changed it"):
            sealing.open_(tmp_path, mixed, "it", *BOUND)


@pytest.mark.parametrize("part", ["wrapped", "sealed"])
def test_one_bit_is_found(tmp_path: Path, part: str) -> None:
    envelope = sealing.seal(tmp_path, b"value", *BOUND)
    for at in range(len(getattr(envelope, part))):
        changed = bytearray(getattr(envelope, part))
        changed[at] ^= 1
        with pytest.raises(Unavailable, match="changed it"):
            sealing.open_(tmp_path, replace(envelope, **{part: bytes(changed)}), "it", *BOUND)


def test_a_key_file_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "kek"
    monkeypatch.setenv("GROUND_SECRETS_KEY", str(key))
    with pytest.raises(Unavailable, match="No such file"):
        sealing.seal(tmp_path, b"x", *BOUND)
    key.write_bytes(b"short")
    key.chmod(0o600)
    with pytest.raises(Invalid, match="5 bytes"):
        sealing.seal(tmp_path, b"x", *BOUND)
    key.write_bytes(os.urandom(32))
    envelope = sealing.seal(tmp_path, b"x", *BOUND)
    assert not (tmp_path / "key").exists(), "the home's key is not needed"
    monkeypatch.delenv("GROUND_SECRETS_KEY")
    with pytest.raises(Unavailable, match="was sealed by key") as refused:
        sealing.open_(tmp_path, envelope, "it", *BOUND)
    assert refused.value.code == "sealed_elsewhere"


class StandIn(BaseHTTPRequestHandler):
    """Speaks what the transit engine's documentation says of encrypt and decrypt. Neither a Vault nor an OpenBao could
    be had here: that they answer so is not tested."""

    keys: ClassVar[dict[str, str]] = {}

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["X-Vault-Token"] != "s.token" or not self.path.endswith("/ours"):
            self.send_error(403)
            return
        if self.path == "/v1/transit/encrypt/ours":
            data = {"ciphertext": f"vault:v1:{base64.b64encode(asked['plaintext'].encode()[::-1]).decode()}"}
        else:
            assert self.path == "/v1/transit/decrypt/ours"
            data = {"plaintext": base64.b64decode(asked["ciphertext"].removeprefix("vault:v1:"))[::-1].decode()}
        body = json.dumps({"data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), StandIn) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("VAULT_ADDR", address)
        monkeypatch.setenv("VAULT_TOKEN", "s.token")
        yield address
        server.shutdown()
        thread.join()


def test_a_vault_wraps(tmp_path: Path, vault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUND_SECRETS_KEY", "vault:transit/ours")
    envelope = sealing.seal(tmp_path, b"value", *BOUND)
    assert envelope.keeper == "vault transit/ours" and envelope.wrapped.startswith(b"vault:v1:")
    assert sealing.open_(tmp_path, envelope, "it", *BOUND) == b"value"
    monkeypatch.setenv("VAULT_TOKEN", "s.other")
    with pytest.raises(Unavailable, match="answers 403") as refused:
        sealing.seal(tmp_path, b"value", *BOUND)
    assert "s.other" not in str(refused.value.message)


@pytest.mark.parametrize(
    ("key", "address", "says"),
    [("transit/ours", "", "VAULT_ADDR"), ("ours", "http://127.0.0.1:1", "names no key"),
     ("transit/ours", "http://127.0.0.1:1", "does not answer")],
)  # fmt: skip
def test_a_vault_that_cannot_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, address: str, says: str
) -> None:
    monkeypatch.setenv("GROUND_SECRETS_KEY", f"vault:{key}")
    monkeypatch.setenv("VAULT_ADDR", address)
    monkeypatch.setenv("VAULT_TOKEN", "t")
    with pytest.raises(GroundError, match=says):
        sealing.seal(tmp_path, b"value", *BOUND)
