"""Images into registries: a small one that asks who it is, and Docker's own."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import socket
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from groundplane.images.store import ImageStore
from groundplane.model.errors import Denied, Invalid, NotFound, Outside
from groundplane.oci import reference, registry
from groundplane.spi.images import Image
from tests import docker_engine
from tests.cut_socket import relay
from tests.docker_engine import responds
from tests.parts import require


def digest_of(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


class Handler(BaseHTTPRequestHandler):
    """As much of a registry as pushes need; `server` says what it asks for and how it misbehaves."""

    protocol_version = "HTTP/1.1"
    server: Small

    def log_message(self, *_: object) -> None: ...

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_any(self) -> None:
        server, url = self.server, urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        query = {name: value[0] for name, value in parse_qs(url.query).items()}
        server.seen.append((self.command, url.path, query))
        allowed = self.headers.get("Authorization", "")
        if url.path == "/token":
            server.tokens.append((allowed, parse_qs(body.decode()) if body else parse_qs(url.query)))
            good = allowed == server.basic or b"refresh_token=idt" in body
            self.answer(
                200 if good else 401, json.dumps({"token": f"t{len(server.tokens)}"}).encode() if good else b"{}"
            )
            return
        if server.kind == "basic" and allowed != server.basic:
            self.answer(401, WWW_Authenticate='Basic realm="trial"')
            return
        if server.kind == "bearer" and not re.fullmatch(r"Bearer t\d+", allowed):
            realm = f"http://{server.address}/token"
            self.answer(401, WWW_Authenticate=f'Bearer realm="{realm}",service="trial",scope="x"')
            return
        if server.status and self.command != "HEAD":
            error = {"errors": [{"code": "DENIED", "message": "not you"}]}
            self.answer(server.status, json.dumps(error).encode())
            return
        self.content(url.path, query, body)

    do_HEAD = do_GET = do_POST = do_PUT = handle_any

    def content(self, path: str, query: dict[str, str], body: bytes) -> None:
        server = self.server
        if self.command in ("HEAD", "GET") and "/manifests/" in path:
            manifest = server.manifests.get(path)
            told = {"Docker_Content_Digest": digest_of(manifest)} if manifest and server.tells else {}
            self.answer(200 if manifest else 404, manifest or b"", **told)
        elif self.command == "HEAD":
            digest = path.rpartition("/")[2]
            size = len(server.blobs.get((path.split("/blobs/")[0], digest), b""))
            self.answer(200 if size else 404)
        elif self.command == "POST":
            if server.cut:  # once: the connection breaks in the middle of an upload
                server.cut = False
                self.close_connection = True
                return
            known = server.blobs.get((f"/v2/{query.get('from')}", query.get("mount", "")))
            if known is not None:
                server.blobs[path.split("/blobs/")[0], query["mount"]] = known
                self.answer(201)
            else:
                self.answer(202, Location=f"{path}1?state=a%2Fb")
        elif "/manifests/" in path:
            server.manifests[path] = body
            self.answer(201, Docker_Content_Digest=f"sha256:{hashlib.sha256(body).hexdigest()}")
        else:
            assert query["state"] == "a/b"
            assert query["digest"] == f"sha256:{hashlib.sha256(body).hexdigest()}"
            server.blobs[path.split("/blobs/")[0], query["digest"]] = body
            self.answer(201)


class Small(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server_address[1]}"
        self.basic = "Basic " + base64.b64encode(b"me:secret").decode()
        self.kind = ""
        self.status = 0
        self.cut = False
        self.tells = True  # digests of manifests in a header
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.tokens: list[tuple[str, dict[str, list[str]]]] = []
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.manifests: dict[str, bytes] = {}


@pytest.fixture
def small() -> Iterator[Small]:
    server = Small()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


def image(store: ImageStore, tmp_path: Path, *texts: str) -> Image:
    layers = []
    for text in texts:
        with tarfile.open(tmp_path / "layer.tar", "w") as out:
            entry = tarfile.TarInfo("file")
            entry.size = len(text)
            out.addfile(entry, io.BytesIO(text.encode()))
        layers.append(store.add_layer(tmp_path / "layer.tar"))
    return store.add_image(
        recipe="".join(texts), builder="debian", reference="x:1", layers=layers, config={}, epoch=0, built_at=1
    )


def push(store: ImageStore, made: Image, target: str, folder: Path, **more: Any) -> registry.Pushed:
    return registry.push(store.blob, made.manifest, reference.parse(target), lambda _: None, folder=folder, **more)


def login(folder: Path, address: str, **entry: str) -> None:
    (folder / "config.json").write_text(json.dumps({"auths": {address: entry}}))


def test_only_what_is_missing_is_uploaded(small: Small, store: ImageStore, tmp_path: Path) -> None:
    made = image(store, tmp_path, "one", "two")
    first = push(store, made, f"{small.address}/team/x:1", tmp_path)
    assert first == registry.Pushed(f"{small.address}/team/x:1", f"sha256:{made.manifest}", first.pushed_bytes, 0)
    assert small.manifests == {"/v2/team/x/manifests/1": store.blob(made.manifest).read_bytes()}
    uploaded = {digest: body for (_, digest), body in small.blobs.items()}
    assert uploaded == {
        f"sha256:{digest}": store.blob(digest).read_bytes()
        for digest in (made.config, *(layer.digest for layer in made.layers))
    }
    again = push(store, made, f"{small.address}/team/x", tmp_path)
    assert (again.pushed_bytes, again.skipped_bytes) == (0, first.pushed_bytes)
    assert "/v2/team/x/manifests/latest" in small.manifests


def test_another_repository_gives_what_it_has(small: Small, store: ImageStore, tmp_path: Path) -> None:
    made = image(store, tmp_path, "one", "two")
    whole = push(store, made, f"{small.address}/team/x:1", tmp_path).pushed_bytes
    done = push(store, made, f"{small.address}/team/y:1", tmp_path, beside=lambda _: "team/x")
    assert (done.pushed_bytes, done.skipped_bytes) == (0, whole)
    done = push(store, made, f"{small.address}/team/z:1", tmp_path, beside=lambda _: "team/nothing")
    assert (done.pushed_bytes, done.skipped_bytes) == (whole, 0)


@pytest.mark.parametrize("kind", ["basic", "bearer"])
def test_it_says_who_it_is_when_it_is_asked(kind: str, small: Small, store: ImageStore, tmp_path: Path) -> None:
    small.kind = kind
    made = image(store, tmp_path, "one")
    with pytest.raises(Denied) as raised:
        push(store, made, f"{small.address}/team/x:1", tmp_path)
    assert "docker login" in raised.value.hint
    login(tmp_path, small.address, username="me", password="wrong")
    with pytest.raises(Denied, match="'me'"):
        push(store, made, f"{small.address}/team/x:1", tmp_path)
    assert not small.blobs
    small.tokens.clear()
    login(tmp_path, small.address, auth=base64.b64encode(b"me:secret").decode())
    assert push(store, made, f"{small.address}/team/x:1", tmp_path).pushed_bytes
    assert [asked["scope"] for _, asked in small.tokens] == (
        [["repository:team/x:pull,push"]] if kind == "bearer" else []
    )


def test_an_identity_token_is_changed_for_one_of_the_registry(small: Small, store: ImageStore, tmp_path: Path) -> None:
    small.kind = "bearer"
    login(tmp_path, small.address, identitytoken="idt")
    assert push(store, image(store, tmp_path, "one"), f"{small.address}/x", tmp_path).pushed_bytes
    (_, form) = small.tokens[0]
    assert form["grant_type"] == ["refresh_token"]


@pytest.mark.parametrize("tells", [True, False])
def test_a_tag_is_resolved_to_the_digest_of_its_manifest(small: Small, tmp_path: Path, tells: bool) -> None:
    small.tells = tells
    index = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
    small.manifests["/v2/team/x/manifests/1"] = small.manifests["/v2/team/x/manifests/latest"] = index
    for name in (f"{small.address}/team/x:1", f"{small.address}/team/x"):
        assert registry.digest_of(reference.parse(name), folder=tmp_path) == digest_of(index)
    assert registry.digest_of(reference.parse(f"{small.address}/team/x:2"), folder=tmp_path) == ""
    missing = f"{small.address}/team/x:1@sha256:{'0' * 64}"
    assert registry.digest_of(reference.parse(missing), folder=tmp_path) == ""


@pytest.mark.parametrize("kind", ["basic", "bearer"])
def test_who_reads_asks_for_no_more_than_that(kind: str, small: Small, tmp_path: Path) -> None:
    small.kind = kind
    small.manifests["/v2/team/x/manifests/1"] = b"{}"
    target = reference.parse(f"{small.address}/team/x:1")
    with pytest.raises(Denied, match="an anonymous user"):
        registry.digest_of(target, folder=tmp_path)
    login(tmp_path, small.address, username="me", password="secret")
    assert registry.digest_of(target, folder=tmp_path) == digest_of(b"{}")
    assert all(asked["scope"] == ["repository:team/x:pull"] for _, asked in small.tokens)
    assert len(small.tokens) == (2 if kind == "bearer" else 0)


def test_a_registry_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(registry, "_ANSWERS_WITHIN", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = reference.parse(f"127.0.0.1:{silent.getsockname()[1]}/x:1")
        with pytest.raises(Outside, match="timed out") as told:
            registry.digest_of(target, folder=tmp_path)
        silent.accept()[0].close()
        silent.settimeout(0)
        with pytest.raises(BlockingIOError):  # it was asked once
            silent.accept()
    assert told.value.code == "registry_unavailable"


def test_an_upload_that_breaks_begins_anew(small: Small, store: ImageStore, tmp_path: Path) -> None:
    small.cut = True
    assert push(store, image(store, tmp_path, "one"), f"{small.address}/x", tmp_path).pushed_bytes


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (403, Denied, "not you"),
        (404, NotFound, "no repository"),
        (503, Outside, "DENIED"),
        (400, Outside, "status 400"),
    ],
)
def test_what_a_registry_refuses_is_told(
    status: int, kind: type[Exception], said: str, small: Small, store: ImageStore, tmp_path: Path
) -> None:
    small.status = status
    with pytest.raises(kind, match=said) as raised:
        push(store, image(store, tmp_path, "one"), f"{small.address}/team/x", tmp_path)
    assert small.address in str(raised.value)
    assert "team/x" in str(raised.value)


def test_a_registry_that_is_not_there(small: Small, store: ImageStore, tmp_path: Path) -> None:
    made = image(store, tmp_path, "one")
    with pytest.raises(Outside, match="Connection refused") as raised:
        push(store, made, "127.0.0.1:9/x", tmp_path)
    assert raised.value.code == "registry_unavailable"
    with pytest.raises(Invalid, match="names no registry"):
        push(store, made, "team/x", tmp_path)


def test_a_token_is_never_fetched_without_tls_from_elsewhere(small: Small, store: ImageStore, tmp_path: Path) -> None:
    small.kind = "bearer"
    small.address, real = "10.255.255.1:80", small.address
    login(tmp_path, real, username="me", password="secret")
    with pytest.raises(Outside, match="without TLS"):
        push(store, image(store, tmp_path, "one"), f"{real}/x", tmp_path)


def test_dockers_own_registry(docker_registry: str, store: ImageStore, tmp_path: Path) -> None:
    made = image(store, tmp_path, "one", "two")
    done = push(store, made, f"{docker_registry}/team/x:1", tmp_path)
    assert done.pushed_bytes > 0
    assert push(store, made, f"{docker_registry}/team/x:2", tmp_path).pushed_bytes == 0
    other = image(store, tmp_path, "one", "three")
    more = push(store, other, f"{docker_registry}/team/y:1", tmp_path, beside=lambda _: "team/x")
    assert more.skipped_bytes == other.layers[0].size
    assert responds(f"http://{docker_registry}/v2/team/x/blobs/sha256:{made.layers[1].digest}")
    damaged = tmp_path / "damaged"
    damaged.write_bytes(bytes(other.layers[1].size))
    with pytest.raises(Outside, match="status 400: DIGEST_INVALID"):
        registry.push(
            lambda digest: damaged if digest == other.layers[1].digest else store.blob(digest),
            other.manifest,
            reference.parse(f"{docker_registry}/team/z:1"),
            lambda _: None,
            folder=tmp_path,
        )


class Proxy(BaseHTTPRequestHandler):
    """A firm's proxy: it alone knows where `registry.test` is, and lets those through who say who they are."""

    server: ThreadingHTTPServer

    def log_message(self, *_: object) -> None: ...

    def do_CONNECT(self) -> None:
        self.server.asked.append(self.path)  # pyright: ignore[reportAttributeAccessIssue]
        if self.headers.get("Proxy-Authorization") != "Basic " + base64.b64encode(b"me:p@ss").decode():
            self.send_error(407)
            return
        with socket.create_connection(("127.0.0.1", int(self.path.rpartition(":")[2]))) as far:
            self.connection.sendall(b"HTTP/1.1 200 Connection established\r\nVia: trial\r\n\r\n")
            relay(self.connection, far)


