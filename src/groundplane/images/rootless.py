"""Root of nothing: where packages' own scripts run, which want to be root.

Users and groups there are numbers that this host gives to nobody; whoever is root among them has no right outside. Of
this host there are programs and libraries, read-only, and the build's own folder; no other process, no network, no
device but those that every process has.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_FIRST = 1_900_000_000
"""Beyond what distributions, subuids and systemd give to anybody."""
_COUNT = 65536
_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_OF_ETC = ("alternatives", "debian_version", "dpkg", "group", "ld.so.cache", "ld.so.conf", "ld.so.conf.d")
_MORE_OF_ETC = ("localtime", "nsswitch.conf", "os-release", "passwd", "perl")
_ROOT = ("--setuid", "0", "--setgid", "0", "--")
_MOUNTS = ("unshare", "--mount", "--")  # its own, which root there may change
_SECONDS = 10


class Unconfined(Exception):
    """This host does not do it; says why."""


@contextmanager
def inside(folder: Path) -> Generator[tuple[list[str], int]]:
    """(words to begin an argument list with, a file descriptor that its process must inherit): what is started by them
    is root there, and has the folder, at its own path. Give the folder away first: `give`. Raises Unconfined."""
    program = shutil.which("bwrap")
    if program is None:
        raise Unconfined("bubblewrap (bwrap) is not installed")
    users = _users()
    try:
        words = [*_walls(program, folder), "nsenter", f"--user=/proc/self/fd/{users}", *_ROOT, *_MOUNTS]
        _try(words, users)
        yield words, users
    finally:
        os.close(users)


def give(folder: Path) -> None:
    """Lets all that is in the folder be root's there. Files that have another name elsewhere stay as they are: whoever
    may write one would write that, too."""
    owner = _first()
    for at, _, names in os.walk(folder):
        os.chown(at, owner, owner)
        for name in names:
            path = os.path.join(at, name)  # noqa: PTH118 - one of many
            status = os.lstat(path)
            if status.st_nlink == 1:
                os.chown(path, owner, owner, follow_symlinks=False)


def share(path: Path, target: Path) -> None:
    """Puts a file there that only its owner may write, but everybody may read: linked, where that is as it is."""
    mode = path.stat().st_mode
    if mode & stat.S_IROTH and not mode & (stat.S_IWGRP | stat.S_IWOTH):
        try:
            target.hardlink_to(path)
            return
        except OSError:  # of another file system, or of one without links
            pass
    shutil.copyfile(path, target)
    target.chmod(0o644)


def _walls(program: str, folder: Path) -> list[str]:
    words = [program, "--unshare-net", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent"]
    for path in _PROGRAMS:
        link = os.path.islink(path)  # noqa: PTH114
        words += ["--symlink", os.readlink(path), path] if link else ["--ro-bind-try", path, path]  # noqa: PTH115
    words += ["--dir", "/etc"]  # or only the real root could look into it
    for name in (*_OF_ETC, *_MORE_OF_ETC):
        words += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    words += ["--ro-bind", "/sys", "/sys", "--proc", "/proc", "--dev", "/dev"]
    words += ["--perms", "1777", "--tmpfs", "/tmp"]  # noqa: S108 - its own
    for parent in reversed(folder.parents):
        words += ["--dir", str(parent)] if parent != Path("/") else []  # or it would be as private as outside
    return [*words, "--bind", str(folder), str(folder), "--chdir", str(folder), "--"]


def _try(words: list[str], users: int) -> None:
    """Raises Unconfined where nothing can be started so."""
    try:
        done = subprocess.run(
            [*words, "true"],
            pass_fds=(users,),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unconfined(f"nothing starts in it here: {error}") from error
    if done.returncode != 0:
        raise Unconfined(f"nothing starts in it here: {done.stderr.decode(errors='replace').strip()}")


def _users() -> int:
    """A user namespace, which lives while the descriptor is open."""
    first = _first()
    argv = ["unshare", "--user", "--", "sh", "-c", "echo; read _"]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe) as holder:
        assert holder.stdin is not None and holder.stdout is not None and holder.stderr is not None  # noqa: S101
        try:
            if not holder.stdout.readline():
                raise Unconfined(f"no user namespace may be made: {holder.stderr.read().decode().strip()}")
            for name in ("uid_map", "gid_map"):
                Path(f"/proc/{holder.pid}/{name}").write_text(f"0 {first} {_COUNT}\n")
            return os.open(f"/proc/{holder.pid}/ns/user", os.O_RDONLY)
        except OSError as error:
            raise Unconfined(f"a user namespace cannot be filled: {error}") from error
        finally:
            holder.stdin.close()
            holder.wait(_SECONDS)


def _first() -> int:
    """The first of the numbers. Raises Unconfined where there are not as many besides those of this process."""
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        here, _, count = (int(word) for word in line.split())
        if here + count >= _FIRST + _COUNT:
            return _FIRST
        if count > _COUNT:
            return here + count - _COUNT
    raise Unconfined("there are no user ids left for it here")
