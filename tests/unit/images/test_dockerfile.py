"""Dockerfiles as text, and what they copy."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from groundplane.images import context, dockerfile
from groundplane.model.errors import Invalid

TEXT = """\
# a comment
ARG TAG=1 OTHER="2"
FROM team/base:${TAG} AS one
COPY --chown=1:1 a.txt ./b/../c.txt \\
     # within
     /there/
FROM --platform=linux/amd64 scratch
FROM other:$OTHER
copy --from=one /x /y
COPY --from=third/image:3 /x /y
COPY ["data/", "glob*.R", "/z"]
ADD https://example.org/file /f
RUN echo FROM nothing
"""


def test_what_it_stands_on_and_copies() -> None:
    found = dockerfile.read(TEXT)
    assert found.bases == ("team/base:1", "other:2", "third/image:3")
    assert found.copied == ("a.txt", "c.txt", "data", "glob*.R")


@pytest.mark.parametrize(
    ("text", "copied"),
    [
        ("FROM a\nCOPY $X /", None),
        ("FROM a\nONBUILD COPY a /", None),
        ("FROM a\nRUN true", ()),
        ("FROM a\nADD . /", ("",)),
    ],
)
def test_what_only_a_build_could_tell_is_everything(text: str, copied: tuple[str, ...] | None) -> None:
    assert dockerfile.read(text).copied == copied


def test_bases_are_pinned_and_the_rest_is_as_it_was() -> None:
    found = dockerfile.pinned(
        dockerfile.read(TEXT), {"team/base:1": "aa", "other:2": "bb", "third/image:3": "cc"}, ["L x"]
    )
    assert "FROM aa AS one\nL x\n" in found
    assert "FROM scratch\nL x\n" in found
    assert "FROM bb\nL x\n" in found
    assert "COPY --from=one /x /y" in found.replace("copy", "COPY")
    assert "COPY --from=cc /x /y" in found
    assert "RUN echo FROM nothing\n" in found
    assert found.count("L x") == 3


def test_another_escape_and_a_default_for_a_variable() -> None:
    found = dockerfile.read("# escape=`\nARG A\nFROM x:${A:-9}\nCOPY a `\n  b /\n")
    assert found.bases == ("x:9",)
    assert found.copied == ("a", "b")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("fit.R", "data/a.csv", "data/deep/b.csv", "data/keep.csv", ".venv/x", "notes.md", "ground.lock"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "data" / "link").symlink_to("a.csv")
    return tmp_path


def names(project: Path, text: str, ignore: str = "") -> set[str]:
    (project / "Dockerfile").write_text(text)
    if ignore:
        (project / ".dockerignore").write_text(ignore)
    found = context.read(project, "Dockerfile")
    return {*found.files, *found.links}


def test_only_what_it_copies_counts(project: Path) -> None:
    everything = {"fit.R", "data/a.csv", "data/deep/b.csv", "data/keep.csv", "data/link", "notes.md", "Dockerfile"}
    assert names(project, "FROM a\nCOPY *.R /") == {"fit.R"}
    assert names(project, "FROM a\nCOPY data /") == {name for name in everything if name.startswith("data/")}
    assert names(project, "FROM a\nCOPY data/*.csv /") == {"data/a.csv", "data/keep.csv"}
    assert names(project, "FROM a\nCOPY . .") == everything
    assert names(project, "FROM a\nRUN true") == set()
    assert names(project, "FROM a\nCOPY . .", "data\n!data/keep.csv\n# c\n**/*.md") == {
        "fit.R", "data/keep.csv", "Dockerfile", ".dockerignore",
    }  # fmt: skip


def test_its_digest_is_of_that_alone(project: Path) -> None:
    (project / "Dockerfile").write_text("FROM a\nCOPY data /")
    before = context.digest(project, "Dockerfile")
    (project / "notes.md").write_text("other")
    os.utime(project / "data" / "a.csv", (1, 1))
    (project / "data" / "a.csv").chmod(0o600)
    assert context.digest(project, "Dockerfile") == before
    (project / "data" / "empty").mkdir()
    assert context.digest(project, "Dockerfile") != before
    assert context.digest(project, "nope") == ""


def test_the_tar_has_no_times_of_today_and_is_refused_where_a_file_changes(project: Path) -> None:
    (project / "Dockerfile").write_text("FROM a\nCOPY data /")
    found = context.read(project, "Dockerfile")
    with tarfile.open(fileobj=io.BytesIO(b"".join(context.tar(found, "FROM b", 7)))) as sent:
        members = {member.name: member for member in sent}
        file = sent.extractfile(members["data/a.csv"])
        assert file is not None
        assert file.read() == b"data/a.csv"
    assert {member.mtime for member in members.values()} == {7}
    assert {member.mode for member in members.values()} == {0o755}
    assert members["data/link"].linkname == "a.csv"
    assert context.SENT_AS in members
    (project / "data" / "a.csv").write_text("data/A.csv")
    with pytest.raises(Invalid, match="changed"):
        b"".join(context.tar(found, "FROM b", 7))


def test_a_missing_dockerfile_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no file 'Dockerfile'"):
        context.read(tmp_path, "Dockerfile")
