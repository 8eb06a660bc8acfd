"""A repository of R's source packages in a folder, laid out as CRAN's mirrors are: `tinysum`, in C, and `tinytable`,
which imports it; a former version of `tinytable` is in the archive."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

_C = """#include <R.h>
#include <Rinternals.h>
SEXP tiny_sum(SEXP x) {
    double total = 0;
    for (R_xlen_t i = 0; i < XLENGTH(x); i++) total += REAL(x)[i];
    return ScalarReal(total);
}
"""
_SUM = {
    "NAMESPACE": "useDynLib(tinysum, tiny_sum)\nexport(total)\n",
    "R/total.R": "total <- function(x) .Call(tiny_sum, as.double(x))\n",
    "src/sum.c": _C,
    "man/total.Rd": "\\name{total}\n\\alias{total}\n\\title{Total}\n\\usage{total(x)}\n",
}
_TABLE = {
    "NAMESPACE": "importFrom(tinysum, total)\nexport(share)\n",
    "R/share.R": "share <- function(x) x / total(x)\n",
}


def write(folder: Path) -> None:
    """Makes the repository; its address is the folder's."""
    contrib = folder / "src" / "contrib"
    _source(contrib, "tinysum", "1.0-2", _SUM)
    _source(contrib, "tinytable", "0.2", {**_TABLE, "R/more.R": "more <- 1\n"}, Imports="tinysum (>= 1.0)")
    _source(contrib / "Archive" / "tinytable", "tinytable", "0.1", _TABLE, Imports="tinysum (>= 1.0)")
    (contrib / "PACKAGES").write_text("Package: tinysum\nVersion: 1.0-2\n\nPackage: tinytable\nVersion: 0.2\n")


def lock(address: str, version: str = "4.5.0", **more: dict[str, Any]) -> str:
    """An `renv.lock` of both packages, as renv writes it."""
    packages = {
        "tinytable": {
            "Package": "tinytable",
            "Version": "0.1",
            "Source": "Repository",
            "Repository": "CRAN",
            "Requirements": ["R", "tinysum"],
            "Hash": "0" * 32,
        },
        "tinysum": {"Package": "tinysum", "Version": "1.0-2", "Source": "Repository", "Repository": "CRAN"},
        **more,
    }
    return json.dumps(
        {"R": {"Version": version, "Repositories": [{"Name": "CRAN", "URL": address}]}, "Packages": packages}, indent=2
    )


def _source(folder: Path, name: str, version: str, files: dict[str, str], **fields: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    described = {"Package": name, "Version": version, "Title": name, "License": "GPL-2", **fields}
    text = "".join(f"{key}: {value}\n" for key, value in described.items())
    with tarfile.open(folder / f"{name}_{version}.tar.gz", "w:gz") as archive:
        for path, content in {"DESCRIPTION": text, **files}.items():
            entry = tarfile.TarInfo(f"{name}/{path}")
            entry.size = len(content.encode())
            archive.addfile(entry, io.BytesIO(content.encode()))
