"""What the scripts of packages, run while an image is built, reach of the host: attacks by a package of our own."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from groundplane.images import rootless
from groundplane.images.debian import DebianBuilder
from groundplane.images.downloads import Downloads
from groundplane.images.rootfs import Rootfs
from groundplane.images.store import ImageStore
from groundplane.model.environments import Environment
from groundplane.model.errors import Denied, Unavailable
from groundplane.model.locks import Deb
from groundplane.spi.images import Layer, Recipe
from tests.parts import require

EPOCH = 1754697600
ATTACKS = """#!/bin/sh
{
    echo "id $(id -u)"
    echo "map $(tr -s ' ' ' ' < /proc/self/uid_map)"
    (echo x > /proc/sys/kernel/core_pattern) 2> /dev/null && echo "kernel setting written"
    (echo x > /sys/kernel/uevent_helper) 2> /dev/null && echo "kernel helper written"
    mknod /root/disk b 8 0 2> /dev/null && echo "device made"
    mkdir -p /root/m /root/p
    # To the host's root by a mount, and by the oldest way out of a chroot.
    perl -e 'mkdir "/root/c"; chroot "/root/c"; chdir ".." for 1..64; chroot "."; print "home seen\\n" if -e "HOME"; '\\
        -e 'print "written outside\\n" if open my $f, ">", "HOME/pwned"; print "secret $_\\n" for glob "HOME/*"; '\\
        -e 'for my $f ("/usr/pwned", "/etc/pwned") { print "$f written\\n" if open my $g, ">", $f }'
    kill -0 PID 2> /dev/null && echo "process of the host seen"
    for each in /proc/[0-9]*; do
        [ -r "$each/root/HOME/secret" ] && echo "home by $each"
    done
    perl -MSocket -e 'socket(S, PF_INET, SOCK_STREAM, 0); '\\
        -e 'print "network\\n" if connect(S, pack_sockaddr_in(PORT, inet_aton("127.0.0.1")))'
    echo end
} > /seen 2>&1
rm -rf /root/m /root/p /root/c
exit 0
"""
OUTSIDE = (Path("/usr/pwned"), Path("/etc/pwned"))
REPLACED = "rm -rf /usr/local/lib/x; ln -s /usr/share /usr/local/lib/x\n"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ImageStore, Layer]]:
    """A store, and the layer of a suite's base in it."""
    for part in ("root", "bubblewrap", "mmdebstrap", "debian-mirror"):
        require(part)
    folder = tmp_path_factory.mktemp("home")
    folder.chmod(0o700)
    store = ImageStore(folder / "images")
    builder = DebianBuilder(store, Downloads(folder / "images" / "downloads"))
    lock = builder.lock(Recipe(Environment("base"), "", "", (), suite="trixie"), lambda _: None)
    image = store.find(lock.recipe)
    assert image is not None
    yield store, image.layers[0]


def package(folder: Path, script: str) -> dict[str, tuple[Deb, Path]]:
    """A Debian package whose script runs when it is installed."""
    control = folder / "evil" / "DEBIAN"
    control.mkdir(parents=True)
    text = "Package: evil\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n"
    (control / "control").write_text(text)
    (control / "postinst").write_text(script)
    (control / "postinst").chmod(0o755)
    path = folder / "evil.deb"
    subprocess.run(["dpkg-deb", "--build", str(control.parent), str(path)], check=True, capture_output=True)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {digest: (Deb("evil", "1", "all", digest, path.stat().st_size, "evil.deb"), path)}


@pytest.mark.timeout(500)
def test_a_packages_own_script_is_root_of_nothing(bench: tuple[ImageStore, Layer], tmp_path: Path) -> None:
    store, base = bench
    for path in OUTSIDE:  # of a test that failed
        path.unlink(missing_ok=True)
    tmp_path.chmod(0o700)
    (tmp_path / "secret").write_text("of the platform")
    (tmp_path / "secret").chmod(0o644)
    with socket.create_server(("127.0.0.1", 0)) as listening, store.scratch() as scratch:
        port = listening.getsockname()[1]
        script = ATTACKS.replace("HOME", str(tmp_path)).replace("PID", str(os.getpid())).replace("PORT", str(port))
        debs = package(tmp_path, script)
        target = scratch / "made.tar"
        store.unpack(base, scratch / "base.tar")
        rootfs = Rootfs(scratch, "trixie", EPOCH, lambda _: None, confined=True)
        rootfs.extended((scratch / "base.tar",), debs, target, (), ())
        with tarfile.open(target) as archive:
            seen = archive.extractfile("./seen")
            assert seen is not None
            said = seen.read().decode().splitlines()
            assert archive.getmember("./seen").uid == 0
    assert said[0] == "id 0"
    first = int(said[1].split()[2])
    assert said[1].split() == ["map", "0", str(first), "65536"] and first > 65536
    assert said[2:] == ["end"], said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil", "evil.deb", "secret"]
    assert not any(path.exists() for path in OUTSIDE)


@pytest.mark.timeout(300)
def test_a_folder_that_leads_elsewhere_is_not_taken_for_the_images(
    bench: tuple[ImageStore, Layer], tmp_path: Path
) -> None:
    """What is compiled may put a link in the place of its folder's parent: the host's folder must not be moved."""
    store, base = bench
    with store.scratch() as scratch:
        store.unpack(base, scratch / "base.tar")
        rootfs = Rootfs(scratch, "trixie", EPOCH, lambda _: None, confined=True)
        with pytest.raises(Unavailable, match="made /usr/local/lib/x/doc lead elsewhere"):
            rootfs.filled((scratch / "base.tar",), {}, "/usr/local/lib/x/doc", {}, REPLACED)
    assert Path("/usr/share/doc").is_dir()


def test_what_is_linked_from_elsewhere_is_given_to_nobody(tmp_path: Path) -> None:
    require("root")
    kept, folder = tmp_path / "kept.deb", tmp_path / "build"
    folder.mkdir()
    kept.write_bytes(b"deb")
    kept.chmod(0o644)
    rootless.share(kept, folder / "linked.deb")
    kept.chmod(0o600)
    rootless.share(kept, folder / "copied.deb")
    (folder / "own").touch()
    rootless.give(folder)
    owners = {path.name: path.stat().st_uid for path in folder.iterdir()}
    assert owners["linked.deb"] == kept.stat().st_uid == 0
    assert owners["own"] == owners["copied.deb"] == folder.stat().st_uid > 65536
    assert (folder / "copied.deb").stat().st_mode & 0o777 == 0o644


def test_where_nothing_confines_it_a_stranger_is_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("root", "mmdebstrap"):
        require(part)
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "bwrap" else which(name))
    with pytest.raises(Denied, match="bubblewrap") as refused:
        Rootfs(tmp_path, "trixie", EPOCH, lambda _: None, confined=True).base(package(tmp_path, ""), tmp_path / "x")
    assert (refused.value.exit_code, refused.value.code) == (4, "cannot_confine")
