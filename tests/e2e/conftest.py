"""One control plane for all tests of a file, and a folder of its own for each; files that need another make theirs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli_ground import Ground


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    made = Ground(tmp_path_factory.mktemp("ground"))
    yield made
    made.close()


@pytest.fixture
def ground(home: Ground, tmp_path: Path) -> Ground:
    home.work = tmp_path / "work"
    home.work.mkdir()
    return home
