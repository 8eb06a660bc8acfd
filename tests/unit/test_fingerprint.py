"""The fingerprint of library folders: packages count, what imports leave behind does not."""

from __future__ import annotations

import os
from pathlib import Path

from groundplane.services.engines import fingerprint


def a_library(folder: Path) -> Path:
    for package in ("pandas", "six-1.0.dist-info", "survival"):
        (folder / package).mkdir(parents=True)
    (folder / "pandas" / "__init__.py").write_text("")
    (folder / "survival" / "DESCRIPTION").write_text("Version: 3.5\n")
    (folder / "six.py").write_text("")
    return folder


def later(path: Path) -> None:
    """Changed two seconds after it was."""
    at = path.stat().st_mtime_ns + 2_000_000_000
    os.utime(path, ns=(at, at))


def test_a_first_import_changes_nothing(tmp_path: Path) -> None:
    library = a_library(tmp_path / "library")
    before = fingerprint((str(library),))
    (library / "pandas" / "__pycache__").mkdir()
    later(library / "pandas")
    (library / "__pycache__").mkdir()
    assert fingerprint((str(library),)) == before


def test_a_package_that_comes_or_changes_does(tmp_path: Path) -> None:
    library = a_library(tmp_path / "library")
    seen = {fingerprint((str(library),))}
    for change in (
        lambda: (library / "numpy").mkdir(),
        lambda: later(library / "pandas" / "__init__.py"),
        lambda: later(library / "survival"),
        lambda: later(library / "six-1.0.dist-info"),
        lambda: later(library / "six.py"),
    ):
        change()
        found = fingerprint((str(library),))
        assert found not in seen
        seen.add(found)


def test_a_folder_that_is_not_there_differs_from_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert fingerprint((str(tmp_path / "empty"),)) != fingerprint((str(tmp_path / "none"),))
