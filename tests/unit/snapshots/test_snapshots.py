"""A project folder becomes a snapshot: what is in it, what is not, and that its contents are what their names say."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from groundplane import folders
from groundplane.model.errors import Invalid, Unavailable
from groundplane.services import contents, snapshots
from groundplane.services.snapshots import Known, Snapshot, check_copyable, take
from groundplane.spi import layout
from groundplane.spi.snapshots import IN_PLACE_SIZE, Entry, Manifest, digest_of


class Cache:
    def __init__(self) -> None:
        self.rows: dict[str, Known] = {}

    def get_many(self, paths: Sequence[str]) -> Mapping[str, Known]:
        return {path: self.rows[path] for path in paths if path in self.rows}

    def put_many(self, rows: Sequence[tuple[str, Known]]) -> None:
        self.rows.update(rows)


class Place:
    """A project folder, a home and a cache; `age` makes the files look as if written a minute ago."""

    def __init__(self, base: Path) -> None:
        self.home, self.project, self.cache = base / "home", base / "project", Cache()
        self.project.mkdir()

    def write(self, name: str, content: str | bytes = "x") -> Path:
        path = self.project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def take(self, pin: Callable[[Sequence[str]], None] | None = None) -> Snapshot:
        return take(self.home, self.project, self.cache, pin)

    def known_for_a_minute(self) -> None:
        for path, known in self.cache.rows.items():
            self.cache.rows[path] = known._replace(written_ns=known.written_ns + 60_000_000_000)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def names(snapshot: Snapshot) -> list[str]:
    return [entry.path for entry in snapshot.manifest.files]


def test_contents_and_manifest_are_in_the_store(place: Place) -> None:
    place.write("a.py", "print()")
    place.write("sub/b.csv", "1,2")
    (place.project / "a.py").chmod(0o755)
    found = place.take()
    assert found.manifest.files == (
        Entry("a.py", 7, executable=True, sha256=hashlib.sha256(b"print()").hexdigest()),
        Entry("sub/b.csv", 3, sha256=hashlib.sha256(b"1,2").hexdigest()),
    )
    assert found.total_bytes == 10
    for entry in found.manifest.files:
        blob = layout.blob(place.home, entry.sha256)
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == entry.sha256
        assert stat.S_IMODE(blob.stat().st_mode) == 0o444
    body = layout.manifest(place.home, found.digest).read_bytes()
    assert digest_of(body) == found.digest
    assert Manifest.from_json(body) == found.manifest
    assert list(layout.incoming(place.home).iterdir()) == []


def test_the_digest_is_of_content_and_not_of_times(place: Place) -> None:
    path = place.write("a.py", "1")
    first = place.take().digest
    os.utime(path, (1, 1))
    assert place.take().digest == first
    path.chmod(0o755)
    second = place.take().digest
    path.write_text("2")
    assert len({first, second, place.take().digest}) == 3


def test_many_files_and_equal_ones(place: Place) -> None:
    for index in range(50):
        place.write(f"d{index % 5}/{index}.txt", str(index % 7))
    found = place.take()
    assert names(found) == sorted(names(found))
    assert len(found.manifest.files) == 50
    assert sum(1 for path in (place.home / "blobs/sha256").rglob("*") if path.is_file()) == 7


def test_what_never_belongs_to_a_run_stays_behind(place: Place) -> None:
    out = ".git/HEAD .venv/x d/__pycache__/x.pyc node_modules/a/b.js .cache env/pyvenv.cfg env/lib/x conda/conda-meta/x"
    for name in [*out.split(), "renv/library/R/x", ".hidden", "venv/mine.py"]:
        place.write(name)
    place.write(".gitignore", "data.csv\n")
    place.write("data.csv")
    found = place.take()
    assert names(found) == [".gitignore", ".hidden", "data.csv", "venv/mine.py"]
    assert found.ignored == (
        ".cache", ".git/", ".venv/", "conda/", "d/__pycache__/", "env/", "node_modules/", "renv/library/",
    )  # fmt: skip
    assert found.manifest.folders == ("d", "renv")


def test_groundignore_is_written_as_gitignore(place: Place) -> None:
    for name in ("big/1.bin", "big/keep.csv", "a.log", "sub/a.log", "tmp/x", "sub/tmp/y", "out", "sub/out", "all/d/x"):
        place.write(name)
    place.write(".groundignore", "# c\nbig/**\n!big/keep.csv\n*.log\ntmp/\n/out\nall/\n")
    found = place.take()
    assert names(found) == [".groundignore", "big/keep.csv", "sub/out"]
    assert found.ignored == ("a.log", "all/", "big/1.bin", "out", "sub/a.log", "sub/tmp/", "tmp/")


def test_empty_folders_travel(place: Place) -> None:
    (place.project / "out/figures").mkdir(parents=True)
    (place.project / "logs").mkdir()
    place.write("a.py")
    found = place.take()
    assert found.manifest.folders == ("logs", "out/figures")
    assert found.names() == {"a.py", "logs/", "out/figures/"}


def test_links_inside_are_kept_and_hold_in_a_copy(place: Place) -> None:
    place.write("data/a.csv")
    links = {
        "l1": "data/a.csv",
        "data/l2": "../data/a.csv",
        "l3": str(place.project / "data/a.csv"),
        "data/l4": "../../project/data/a.csv",
        "l5": "data",
        "broken": "nothing",
        "loop": "loop",
    }
    for name, target in links.items():
        (place.project / name).symlink_to(target)
    assert dict(place.take().manifest.links) == {
        **links,
        "l3": "data/a.csv",
        "data/l4": "a.csv",
    }


def test_files_are_found_behind_links(place: Place) -> None:
    place.write("data/a.csv", "1")
    place.write("data/n/b.csv", "2")
    for name, target in (("x", "y"), ("y", "data/a.csv"), ("d", "data"), ("data/up", ".."), ("gone", "no")):
        (place.project / name).symlink_to(target)
    found = place.take()
    reachable = found.manifest.reachable()
    assert {name: entry.path for name, entry in reachable.items()} == {
        "data/a.csv": "data/a.csv",
        "data/n/b.csv": "data/n/b.csv",
        "x": "data/a.csv",
        "y": "data/a.csv",
        "d/a.csv": "data/a.csv",
        "d/n/b.csv": "data/n/b.csv",
        "data/up/data/a.csv": "data/a.csv",
        "data/up/data/n/b.csv": "data/n/b.csv",
    }
    assert found.names() == set(reachable)


@pytest.mark.parametrize("target", ["/etc/passwd", "../secret", "/nowhere", "sub/../../x"])
def test_a_link_that_leaves_the_project_is_refused_by_name(place: Place, target: str) -> None:
    (place.project / "mine").symlink_to(target)
    with pytest.raises(Invalid) as caught:
        place.take()
    assert f"'mine' -> '{target}'" in caught.value.message
    place.write(".groundignore", "mine\n")
    assert place.take().ignored == ("mine",)


def test_sockets_and_pipes_are_left_out_and_listed(place: Place) -> None:
    os.mkfifo(place.project / "pipe")
    os.mknod(place.project / "sock", stat.S_IFSOCK | 0o600)
    assert place.take().ignored == ("pipe", "sock")


def test_names_that_are_no_utf_8_survive(place: Place) -> None:
    raw = os.fsencode(place.project) + b"/caf\xe9 '\"\n.csv"
    with open(raw, "w") as file:
        file.write("x")
    place.write("é/ü.csv")
    found = place.take()
    body = layout.manifest(place.home, found.digest).read_bytes()
    assert b"caf\xe9" in body
    assert [os.fsencode(entry.path) for entry in Manifest.from_json(body).files] == [
        b"caf\xe9 '\"\n.csv",
        "é/ü.csv".encode(),
    ]
    assert all(path.isprintable() for path in place.cache.rows)  # a database takes no such name
    assert place.take() == found


def test_the_home_inside_the_project_is_left_out(place: Place) -> None:
    place.write("a.py")
    place.home = place.project / "state/ground"
    first = place.take()
    assert place.take() == first
    assert names(first) == ["a.py"]
    place.home = place.project
    with pytest.raises(Invalid, match="GROUND_HOME itself"):
        place.take()


def test_a_known_file_is_not_read_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write("a.py")
    place.write("b.py", "other")
    first = place.take()
    place.known_for_a_minute()
    monkeypatch.setattr(contents.Store, "take_in", None)
    assert place.take() == first


def test_a_file_of_the_same_tick_is_read_again(place: Place) -> None:
    path = place.write("a.py", "1")
    first = place.take()
    status = path.stat()
    # As if the file had been changed within the tick of its reading: nothing that stat tells is different.
    path.write_text("2")
    after = path.stat()
    (key,) = place.cache.rows
    known = place.cache.rows[key]
    assert known.mtime_ns == status.st_mtime_ns
    same = known._replace(mtime_ns=after.st_mtime_ns, ctime_ns=after.st_ctime_ns, written_ns=after.st_mtime_ns + 1)
    place.cache.rows[key] = same
    assert place.take().digest != first.digest
    place.cache.rows[key] = same._replace(written_ns=after.st_mtime_ns + 60_000_000_000)
    assert place.take().digest == first.digest  # which shows that the cache was believed where it may be


def test_whole_seconds_are_no_proof_of_age(place: Place) -> None:
    path = place.write("a.py", "1")
    status = os.stat_result((0o100644, 7, 0, 1, 0, 0, 1, 5, 5, 5, 5.0, 5.0, 5.0, 5 * 10**9, 5 * 10**9, 5 * 10**9))
    known = Known(1, 5 * 10**9, 5 * 10**9, 7, "digest", 5 * 10**9 + 10**9)
    assert path.exists()
    assert snapshots._trusted(known, status) == ""
    assert snapshots._trusted(known._replace(written_ns=8 * 10**9), status) == "digest"


@pytest.mark.parametrize("field", ["size", "mtime_ns", "ctime_ns", "inode"])
def test_any_difference_of_stat_is_a_change(place: Place, field: str) -> None:
    place.write("a.py", "1")
    true = place.take()
    place.known_for_a_minute()
    ((key, known),) = place.cache.rows.items()
    place.cache.rows[key] = known._replace(**{"sha256": "0" * 64, field: getattr(known, field) - 1})
    assert place.take() == true


def test_a_blob_that_is_gone_is_brought_back(place: Place) -> None:
    place.write("a.py", "1")
    found = place.take()
    place.known_for_a_minute()
    blob = layout.blob(place.home, found.manifest.files[0].sha256)
    blob.unlink()
    assert place.take() == found
    assert blob.read_text() == "1"


def test_pins_come_before_the_contents_and_only_for_new_ones(place: Place) -> None:
    place.write("a.py", "1")
    place.write("b.py", "1")
    pinned: list[tuple[str, ...]] = []

    def pin(digests: Sequence[str]) -> None:
        assert not any(layout.blob(place.home, digest).exists() for digest in digests)
        pinned.append(tuple(digests))

    place.take(pin)
    place.take(pin)
    place.write("c.py", "2")
    place.take(pin)
    assert pinned == [(hashlib.sha256(b"1").hexdigest(),), (hashlib.sha256(b"2").hexdigest(),)]


def test_a_manifest_that_is_there_becomes_young_again(place: Place) -> None:
    place.write("a.py")
    path = layout.manifest(place.home, place.take().digest)
    os.utime(path, (1, 1))
    place.take()
    assert path.stat().st_mtime > time.time() - 60


def test_large_files_stay_in_place(place: Place) -> None:
    path = place.write("big.bin")
    os.truncate(path, IN_PLACE_SIZE + 1)
    place.write("a.py")
    found = place.take()
    status = path.stat()
    assert found.manifest.files[1] == Entry(
        "big.bin",
        IN_PLACE_SIZE + 1,
        source=str(path),
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
        inode=status.st_ino,
    )
    assert found.total_bytes == IN_PLACE_SIZE + 2
    assert Manifest.from_json(layout.manifest(place.home, found.digest).read_bytes()) == found.manifest
    assert str(path) not in place.cache.rows
    os.utime(path, (1, 1))
    assert place.take().digest != found.digest


def test_files_of_some_size_are_streamed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "_IN_MEMORY", 10)
    monkeypatch.setattr(contents, "_CHUNK", 7)
    place.write("a.bin", b"0123456789" * 10)
    place.write("b.bin", b"0123456789" * 10)
    found = place.take()
    assert found.manifest.files[0].sha256 == hashlib.sha256(b"0123456789" * 10).hexdigest()
    assert layout.blob(place.home, found.manifest.files[0].sha256).read_bytes() == b"0123456789" * 10
    assert list(layout.incoming(place.home).iterdir()) == []


@pytest.mark.parametrize("in_memory", [0, 1000])
def test_a_file_that_changes_while_it_is_read_is_read_again(
    place: Place, monkeypatch: pytest.MonkeyPatch, in_memory: int
) -> None:
    monkeypatch.setattr(contents, "_IN_MEMORY", in_memory)
    monkeypatch.setattr(contents, "_WAIT", 0)
    path = place.write("a.csv", "before")
    true, calls = contents.same, iter(range(100))

    def same(one: os.stat_result, other: os.stat_result) -> bool:
        if next(calls) < 2:
            path.write_text(f"later {os.urandom(4).hex()}")
            return False
        return true(one, other)

    monkeypatch.setattr(contents, "same", same)
    found = place.take()
    assert layout.blob(place.home, found.manifest.files[0].sha256).read_text() == path.read_text()
    monkeypatch.setattr(contents, "same", lambda _one, _other: False)
    place.cache.rows.clear()
    with pytest.raises(Invalid, match=r"'a\.csv' changes while it is read"):
        place.take()
    assert list(layout.incoming(place.home).iterdir()) == []


def test_a_file_that_vanishes_was_never_there(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = place.write("a.csv")
    place.write("b.csv")
    true = folders.walk

    def walk(root: str, skip: str = "") -> folders.Folder:
        found = true(root, skip)
        gone.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(snapshots, "walk", walk)
    assert names(place.take()) == ["b.csv"]


@pytest.fixture
def open_place() -> Iterator[Place]:
    """A place in a folder that any user may enter, seen by one who is not root."""
    with tempfile.TemporaryDirectory() as base:
        root = os.geteuid() == 0
        if root:
            os.chown(base, 65534, -1)
            os.seteuid(65534)
        try:
            yield Place(Path(base))
        finally:
            if root:
                os.seteuid(0)


def test_what_cannot_be_read_is_named(open_place: Place) -> None:
    secret = open_place.write("secret.csv")
    secret.chmod(0)
    with pytest.raises(Invalid, match=r"cannot be read: 'secret\.csv'"):
        open_place.take()
    os.truncate(open_place.write("big.bin"), IN_PLACE_SIZE + 1)
    (open_place.project / "big.bin").chmod(0)
    with pytest.raises(Invalid, match=r"cannot be read: 'big\.bin', 'secret\.csv'"):
        open_place.take()
    open_place.write(".groundignore", "secret.csv\nbig.bin\n")
    assert names(open_place.take()) == [".groundignore"]
    closed = open_place.project / "closed"
    closed.mkdir(mode=0)
    try:
        with pytest.raises(Invalid, match="cannot be read: 'closed/'"):
            open_place.take()
    finally:
        closed.chmod(0o700)


def test_a_folder_that_is_none_is_refused(place: Place) -> None:
    with pytest.raises(Invalid, match="cannot be read"):
        take(place.home, place.write("a.py"), place.cache)
    with pytest.raises(Invalid, match="No such file"):
        take(place.home, place.project / "nowhere", place.cache)


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "no_space"), (errno.EDQUOT, "no_space"), (errno.EROFS, "store_failed")]
)
def test_a_store_that_takes_nothing_is_unavailable_and_left_clean(
    place: Place, monkeypatch: pytest.MonkeyPatch, number: int, code: str
) -> None:
    place.write("a.py")
    true = os.write

    def write(descriptor: int, data: bytes) -> int:
        if "incoming" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(number, os.strerror(number))
        return true(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(Unavailable) as caught:
            place.take()
    assert caught.value.code == code
    assert list(layout.incoming(place.home).iterdir()) == []
    assert place.cache.rows == {}
    assert names(place.take()) == ["a.py"]  # and it recovers


def test_too_many_files_are_refused_with_where_they_are(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MOST_FILES", 5)
    for index in range(6):
        place.write(f"images/{index}.png")
    with pytest.raises(Invalid) as caught:
        place.take()
    assert "'images/'" in caught.value.hint


def test_a_project_too_large_to_copy_names_its_largest_files() -> None:
    files = (Entry("a.bin", 3 * 1024**3), Entry("b.py", 10))
    large = Snapshot("d", Manifest(files), (), 3 * 1024**3 + 10)
    check_copyable(large, overlay=True)
    check_copyable(Snapshot("d", Manifest(files), (), 2 * 1024**3), overlay=False)
    with pytest.raises(Invalid) as caught:
        check_copyable(large, overlay=False)
    assert "'a.bin' (3.0 GiB), 'b.py' (10 B)" in caught.value.message
    assert ".groundignore" in caught.value.hint


def test_large_folders_are_synced_as_one(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    true = contents._sync_all
    monkeypatch.setattr(contents, "_sync_all", lambda path: (synced.append(path), true(path)))
    for index in range(20):
        place.write(f"{index}.txt", str(index))
    found = place.take()
    assert len(synced) == 2  # the contents before they get their names, and the names
    assert all(layout.blob(place.home, entry.sha256).exists() for entry in found.manifest.files)
