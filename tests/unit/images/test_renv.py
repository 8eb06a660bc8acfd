"""renv.lock: what it says, in the order of installation, and what of it cannot be had."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from groundplane.images import renv
from groundplane.images.downloads import Downloads
from groundplane.model.errors import Invalid
from groundplane.model.locks import Deb, File
from tests import r_repository


def text(*packages: dict[str, Any], repositories: dict[str, str] | None = None) -> str:
    named = {"CRAN": "https://cran.test/"} if repositories is None else repositories
    return json.dumps(
        {
            "R": {"Version": "4.5.0", "Repositories": [{"Name": n, "URL": u} for n, u in named.items()]},
            "Packages": {each["Package"]: {"Version": "1.0", "Source": "Repository", **each} for each in packages},
        }
    )


def test_packages_come_in_the_order_of_their_needs() -> None:
    version, packages = renv.read(
        text(
            {"Package": "a", "Requirements": ["R", "z", "m"]},
            {"Package": "m", "Imports": ["z (>= 1.0)", "utils"], "Depends": ["R (>= 3.5)"]},
            {"Package": "z", "LinkingTo": "cpp11, methods"},
        )
    )
    assert version == "4.5.0"
    assert [package.name for package in packages] == ["z", "m", "a"]
    assert packages[1].needs == {"z"}
    with pytest.raises(Invalid, match="circle"):
        renv.read(text({"Package": "a", "Requirements": ["b"]}, {"Package": "b", "Requirements": ["a"]}))


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"Package": "a", "Source": "GitHub", "RemoteHost": "api.github.com"}, "a comes from GitHub"),
        ({"Package": "a", "Source": "Bioconductor"}, "a comes from Bioconductor"),
        ({"Package": "a", "Source": "unknown"}, "a comes from unknown"),
        ({"Package": "a", "Version": "$(rm -rf /)"}, "is no package of R"),
        ({"Package": "../a"}, "is no package of R"),
    ],
)
def test_what_is_not_of_a_repository_is_refused_by_name(record: dict[str, Any], said: str) -> None:
    with pytest.raises(Invalid) as raised:
        renv.read(text(record))
    assert said in raised.value.message
    assert raised.value.hint


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"R": {"Version": "4.5.0"}, "Packages": {"a": 1}}'])
def test_a_damaged_lock_is_named(body: str) -> None:
    with pytest.raises(Invalid, match=r"renv\.lock is damaged"):
        renv.read(body)


def test_a_source_lies_in_its_repository_or_the_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(renv.OVERRIDE, raising=False)
    repositories = {"CRAN": "https://cran.test/", "OWN": "https://own.test"}
    _, (package,) = renv.read(text({"Package": "a", "Repository": "OWN"}, repositories=repositories))
    own, named = renv.addresses(package)
    assert own == []
    assert named == [
        "https://own.test/src/contrib/a_1.0.tar.gz",
        "https://own.test/src/contrib/Archive/a/a_1.0.tar.gz",
        "https://cran.test/src/contrib/a_1.0.tar.gz",
        "https://cran.test/src/contrib/Archive/a/a_1.0.tar.gz",
    ]
    monkeypatch.setenv(renv.OVERRIDE, "https://mirror.test/")
    own, named = renv.addresses(package)
    assert (own[0], named) == ("https://mirror.test/src/contrib/a_1.0.tar.gz", [])
    file = File("a", "1.0", "a_1.0.tar.gz", "https://own.test/src/contrib/Archive/a/a_1.0.tar.gz", "0" * 64, 1)
    assert renv.mirrored(file) == ["https://mirror.test/src/contrib/Archive/a/a_1.0.tar.gz"]
    with pytest.raises(Invalid, match="no address"):
        renv.read(text({"Package": "a", "Repository": "X"}, repositories={}))


def test_what_the_image_has_already_is_left_out() -> None:
    _, packages = renv.read(
        text(
            {"Package": "lattice", "Version": "0.22-7"},
            {"Package": "nlme", "Version": "3.1-168"},
            {"Package": "MASS", "Version": "7.3-60"},
            {"Package": "utils", "Version": "4.5.0"},
        )
    )
    versions = {"r-cran-lattice": "0.22-7-1", "r-cran-nlme": "3.1.168-1", "r-cran-mass": "7.3-65-1"}
    debs = [Deb(name, version, "amd64", "", 0, "") for name, version in versions.items()]
    assert [package.name for package in renv.missing(packages, debs)] == ["MASS"]


def test_another_r_is_told_and_a_patch_is_not() -> None:
    assert renv.differs("4.5.2", "4.5.0") == ""
    assert "renv.lock was made with R 4.4.1, and the image has R 4.5.0" in renv.differs("4.4.1", "4.5.0")


def test_compiled_code_is_seen_in_the_source(tmp_path: Path) -> None:
    r_repository.write(tmp_path)
    contrib = tmp_path / "src" / "contrib"
    assert renv.compiles(contrib / "tinysum_1.0-2.tar.gz", "tinysum")
    assert not renv.compiles(contrib / "tinytable_0.2.tar.gz", "tinytable")
    (tmp_path / "x.tar.gz").write_bytes(b"nothing")
    with pytest.raises(Invalid, match="x is no source package of R"):
        renv.compiles(tmp_path / "x.tar.gz", "x")


def test_the_newest_of_each_is_read_from_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(renv.OVERRIDE, raising=False)
    r_repository.write(tmp_path)
    downloads = Downloads(tmp_path / "downloads")
    assert renv.latest(r_repository.lock(tmp_path.as_uri()), downloads) == {"tinysum": "1.0-2", "tinytable": "0.2"}
    assert renv.newer("1.10", "1.9")
    assert not renv.newer("1.1-2", "1.1.2")
