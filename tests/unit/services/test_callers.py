"""Requests of those whose machine is not this one."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from groundplane.client.uploading import packed
from groundplane.model.errors import Denied, GroundError, Invalid, NotFound
from groundplane.model.requests import Context, EnvironmentRequest, PushRequest, RunRequest
from groundplane.services import callers
from groundplane.services.access import Actor

OWNER, EVE, MALLORY = Actor("me", "owner"), Actor("eve"), Actor("mallory")


@pytest.fixture
def platform(tmp_path: Path) -> Any:
    (tmp_path / "home").mkdir()
    return SimpleNamespace(home=tmp_path / "home")


def request(folder: str, **variables: str) -> RunRequest:
    return RunRequest("a.sh", folder, Context("/home/eve", {"PATH": "/home/eve/bin", **variables}), script="a.sh")


def sent(platform: Any, tmp_path: Path, data: bytes, actor: Actor = EVE, name: str = "study") -> str:
    tar = tmp_path / "sent.tar"
    tar.write_bytes(data)
    return callers.receive(platform, actor, name, tar)


def test_a_folder_arrives_as_it_is(platform: Any, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    (folder / "data" / "empty").mkdir(parents=True)
    (folder / "a.sh").write_bytes(b"echo 1\n" * 1000)
    (folder / "a.sh").chmod(0o755)
    (folder / "data" / "long name ".ljust(150, "x")).write_bytes(b"")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.csv")).write_bytes(b"latin")
    (folder / "link").symlink_to("data")
    (folder / ".git").mkdir()
    (folder / ".git" / "secret").write_text("stays")
    found = callers.settled(platform, EVE, request(sent(platform, tmp_path, b"".join(packed(str(folder))))))
    there = Path(found.folder)
    assert there.name == "study"
    names = sorted(os.fsencode(path.relative_to(there)) for path in there.rglob("*"))
    wanted = [path for path in folder.rglob("*") if ".git" not in path.parts]
    assert names == sorted(os.fsencode(path.relative_to(folder)) for path in wanted)
    assert (there / "a.sh").read_bytes() == (folder / "a.sh").read_bytes()
    assert os.access(there / "a.sh", os.X_OK)
    assert os.readlink(there / "link") == "data"


def test_a_stranger_names_no_path_of_this_host(platform: Any) -> None:
    with pytest.raises(Denied) as refused:
        callers.settled(platform, EVE, request("/root/.ssh"))
    assert (refused.value.exit_code, refused.value.code) == (4, "not_here")
    asked = EnvironmentRequest("", Context("/"), "", out="/etc/cron.d")
    with pytest.raises(Denied):
        callers.settled(platform, EVE, asked)
    assert callers.settled(platform, OWNER, request("/root/study")).folder == "/root/study"


def test_a_stranger_without_a_folder_has_not_the_one_where_the_control_plane_was_started(platform: Any) -> None:
    for asked in (request(""), EnvironmentRequest("", Context("/"), ""), PushRequest("r", "a.example/r:1", "", "x")):
        with pytest.raises(Denied):
            callers.settled(platform, EVE, asked)
    assert callers.settled(platform, EVE, PushRequest("r", "a.example/r:1")).folder == ""


def test_nothing_of_his_shell_starts_anything_here(
    platform: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/root/.local/bin:/opt/r/bin:/usr/bin:/usrlocal:/bin")
    place = sent(platform, tmp_path, b"".join(packed(str(tmp_path))))
    found = callers.settled(platform, EVE, request(place, LD_LIBRARY_PATH="/home/eve", TZ="Europe/Berlin"))
    assert found.context.folder == "/"  # nor is a program asked for its version where he may have left it something
    assert found.context.variables == {"PATH": "/opt/r/bin:/usr/bin:/bin", "TZ": "Europe/Berlin"}
    assert callers.settled(platform, EVE, Context("/", {"PATH": "/evil"})).variables == {
        "PATH": "/opt/r/bin:/usr/bin:/bin"
    }
    mine = callers.settled(platform, OWNER, request("/x", LD_LIBRARY_PATH="/y"))
    assert mine.context.variables["LD_LIBRARY_PATH"] == "/y"


def test_anothers_folder_is_as_one_that_is_not_there(platform: Any, tmp_path: Path) -> None:
    place = sent(platform, tmp_path, b"".join(packed(str(tmp_path))))

    def answer(name: str) -> str:
        with pytest.raises(NotFound) as refused:
            callers.settled(platform, MALLORY, request(name))
        return refused.value.message

    uid = place.removeprefix("upload:")
    other = "0" * len(uid)
    assert answer(place).replace(uid, other) == answer(f"upload:{other}")
    for name in ("upload:", "upload:..", f"upload:{uid}/study", "upload:../home"):
        assert answer(name)


def test_a_folder_may_come_as_tar_itself_makes_it(platform: Any, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "x.csv").write_text("1")
    (folder / "link").symlink_to("data/x.csv")
    made = subprocess.run(["tar", "-C", str(folder), "-cf", "-", "."], capture_output=True, check=True).stdout
    there = Path(callers.settled(platform, EVE, request(sent(platform, tmp_path, made))).folder)
    assert sorted(str(path.relative_to(there)) for path in there.rglob("*")) == ["data", "data/x.csv", "link"]
    assert (there / "link").read_text() == "1"


@pytest.mark.parametrize("name", ["./../out", "../out", "/etc/x", "a/../../out", "a//b", "."])
def test_names_that_leave_are_refused(platform: Any, tmp_path: Path, name: str) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"evil"))
    refuses(platform, tmp_path, data.getvalue())


def test_links_lead_no_file_out(platform: Any, tmp_path: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        link = tarfile.TarInfo("sub")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        archive.addfile(link)
        entry = tarfile.TarInfo("sub/planted")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"evil"))
    refuses(platform, tmp_path, data.getvalue())
    assert not (tmp_path / "planted").exists()


def of_links(*links: tuple[str, str]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, target in links:
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
    return data.getvalue()


def test_links_lead_no_link_out(platform: Any, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    refuses(platform, tmp_path, of_links(("sub", str(tmp_path / "there")), ("sub/planted", "evil")))
    refuses(platform, tmp_path, of_links(("sub", str(tmp_path / "there")), ("sub/deep/planted", "evil")))
    assert list((tmp_path / "there").iterdir()) == []


@pytest.mark.parametrize("target", ["/etc/shadow", "../../../key", "..", "b/../../owner.json"])
def test_no_link_leaves_the_folder(platform: Any, tmp_path: Path, target: str) -> None:
    refuses(platform, tmp_path, of_links(("Dockerfile", target), ("b", ".")))
    assert sent(platform, tmp_path, of_links(("Dockerfile", "b/other"), ("b", ".")))


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_only_files_folders_and_links_come_in(platform: Any, tmp_path: Path, kind: bytes) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        entry = tarfile.TarInfo("x")
        entry.type, entry.linkname = kind, "/etc/shadow"
        archive.addfile(entry)
    refuses(platform, tmp_path, data.getvalue())


def test_what_is_no_tar_is_told(platform: Any, tmp_path: Path) -> None:
    refuses(platform, tmp_path, b"not a tar" * 1000)
    with pytest.raises(Invalid):
        sent(platform, tmp_path, b"\0" * 1024, name="../x")


def refuses(platform: Any, tmp_path: Path, data: bytes) -> None:
    """And keeps nothing of it."""
    with pytest.raises(GroundError) as refused:
        sent(platform, tmp_path, data)
    assert refused.value.exit_code == 2
    assert list(callers.uploads(platform.home).iterdir()) == []


def tar_of(*entries: tuple[str, str | None, bytes]) -> bytes:
    """(name, what a link names, content) of each."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        for name, target, content in entries:
            entry = tarfile.TarInfo(name)
            if target is not None:
                entry.type, entry.linkname = tarfile.SYMTYPE, target
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return held.getvalue()


@pytest.mark.parametrize(
    ("entries", "named"),
    [
        ((("a", None, b"1"), ("a/b", None, b"2")), "study/a"),
        ((("a", None, b"1"), ("a/link", "b", b"")), "study/a"),
        ((("n" * 300, None, b"1"),), "study/nnn"),
        (((f"{'d' * 200}/" * 30 + "f", None, b"1"),), "study/ddd"),
        ((("link", "t" * 5000, b""),), "study/link"),
        ((("link", "", b""),), "study/link"),
    ],
)
def test_names_that_cannot_be_written_are_named(platform: Any, tmp_path: Path, entries: Any, named: str) -> None:
    with pytest.raises(Invalid, match=f"'{named}.*cannot be written here") as told:
        sent(platform, tmp_path, tar_of(*entries))
    assert str(platform.home) not in told.value.message
    assert list(callers.uploads(platform.home).iterdir()) == []


def test_a_folder_s_own_name_may_be_too_long(platform: Any, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="cannot be written here"):
        sent(platform, tmp_path, tar_of(("a", None, b"1")), name="n" * 300)
