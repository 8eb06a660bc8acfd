"""The blob store in S3 against a real server: every method, urls used without credentials, each failure by name."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from groundplane.blobs import s3
from groundplane.model.errors import Invalid, Unavailable
from groundplane.spi.blobs import BlobStore, open_store
from tests.parts import require


@pytest.fixture(scope="module")
def running():
    """One server a module, with the bucket `trial`."""
    require("s3")
    from tests.s3_server import server

    with server() as made:
        made.make_bucket("trial")
        yield made


@pytest.fixture
def stopped():
    """A server of a test's own, to be stopped and started."""
    require("s3")
    from tests.s3_server import server

    with server() as made:
        made.make_bucket("trial")
        yield made


@pytest.fixture
def store(running, request: pytest.FixtureRequest) -> BlobStore:
    """A store with a prefix that no other test has."""
    return open_store(f"s3://trial/ground/{request.node.name}/", running.variables)


def ask(method: str, url: str, body: bytes | None = None) -> tuple[int, bytes]:
    """One plain request, as a pod without credentials makes it."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=20)
    try:
        connection.request(method, f"{parts.path}?{parts.query}", body=body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_bytes_and_files_come_back_as_they_went(store: BlobStore, tmp_path: Path) -> None:
    source = tmp_path / "model.bin"
    source.write_bytes(os.urandom(70_000))
    store.put("a/modèle é+%20 &.bin", source)
    store.put("a/empty", b"")
    store.put("a/small", b"first")
    store.put("a/small", b"second")
    assert store.read("a/small") == b"second"
    assert store.read("a/empty") == b""
    assert store.fetch("a/modèle é+%20 &.bin", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    assert store.has("a/empty")
    assert list(store.listing("a/")) == ["a/empty", "a/modèle é+%20 &.bin", "a/small"]


def test_what_is_not_there_is_told_without_an_error(store: BlobStore, tmp_path: Path) -> None:
    assert store.read("nothing") is None
    assert not store.has("nothing")
    assert not store.fetch("nothing", tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    assert list(store.listing("")) == []
    store.delete(["nothing"])
    store.delete([])


def test_a_file_that_is_there_is_not_written_over(store: BlobStore, tmp_path: Path) -> None:
    target = tmp_path / "mine"
    target.write_bytes(b"precious")
    store.put("x", b"other")
    with pytest.raises(FileExistsError):
        store.fetch("x", target)
    assert target.read_bytes() == b"precious"


def test_a_listing_is_of_the_prefix_and_a_deletion_of_the_keys(running, store: BlobStore) -> None:
    beside = open_store("s3://trial/ground-beside", running.variables)
    beside.put("run/1", b"beside")
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: store.put(f"run/{number:04}", b"x"), range(1105)))  # more than a page
    store.put("other", b"kept")
    assert list(store.listing("run/")) == [f"run/{number:04}" for number in range(1105)]
    assert list(store.listing("run/110")) == [f"run/{number}" for number in range(1100, 1105)]
    store.delete(store.listing("run/"))
    assert list(store.listing("")) == ["other"]
    assert list(beside.listing("")) == ["run/1"]


def test_a_store_without_a_prefix_is_the_whole_bucket(running) -> None:
    running.make_bucket("whole")
    store = open_store("s3://whole", running.variables)
    store.put("top", b"1")
    assert store.read("top") == b"1"
    assert list(store.listing("")) == ["top"]
    store.check()
    assert list(store.listing("")) == ["top"], "a check leaves nothing behind"


def test_a_large_file_goes_up_in_parts(store: BlobStore, tmp_path: Path) -> None:
    source = tmp_path / "large"
    source.write_bytes(os.urandom(20 << 20))
    assert source.stat().st_size > s3._PART
    store.put("large", source)
    assert store.fetch("large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


def test_two_threads_at_once_get_each_its_own(store: BlobStore, tmp_path: Path) -> None:
    def work(name: int) -> None:
        for turn in range(20):
            content = f"{name} {turn}".encode() * 1000
            store.put(f"{name}/{turn}", content)
            assert store.read(f"{name}/{turn}") == content
            assert store.fetch(f"{name}/{turn}", tmp_path / f"{name}-{turn}")
            assert (tmp_path / f"{name}-{turn}").read_bytes() == content

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))
    assert len(list(store.listing(""))) == 40


def test_signed_urls_serve_whoever_has_them(store: BlobStore) -> None:
    content = os.urandom(3 << 20)
    put = store.signed_put("in/données 1.csv", 60)
    assert ask("PUT", put, content)[0] == 200
    assert store.read("in/données 1.csv") == content
    assert ask("GET", store.signed_get("in/données 1.csv", 60)) == (200, content)
    assert ask("GET", store.signed_get("in/nothing", 60))[0] == 404


def test_a_signed_url_is_good_for_its_call_and_key_alone(store: BlobStore) -> None:
    store.put("mine", b"mine")
    store.put("other", b"other")
    get = store.signed_get("mine", 60)
    assert ask("PUT", get, b"changed")[0] == 403
    assert ask("GET", get.replace("mine?", "other?"))[0] == 403
    assert ask("GET", get.partition("?")[0])[0] == 403
    assert store.read("mine") == b"mine"


def test_a_signed_url_that_has_expired_is_refused(store: BlobStore) -> None:
    store.put("x", b"x")
    get, put = store.signed_get("x", 1), store.signed_put("x", 1)
    time.sleep(2.5)  # the server's clock has whole seconds
    assert ask("GET", get)[0] == 403
    assert ask("PUT", put, b"late")[0] == 403
    assert store.read("x") == b"x"


CALLS: dict[str, Callable[[BlobStore, Path], object]] = {
    "put": lambda store, _: store.put("x", b"x"),
    "put in parts": lambda store, folder: store.put("x", large(folder)),
    "fetch": lambda store, folder: store.fetch("x", folder / "x"),
    "read": lambda store, _: store.read("x"),
    "has": lambda store, _: store.has("x"),
    "delete": lambda store, _: store.delete(["x"]),
    "listing": lambda store, _: list(store.listing("")),
    "check": lambda store, _: store.check(),
}


def large(folder: Path) -> Path:
    """A file of more than one part, without a byte on the disk."""
    path = folder / "large"
    with path.open("wb") as file:
        file.truncate(s3._PART + 1)
    return path


def refused(store: BlobStore, call: str, folder: Path) -> Unavailable:
    with pytest.raises(Unavailable) as raised:
        CALLS[call](store, folder)
    assert raised.value.code == "storage_unavailable"
    assert raised.value.hint
    return raised.value


@pytest.mark.parametrize("call", CALLS)
def test_a_missing_bucket_is_named(running, tmp_path: Path, call: str) -> None:
    error = refused(open_store("s3://missing/p", running.variables), call, tmp_path)
    assert error.message == f"bucket missing at {running.url}: there is no such bucket"
    assert "make it" in error.hint


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_secret_is_named(running, tmp_path: Path, call: str) -> None:
    wrong = {**running.variables, "AWS_SECRET_ACCESS_KEY": "wrong"}
    error = refused(open_store("s3://trial/p", wrong), call, tmp_path)
    assert error.message.startswith(f"bucket trial at {running.url}: ")
    assert "secret key" in error.message or call == "has"  # the answer to a HEAD is only a status
    assert "access key" in error.message


def test_an_unknown_access_key_is_named(running) -> None:
    store = open_store("s3://trial/p", {**running.variables, "AWS_ACCESS_KEY_ID": "AKUNKNOWN"})
    with pytest.raises(Unavailable) as raised:
        store.check()
    assert raised.value.message == f"bucket trial at {running.url}: it does not know the access key"
    assert "AWS_ACCESS_KEY_ID" in raised.value.hint


def test_a_server_that_is_down_is_named_soon_and_its_return_is_noticed(stopped, tmp_path: Path) -> None:
    store = open_store("s3://trial/p", stopped.variables)
    store.put("x", b"x")
    stopped.stop()
    for call in CALLS:
        begun = time.monotonic()
        error = refused(store, call, tmp_path)
        assert error.message.startswith(f"bucket trial at {stopped.url}: it does not answer: "), call
        assert time.monotonic() - begun < 20, call
    assert not (tmp_path / "x").exists()
    assert store.signed_get("x", 60).startswith(f"{stopped.url}/trial/p/x?")
    stopped.start()
    assert store.read("x") == b"x"


def test_a_connection_that_breaks_within_an_object_leaves_no_file(
    store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.exceptions import IncompleteReadError
    from botocore.response import StreamingBody

    store.put("x", os.urandom(3 << 20))
    read, left = StreamingBody.read, iter(range(100))

    def breaking(self: StreamingBody, amount: int | None = None) -> bytes:
        if next(left) < breaks:
            raise IncompleteReadError(actual_bytes=1, expected_bytes=2)
        return read(self, amount)

    monkeypatch.setattr(StreamingBody, "read", breaking)
    breaks = 2
    assert store.fetch("x", tmp_path / "second-try")
    assert (tmp_path / "second-try").stat().st_size == 3 << 20
    breaks, left = 100, iter(range(100))
    with pytest.raises(Unavailable):
        store.fetch("x", tmp_path / "never")
    assert not (tmp_path / "never").exists()


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An environment and a home whose settings would lead elsewhere."""
    folder = tmp_path / "home" / ".aws"
    folder.mkdir(parents=True)
    (folder / "config").write_text("[default]\nregion = eu-west-9\nendpoint_url = http://127.0.0.1:9\n")
    (folder / "credentials").write_text("[default]\naws_access_key_id = AKFILE\naws_secret_access_key = file\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKPROCESS",
        "AWS_SECRET_ACCESS_KEY": "process",
        "AWS_SESSION_TOKEN": "process",
        "AWS_DEFAULT_REGION": "eu-west-8",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_CA_BUNDLE": "/nowhere",
        "AWS_PROFILE": "nobody",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_supported",
    }.items():
        monkeypatch.setenv(name, value)
    yield


