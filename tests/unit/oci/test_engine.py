"""What is said to a Docker engine and heard from it, without one."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from groundplane.images.store import ImageStore
from groundplane.model.errors import Invalid
from groundplane.oci import archive
from groundplane.oci.address import DEFAULT, from_environment, parse
from groundplane.oci.engine import frames


def frame(number: int, data: bytes) -> bytes:
    return bytes([number, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


class _Slow(io.RawIOBase):
    """Gives a few bytes at a time."""

    def __init__(self, data: bytes, most: int) -> None:
        self._data, self._most = data, most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        size = min(len(buffer), self._most, len(self._data))
        buffer[:size], self._data = self._data[:size], self._data[size:]
        return size


@pytest.mark.parametrize("most", [1, 3, 7, 8, 9, 1 << 20])
def test_frames_are_found_across_pieces(most: int) -> None:
    said = frame(1, b"one\n") + frame(2, b"") + frame(2, b"error\n") + frame(1, bytes(range(256)) * 600)
    got = {1: b"", 2: b""}
    with io.BufferedReader(_Slow(said, most), 16) as reader:
        for number, data in frames(reader):
            got[number] += data
    assert got == {1: b"one\n" + bytes(range(256)) * 600, 2: b"error\n"}


@pytest.mark.parametrize("cut", range(1, 14))
def test_frames_that_break_off_give_what_was_there(cut: int) -> None:
    whole = frame(1, b"0123") + frame(1, b"4567")
    with io.BufferedReader(_Slow(whole[:-cut], 1 << 20)) as reader:
        assert b"01234567".startswith(b"".join(data for _, data in frames(reader)))


def test_an_archive_is_as_docker_load_takes_it(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "images")
    tar = tmp_path / "layer.tar"
    with tarfile.open(tar, "w") as target:
        target.addfile(tarfile.TarInfo("file"))
    layer = store.add_layer(tar)
    image = store.add_image(
        recipe="r", builder="debian", reference="groundplane/x:1", layers=[layer], config={}, epoch=0, built_at=0
    )
    with tarfile.open(fileobj=io.BytesIO(b"".join(archive.saved(image, store.blob)))) as saved:
        names = saved.getnames()
        (manifest,) = json.load(saved.extractfile("manifest.json"))  # type: ignore[arg-type]
        config = json.load(saved.extractfile(manifest["Config"]))  # type: ignore[arg-type]
        content = saved.extractfile(manifest["Layers"][0]).read()  # type: ignore[union-attr]
    assert manifest["RepoTags"] == ["groundplane/x:1"]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{layer.diff}"]
    assert content == store.blob(layer.digest).read_bytes()
    assert names == [manifest["Config"], *manifest["Layers"], "manifest.json"]


def test_a_blob_that_is_gone_is_an_error_of_the_file(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "images")
    tar = tmp_path / "layer.tar"
    tar.write_bytes(bytes(1024))
    layer = store.add_layer(tar)
    image = store.add_image(
        recipe="r", builder="debian", reference="groundplane/x:1", layers=[layer], config={}, epoch=0, built_at=0
    )
    store.blob(layer.digest).unlink()
    with pytest.raises(FileNotFoundError):
        list(archive.saved(image, store.blob))


@pytest.mark.parametrize(
    "url",
    ["unix:///run/x.sock", "tcp://host:2376", "tcp://[::1]:2375", "https://host:1/", "ssh://me@host", "ssh://host:22"],
)
def test_addresses(url: str) -> None:
    found = parse(url)
    assert (found.url, found.shares_files) == (url, url.startswith("unix:"))


@pytest.mark.parametrize(
    "url", ["", "host:2375", "tcp://host", "tcp://host:port", "unix://relative", "npipe:////x", "ssh://"]
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(Invalid, match="is no address"):
        parse(url)


def test_the_environment_says_it_as_to_dockers_own_command_line() -> None:
    assert from_environment({}).url == DEFAULT
    assert from_environment({"DOCKER_HOST": ""}).url == DEFAULT
    asked = {"DOCKER_HOST": "tcp://h:1", "DOCKER_TLS_VERIFY": "1", "HOME": "/me"}
    assert from_environment(asked).tls == "/me/.docker"
    assert from_environment({**asked, "DOCKER_CERT_PATH": "/certs"}).tls == "/certs"
    assert from_environment({**asked, "DOCKER_TLS_VERIFY": ""}).tls == ""
