"""Confined work: that of somebody whose control plane this is not.

It has processes, mounts and a `/tmp` of its own; of this host it sees programs and their libraries, read-only, and its
own folders. No file of the platform's, no socket, no other process, no home folder is among them. bubblewrap builds
that; an agent that is root takes all rights away as well.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from groundplane.spi import layout

USER = 65534
"""User and group id of confined work where the agent is root; elsewhere it keeps the agent's, in a user namespace."""
_PATIENCE = 3.0
_LIBRARIES = ("/lib", "/lib32", "/lib64", "/libx32", "/sys")
# Not all of it: there may be somebody's keys among the rest, and without root the work has the agent's own user.
_SEEN_OF_ETC = (
    *("alternatives", "ca-certificates.conf", "debian_version", "fonts", "gai.conf", "group", "host.conf", "hosts"),
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "locale.gen", "localtime", "magic", "magic.mime"),
    *("mime.types", "networks", "nsswitch.conf", "odbcinst.ini", "os-release", "passwd", "pki", "protocols", "R"),
    *("resolv.conf", "services", "shells", "ssl/certs", "ssl/openssl.cnf", "timezone"),
)
_SEEN_OF_ETC_BY_NAME = ("/etc/java*", "/etc/octave*", "/etc/python3*")
_RESOLVER = ("/run/systemd/resolve", "/run/resolvconf")  # where /etc/resolv.conf may point
_GPUS = ("/dev/nvidia*", "/dev/dri", "/dev/kfd")


def unavailable() -> str:
    """Why this host cannot confine work; "" when it can. Asks by trying: some milliseconds."""
    import shutil
    import subprocess  # with `shutil` and `glob` 15 ms, which an agent without strangers' work need not spend

    program = shutil.which("bwrap")
    if program is None:
        return "bubblewrap (bwrap) is not installed"
    try:
        done = subprocess.run(
            [*_inside(program), *_isolated(), *_less(), "true"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap does not start here: {error}"
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return "" if done.returncode == 0 else f"bubblewrap may not do it here: {said[-1] if said else done.returncode}"


def wrapped(
    path: str,
    argv: Sequence[str],
    folders: Sequence[str],
    temporary: str,
    home: str,
    *,
    gpus: bool,
    cores: Sequence[int],
) -> tuple[str, list[str]]:
    """The program and arguments that start `argv` (its program at `path`) confined.

    folders: what it may write, at the paths that they have; the first is its current one. temporary: its `/tmp`.
    home: the platform's own folder, of which nothing else is to be seen. Raises OSError when there is no bubblewrap.
    """
    import shutil

    program = shutil.which("bwrap")
    if program is None:
        raise FileNotFoundError(2, "bubblewrap is not installed", "bwrap")
    words = [*_inside(program), *_isolated()]
    if gpus:
        for device in _matching(_GPUS):
            words += ["--dev-bind-try", device, device]
    words += ["--bind", temporary, "/tmp"]  # noqa: S108 - its own
    engine = _engine(path, home)
    for parent in dict.fromkeys(parent for each in (engine, *folders) for parent in _above(each)):
        words += ["--dir", parent]  # or it would be as private as what lies in it
    if engine:
        words += ["--ro-bind", engine, engine]
    for folder in folders:
        words += ["--bind", folder, folder]
    words += ["--chdir", folders[0], *_less(), path, *argv[1:]]
    if cores:  # set before it starts: what it has started by then would have others
        words = ["taskset", "--cpu-list", ",".join(map(str, cores)), *words]
        program = shutil.which("taskset") or "taskset"
    return program, words


def status_of(status: int) -> int:
    """The work's own: bubblewrap says 128 + n for signal n."""
    return 128 - status if 128 < status < 128 + 65 else status


def _inside(program: str) -> list[str]:
    """bubblewrap over an empty root, with what is to be seen of the host's."""
    words = [program]
    for path in (*layout.PROGRAMS, *_LIBRARIES):
        words += ["--symlink", os.readlink(path), path] if os.path.islink(path) else ["--ro-bind-try", path, path]
    named = [f"/etc/{name}" for name in _SEEN_OF_ETC]
    seen = [path for path in (*named, *_matching(_SEEN_OF_ETC_BY_NAME), *_RESOLVER) if os.path.exists(path)]
    for parent in dict.fromkeys(parent for path in seen for parent in _above(path)):
        words += ["--dir", parent]  # or only root could look into it
    for path in seen:
        words += ["--ro-bind-try", path, path]
    return words


def _above(path: str) -> list[str]:
    """The folders above it, the topmost first."""
    parts = path.strip("/").split("/")[:-1]
    return ["/" + "/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _matching(patterns: Sequence[str]) -> list[str]:
    from glob import glob

    return sorted(each for pattern in patterns for each in glob(pattern))


def _isolated() -> list[str]:
    words = ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if os.geteuid() != 0:
        words.append("--unshare-user")
    return [*words, "--proc", "/proc", "--dev", "/dev"]


def _less() -> list[str]:
    """What takes root's rights away: bubblewrap itself does where it has only a user namespace's."""
    if os.geteuid() != 0:
        return ["--"]
    user = str(USER)
    return [
        *("--", "setpriv", "--reuid", user, "--regid", user, "--clear-groups"),
        *("--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", "--"),
    ]


def _engine(path: str, home: str) -> str:
    """The folder of the engine that the platform has installed for itself, if the program is of one."""
    own = f"{home}/engines/"
    return own + path.removeprefix(own).partition("/")[0] if path.startswith(own) else ""
