"""What the control plane's process decides before it serves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from groundplane import bootstrap
from groundplane.bootstrap import file_system
from groundplane.spi import layout

MOUNTS = rb"""overlay / overlay rw 0 0
proc /proc proc rw 0 0
/dev/vda /srv ext4 rw 0 0
server:/home /srv/home nfs4 rw 0 0
server:/odd /srv/with\040space cifs rw 0 0
tmpfs /srv/home/local tmpfs rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/var/lib", "overlay"),
        ("/srv", "ext4"),
        ("/srv/homes", "ext4"),
        ("/srv/home", "nfs4"),
        ("/srv/home/me/ground", "nfs4"),
        ("/srv/home/local/x", "tmpfs"),
        ("/srv/with space/x", "cifs"),
    ],
)
def test_the_file_system_of_a_folder(folder: str, kind: str) -> None:
    assert file_system(Path(folder), MOUNTS) == kind


def test_a_link_does_not_hide_it(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "home").symlink_to(tmp_path / "far")
    mounts = f"x / ext4 rw 0 0\ny {tmp_path}/far nfs rw 0 0\n".encode()
    assert file_system(tmp_path / "home", mounts) == "nfs"


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


def test_a_network_file_system_is_refused_for_sqlite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap, "file_system", lambda folder, mounts: "nfs4")
    assert bootstrap.main(["--home", str(tmp_path)]) == 2
    told = said(capsys)
    assert "is on a network file system (nfs4)" in told
    assert "hint: set GROUND_HOME" in told


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "example.org"])
def test_a_host_beyond_loopback_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], host: str) -> None:
    assert bootstrap.main(["--home", str(tmp_path), "--host", host]) == 2
    assert f"--host {host} is beyond loopback" in said(capsys)


@pytest.mark.parametrize("token", ["", "short", "two words of which each is rather long indeed", None])
def test_a_token_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], token: str | None) -> None:
    file = tmp_path / "given"
    if token is not None:
        file.write_text(token)
    assert bootstrap.main(["--home", str(tmp_path / "home"), "--host", "0.0.0.0", "--token-file", str(file)]) == 2
    assert str(file) in said(capsys)


@pytest.mark.parametrize("idle", ["soon", "0", "-1", "inf", "nan"])
def test_an_idle_time_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], idle: str
) -> None:
    monkeypatch.setenv("GROUND_IDLE", idle)
    assert bootstrap.main(["--home", str(tmp_path)]) == 2
    assert "GROUND_IDLE" in said(capsys)


def test_a_home_that_others_can_look_into(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir(mode=0o755)
    assert bootstrap.main(["--home", str(tmp_path)]) == 3
    assert "is not a private folder" in said(capsys)


def test_a_long_path_has_its_sockets_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    short, long = Path("/tmp/home"), Path("/tmp") / ("long" * 40)
    assert layout.control_socket(short) == short / "run" / "control.sock"
    found = layout.control_socket(long)
    assert found.parent.parent == Path("/run/user/1000")
    assert len(os.fsencode(found)) < 108
    assert layout.control_socket(long) == found
    assert layout.control_socket(Path(f"{long}r")) != found
