"""The difference of two root file systems, applied again, gives the second one."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from groundplane.images.layers import difference, tree

Tree = dict[str, bytes | str | None]
"""Name -> content, `-> TARGET` for a link, `= NAME` for a hard link, None for a folder."""


def tar(path: Path, tree: Tree, mtime: int = 5) -> Path:
    with tarfile.open(path, "w") as out:
        for name, content in tree.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.mtime = mtime
            if content is None:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                out.addfile(entry)
            elif isinstance(content, str):
                kind, _, target = content.partition(" ")
                entry.type = tarfile.SYMTYPE if kind == "->" else tarfile.LNKTYPE
                entry.linkname = target if kind == "->" else f"./{target}"
                out.addfile(entry)
            else:
                entry.size = len(content)
                out.addfile(entry, io.BytesIO(content))
    return path


def contents(path: Path) -> dict[str, bytes | str | None]:
    found: dict[str, bytes | str | None] = {}
    with tarfile.open(path) as source:
        for entry in source:
            name = entry.name.removeprefix("./").rstrip("/")
            file = source.extractfile(entry) if entry.isreg() else None
            found[name] = file.read() if file else f"-> {entry.linkname}" if entry.issym() else None
    return found


BASE: Tree = {"etc": None, "etc/a": b"1", "etc/b": b"2", "usr": None, "usr/x": b"3", "old": None, "old/y": b"4"}


def made(tmp_path: Path, full: Tree) -> dict[str, bytes | str | None]:
    difference(tar(tmp_path / "base", BASE), tar(tmp_path / "full", full), tmp_path / "layer")
    return contents(tmp_path / "layer")


def test_only_what_changed_is_there_with_its_folders(tmp_path: Path) -> None:
    full = {**BASE, "etc/b": b"other", "usr/new": b"5", "usr/link": "-> new"}
    assert made(tmp_path, full) == {"etc": None, "etc/b": b"other", "usr": None, "usr/new": b"5", "usr/link": "-> new"}


def test_what_is_gone_leaves_a_whiteout(tmp_path: Path) -> None:
    full = {name: content for name, content in BASE.items() if not name.startswith(("old", "etc/a"))}
    assert made(tmp_path, full) == {"etc": None, "etc/.wh.a": b"", ".wh.old": b""}


def test_a_hard_link_to_a_file_of_the_base_carries_the_content(tmp_path: Path) -> None:
    assert made(tmp_path, {**BASE, "usr/again": "= etc/a"}) == {"usr": None, "usr/again": b"1"}


def test_equal_trees_make_an_empty_layer_and_equal_layers_equal_bytes(tmp_path: Path) -> None:
    assert made(tmp_path, BASE) == {}
    full = {**BASE, "b": b"1", "a": b"2"}
    made(tmp_path, full)
    first = (tmp_path / "layer").read_bytes()
    made(tmp_path, dict(reversed(full.items())))
    assert (tmp_path / "layer").read_bytes() == first


def test_a_folder_is_roots_and_of_one_time_whatever_made_it(tmp_path: Path) -> None:
    for name, mask in (("one", 0o077), ("other", 0o002)):
        folder = tmp_path / name / "usr" / "local" / "bin"
        folder.mkdir(parents=True)
        (folder.parent / "lib").mkdir(mode=0o700)
        for file, mode in (("tool", 0o755), ("note", 0o664)):
            (folder / file).write_text(file)
            (folder / file).chmod(mode & ~mask)
        (folder / "link").symlink_to("tool")
        os.utime(folder / "tool", (len(name), len(name)))
        tree(tmp_path / name, tmp_path / f"{name}.tar", 7, below={"usr", "usr/local"})
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "other.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as source:
        entries = {entry.name: entry for entry in source}
    assert list(entries) == [f"usr/local/{n}" for n in ("bin", "bin/link", "bin/note", "bin/tool", "lib")]
    assert {(entry.uid, entry.gid, entry.mtime) for entry in entries.values()} == {(0, 0, 7)}
    assert entries["usr/local/bin/tool"].mode == 0o755
    assert entries["usr/local/bin/note"].mode == 0o644


@pytest.mark.parametrize("name", ["dev/null", "dev"])
def test_devices_are_the_engines_own(tmp_path: Path, name: str) -> None:
    assert made(tmp_path, {**BASE, name: b""}) == {}
