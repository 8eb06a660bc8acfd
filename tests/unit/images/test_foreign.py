"""Images of others as bytes: read, put in order, and asked for their packages."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from groundplane.images import dockerbuild, found, normal, saved
from groundplane.model.errors import Invalid, Outside, Unavailable
from groundplane.model.locks import Found
from groundplane.oci.engine import Refused
from groundplane.spi.images import Layer

Entry = tuple[str, bytes, dict[str, Any]]


def tar(entries: Sequence[Entry]) -> bytes:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w", format=tarfile.PAX_FORMAT) as out:
        for name, content, facts in entries:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            for key, value in facts.items():
                setattr(entry, key, value)
            out.addfile(entry, io.BytesIO(content))
    return body.getvalue()


def normalised(tmp_path: Path, entries: Sequence[Entry], epoch: int = 100) -> bytes:
    (tmp_path / "in").write_bytes(tar(entries))
    normal.layer(tmp_path / "in", tmp_path / "out", epoch)
    return (tmp_path / "out").read_bytes()


def test_another_day_and_another_order_are_the_same_layer(tmp_path: Path) -> None:
    link = {"type": tarfile.LNKTYPE, "linkname": "a"}
    one: list[Entry] = [("b", b"2", {"mtime": 5000}), ("a", b"1", {"mtime": 6000}), ("c", b"", link)]
    two: list[Entry] = [("a", b"1", {"mtime": 7000, "uname": "me"}), ("c", b"", link), ("b", b"2", {"mtime": 8000.5})]
    assert normalised(tmp_path, one) == normalised(tmp_path, two)
    assert normalised(tmp_path, one) != normalised(tmp_path, [("b", b"2", {}), ("a", b"X", {}), ("c", b"", link)])
    older: list[Entry] = [("a", b"1", {"mtime": 50})]
    with tarfile.open(fileobj=io.BytesIO(normalised(tmp_path, older))) as made:
        assert made.getmember("a").mtime == 50


def test_a_hard_link_keeps_its_content_whichever_name_comes_first(tmp_path: Path) -> None:
    entries: list[Entry] = [("z", b"content", {}), ("a", b"", {"type": tarfile.LNKTYPE, "linkname": "z"})]
    with tarfile.open(fileobj=io.BytesIO(normalised(tmp_path, entries))) as made:
        first, second = made.getmembers()
        assert (first.name, first.isreg(), second.name, second.linkname) == ("a", True, "z", "a")
        file = made.extractfile("z")
        assert file is not None
        assert file.read() == b"content"


def test_bytecode_still_names_the_time_of_its_source(tmp_path: Path) -> None:
    def pyc(flags: int, mtime: int) -> bytes:
        return b"MAGC" + flags.to_bytes(4, "little") + mtime.to_bytes(4, "little") + b"sizecode"

    entries: list[Entry] = [("m.py", b"x", {"mtime": 5000}), ("m.pyc", pyc(0, 5000), {}), ("n.pyc", pyc(1, 5000), {})]
    with tarfile.open(fileobj=io.BytesIO(normalised(tmp_path, entries))) as made:
        bodies = {member.name: made.extractfile(member).read() for member in made}  # pyright: ignore
    assert bodies["m.pyc"] == pyc(0, 100)
    assert bodies["n.pyc"] == pyc(1, 5000)


def test_a_configuration_without_dates_and_without_what_is_not_the_dockerfiles() -> None:
    base = {"rootfs": {"diff_ids": ["sha256:b"]}, "history": [{"created": "then", "created_by": "base"}]}
    raw = {
        "created": "today",
        "container": "x",
        "docker_version": "20",
        "config": {"Hostname": "abc", "Env": ["A=1"], "Labels": {dockerbuild.LABEL: "x"}, "Image": "sha256:1"},
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"diff_ids": ["sha256:b", "sha256:c"]},
        "history": [
            *base["history"],
            {"created": "today", "created_by": f"/bin/sh -c #(nop)  LABEL {dockerbuild.LABEL}=x", "empty_layer": True},
            {"created": "today", "created_by": "/bin/sh -c #(nop)  ARG SOURCE_DATE_EPOCH=0", "empty_layer": True},
            {"created": "today", "created_by": "|2 A=b SOURCE_DATE_EPOCH=0 /bin/sh -c true"},
            {"created": "today", "created_by": "|1 SOURCE_DATE_EPOCH=0 /bin/sh -c true"},
        ],
    }
    assert normal.base_of(raw, [base, {"rootfs": {"diff_ids": ["sha256:x"]}}]) == base
    made = json.loads(normal.config(json.dumps(raw).encode(), ["b", "d"], base, 0, dockerbuild.OWN))
    assert made["config"] == {"Env": ["A=1"]}
    assert made["rootfs"]["diff_ids"] == ["sha256:b", "sha256:d"]
    said = [(entry["created"], entry["created_by"]) for entry in made["history"]]
    day = "1970-01-01T00:00:00Z"
    assert said == [("then", "base"), (day, "|1 A=b /bin/sh -c true"), (day, "/bin/sh -c true")]
    assert set(made) == {"created", "config", "rootfs", "history", "architecture", "os"}


# --- docker save ------------------------------------------------------------------------------------------------------


def image(layers: Sequence[bytes]) -> tuple[bytes, str]:
    diffs = [hashlib.sha256(layer).hexdigest() for layer in layers]
    config = json.dumps({"rootfs": {"diff_ids": [f"sha256:{diff}" for diff in diffs]}}).encode()
    return config, hashlib.sha256(config).hexdigest()


def classic(layers: Sequence[bytes]) -> list[Entry]:
    config, name = image(layers)
    manifest = json.dumps([{"Config": f"{name}.json", "Layers": []}]).encode()
    return [
        *((f"{n}/layer.tar", layer, {}) for n, layer in enumerate(layers)),
        (f"{name}.json", config, {}),
        ("manifest.json", manifest, {}),
    ]


def layout(layers: Sequence[bytes], pack: Callable[[bytes], bytes] = bytes) -> list[Entry]:
    config, name = image(layers)
    blobs = [(f"blobs/sha256/{hashlib.sha256(pack(each)).hexdigest()}", pack(each), {}) for each in layers]
    manifest = json.dumps([{"Config": f"blobs/sha256/{name}", "Layers": []}]).encode()
    return [("manifest.json", manifest, {}), *blobs, (f"blobs/sha256/{name}", config, {}), ("index.json", b"{}", {})]


def take(tmp_path: Path, entries: Sequence[Entry]) -> tuple[saved.Saved, list[bytes]]:
    kept: dict[str, bytes] = {}

    def keep(path: Path, diff: str) -> Layer:
        kept[diff] = path.read_bytes()
        return Layer(diff, f"blob-{diff}", 1)

    body = tar(entries)
    pieces = iter([body[at : at + 1000] for at in range(0, len(body), 1000)])
    found = saved.read(pieces, tmp_path, keep)
    return found, [kept[layer.diff] for layer in found.layers]


LAYERS = [tar([("a", b"1", {})]), tar([("b", b"2", {})])]


@pytest.mark.parametrize(
    "entries", [classic(LAYERS), layout(LAYERS), layout(LAYERS, gzip.compress)], ids=["classic", "layout", "gzip"]
)
def test_the_forms_of_a_saved_image(tmp_path: Path, entries: list[Entry]) -> None:
    found, contents = take(tmp_path, entries)
    assert contents == LAYERS
    assert found.config == image(LAYERS)[0]
    assert not list(tmp_path.iterdir())


def test_an_image_that_lacks_something_is_refused(tmp_path: Path) -> None:
    for gone in ("0/layer.tar", "manifest.json"):
        with pytest.raises(Outside, match="came without"):
            take(tmp_path, [entry for entry in classic(LAYERS) if entry[0] != gone])
    with pytest.raises(Outside, match="no image"):
        saved.read(iter([b"no tar at all"]), tmp_path, lambda *_: Layer("", "", 0))


# --- packages ---------------------------------------------------------------------------------------------------------

DPKG = "Package: {}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {}\n\n"


def layer(files: Mapping[str, str]) -> bytes:
    return tar([(name, text.encode(), {}) for name, text in files.items()])


def told(*layers: Mapping[str, str]) -> dict[str, str]:
    return found.notes(iter([layer(files)]) for files in layers)


def test_the_packages_of_every_kind() -> None:
    noted = told(
        {
            "etc/os-release": 'ID=debian\nVERSION_CODENAME="trixie"\n',
            "var/lib/dpkg/status": DPKG.format("a", "1")
            + "Package: b\nStatus: deinstall ok config-files\nVersion: 2\n",
            "var/lib/dpkg/status.d/base": "Package: base-files\nVersion: 13\nArchitecture: all\n",
            "lib/apk/db/installed": "C:Q1\nP:musl\nV:1.2\nA:x86_64\n\nP:busybox\nV:1.36\nA:x86_64\n",
            "opt/x/trial-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: trial\nVersion: 1.0\n\nName: no\n",
            "usr/lib/python3/dist-packages/debians-1.dist-info/METADATA": "Name: debians\nVersion: 1\n",
            "usr/local/lib/R/site-library/fit/DESCRIPTION": "Package: fit\nVersion: 0.3\nBuilt: R 4.5.0\n",
        }
    )
    assert found.distribution(noted) == "debian trixie"
    assert found.packages(noted) == (
        Found("busybox", "1.36", "apk", "x86_64"),
        Found("musl", "1.2", "apk", "x86_64"),
        Found("a", "1", "deb", "amd64"),
        Found("base-files", "13", "deb", "all"),
        Found("trial", "1.0", "python"),
        Found("fit", "0.3", "r"),
    )


def test_what_a_later_layer_takes_away_is_gone() -> None:
    first = {"x/a-1.dist-info/METADATA": "Name: a\nVersion: 1\n", "y/b-1.dist-info/METADATA": "Name: b\nVersion: 1\n"}
    later = {"x/.wh.a-1.dist-info": "", "y/.wh..wh..opq": "", "y/c-1.dist-info/METADATA": "Name: c\nVersion: 2\n"}
    assert [each.name for each in found.packages(told(first, later))] == ["c"]
    status = {"var/lib/dpkg/status": DPKG.format("a", "1")}
    newer = {"var/lib/dpkg/status": DPKG.format("a", "2")}
    assert [each.version for each in found.packages(told(status, newer))] == ["2"]


# --- errors -----------------------------------------------------------------------------------------------------------


def test_what_an_engine_says_of_a_build_is_sorted() -> None:
    from collections import deque

    sent = "FROM a\nLABEL x\nARG y\nRUN true\nFOO"
    wrong = dockerbuild._failed(
        Refused(400, "dockerfile parse error line 5: unknown instruction: FOO"), "", deque(), sent, ["LABEL x", "ARG y"]
    )
    assert isinstance(wrong, Invalid)
    assert "line 3" in wrong.message
    full = dockerbuild._failed(Refused(500, "write /x: no space left on device"), "RUN x", deque(), "", [])
    assert (type(full), full.code) == (Unavailable, "no_space")
    failed = dockerbuild._failed(Refused(500, "returned a non-zero code: 1"), "RUN x", deque(["why"]), "", [])
    assert failed.code == "image_build_failed"
    assert "RUN x" in failed.message
    assert "why" in failed.hint
