"""ground.lock as the command line reads and writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from groundplane.client import locks
from groundplane.model.errors import Unavailable


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "ground.toml").write_text('[project]\nname = "t"\n')
    return tmp_path


def test_it_is_written_whole(project: Path) -> None:
    assert locks.write(locks.request(here=project), "new\n")
    assert locks.request(here=project).lock == "new\n"
    assert sorted(path.name for path in project.iterdir()) == ["ground.lock", "ground.toml"]


def test_what_somebody_else_wrote_meanwhile_stays(project: Path) -> None:
    asked = locks.request(here=project)
    (project / "ground.lock").write_text("theirs\n")
    assert not locks.write(asked, "mine\n")
    assert (project / "ground.lock").read_text() == "theirs\n"
    assert locks.write(locks.request(here=project), "both\n")
    assert (project / "ground.lock").read_text() == "both\n"


def test_an_answer_without_a_change_undoes_nobodys(project: Path) -> None:
    asked = locks.request(here=project)
    (project / "ground.lock").write_text("theirs\n")
    assert locks.write(asked, asked.lock)
    assert (project / "ground.lock").read_text() == "theirs\n"


def test_where_it_cannot_be_written_is_named(project: Path) -> None:
    asked = locks.request(here=project)
    (project / "ground.lock").mkdir()  # even root cannot put a file in its place
    with pytest.raises(Unavailable, match=r"ground\.lock cannot be written"):
        locks.write(asked, "new\n")
    assert not list(project.glob(".ground.lock*"))