@pytest.mark.usefixtures("hostile")
def test_only_the_given_variables_count(running) -> None:
    store = open_store("s3://trial/own", running.variables)
    store.check()
    assert ask("PUT", store.signed_put("x", 60), b"x")[0] == 200
    elsewhere = {name: running.variables[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    assert (
        open_store("s3://trial/own", elsewhere).signed_get("x", 60).startswith("https://trial.s3.amazonaws.com/own/x?")
    )
    with pytest.raises(Invalid, match="AWS_ACCESS_KEY_ID is not set"):
        open_store("s3://trial/own", {})


def test_the_endpoint_of_s3_goes_before_that_of_all(running) -> None:
    variables = {
        **running.variables,
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL_S3": running.url,
        "AWS_REGION": "",
        "AWS_DEFAULT_REGION": running.variables["AWS_REGION"],
    }
    open_store("s3://trial/own", variables).check()


def test_a_session_token_travels_in_what_is_signed(running) -> None:
    store = open_store("s3://trial/p", {**running.variables, "AWS_SESSION_TOKEN": "token-of-a-session"})
    assert "X-Amz-Security-Token=token-of-a-session" in store.signed_get("x", 60)


@pytest.mark.parametrize(
    ("url", "changed", "told"),
    [
        ("ftp://trial/p", {}, "no storage of the kind ftp://"),
        ("/trial/p", {}, "is not a url"),
        ("s3:///p", {}, "s3://BUCKET/PREFIX"),
        ("s3://key:secret@trial/p", {}, "s3://BUCKET/PREFIX"),
        ("s3://trial", {"AWS_ENDPOINT_URL": "storage.example"}, "the endpoint is not a url"),
        ("s3://trial", {"AWS_CA_BUNDLE": "/nowhere.pem"}, "AWS_CA_BUNDLE is /nowhere.pem, which is not there"),
    ],
)
def test_what_could_never_work_is_refused_at_once(url: str, changed: dict[str, str], told: str) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "secret"}
    with pytest.raises(Invalid) as raised:
        open_store(url, {**keys, **changed})
    assert told in raised.value.message
    assert "secret" not in raised.value.message
    assert "s3://" in raised.value.hint or changed or "AWS_" in raised.value.hint


def test_without_boto3_it_says_what_to_install() -> None:
    script = (
        "import sys\n"
        "sys.modules['botocore.exceptions'] = None\n"
        "from groundplane.model.errors import Unavailable\n"
        "from groundplane.spi.blobs import open_store\n"
        "try:\n"
        "    open_store('s3://trial', {'AWS_ACCESS_KEY_ID': 'a', 'AWS_SECRET_ACCESS_KEY': 'b'})\n"
        "except Unavailable as error:\n"
        "    print(error.code, error.hint)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "storage_unavailable pip install 'groundplane[kubernetes]'\n"
