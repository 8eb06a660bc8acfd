"""What the staging image is called, and what of Groundplane is in it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from groundplane.images import staging
from groundplane.images.store import ImageStore
from groundplane.model.errors import Unavailable


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of what the image has, which the image is made from meanwhile."""
    folder = tmp_path / "groundplane"
    for name, body in staging.files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)
    monkeypatch.setattr(staging, "_PACKAGE", folder)
    staging.name.cache_clear()
    yield folder
    staging.name.cache_clear()


def fresh_name() -> str:
    staging.name.cache_clear()
    return staging.name()


def test_the_name_is_of_the_contents(package: Path) -> None:
    first = fresh_name()
    repository, _, tag = first.partition(":")
    assert (repository, len(tag)) == ("ground-staging", 16)
    (package / "agent" / "main.pyc").write_bytes(b"no source")
    (package / "agent" / "main.py").touch()
    assert fresh_name() == first
    source = package / "agent" / "main.py"
    body = source.read_bytes()
    source.write_bytes(body + b"\n")
    changed = fresh_name()
    source.write_bytes(body)
    assert fresh_name() == first
    source.rename(package / "agent" / "other.py")
    assert len({first, changed, fresh_name()}) == 3


def test_the_name_is_of_what_debian_has_to_bring(monkeypatch: pytest.MonkeyPatch, package: Path) -> None:
    first = fresh_name()
    monkeypatch.setattr(staging, "_DEBS", ("python3",))
    assert fresh_name() != first


def test_its_files_need_no_other(package: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(package.parent)!r}); import groundplane.agent.main as m; "
    code += "print(m.__file__)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(package / "agent" / "main.py"), done.stderr


def test_files_that_are_not_this_process_own_any_more_are_no_image(package: Path, tmp_path: Path) -> None:
    staging.name()
    (package / "__init__.py").write_text("")
    nobody: Any = None
    with pytest.raises(Unavailable, match="have changed") as caught:
        staging.image(ImageStore(tmp_path / "images"), nobody, print)
    assert caught.value.code == "image_build_failed"