@pytest.fixture
def behind_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[str]]]:
    """A registry with TLS that only a proxy reaches: its name, and what the proxy was asked for."""
    require("docker-registry")
    certificate = tmp_path / "registry.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", "/CN=registry.test", "-addext", "subjectAltName=DNS:registry.test",
         "-keyout", str(tmp_path / "key"), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.read_bytes() + (tmp_path / "key").read_bytes())
    with docker_engine.registry(tmp_path / "registry", both) as address:
        proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        proxy.daemon_threads = True
        proxy.asked = []  # pyright: ignore[reportAttributeAccessIssue]
        threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        for name in ("https_proxy", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:p%40ss@127.0.0.1:{proxy.server_address[1]}")
        yield f"registry.test:{address.rpartition(':')[2]}", proxy.asked  # pyright: ignore[reportAttributeAccessIssue]
        proxy.shutdown()
        proxy.server_close()


def test_a_registry_behind_a_proxy(
    behind_a_proxy: tuple[str, list[str]], store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, asked = behind_a_proxy
    made = image(store, tmp_path, "one", "two")
    assert push(store, made, f"{name}/team/x:1", tmp_path).pushed_bytes > 0
    assert push(store, made, f"{name}/team/x:2", tmp_path).pushed_bytes == 0
    assert set(asked) == {name}
    monkeypatch.setenv("HTTPS_PROXY", os.environ["HTTPS_PROXY"].replace("me:p%40ss@", ""))
    with pytest.raises(Outside, match=r"the proxy 127\.0\.0\.1 answered 407"):
        push(store, made, f"{name}/team/x:3", tmp_path)
    monkeypatch.setenv("NO_PROXY", "registry.test")
    with pytest.raises(Outside) as raised:  # whom nobody else knows
        push(store, made, f"{name}/team/x:3", tmp_path)
    assert "proxy" not in raised.value.message
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1080")
    with pytest.raises(Invalid, match=r"HTTPS_PROXY is socks5://127\.0\.0\.1"):
        push(store, made, f"{name}/team/x:3", tmp_path)
