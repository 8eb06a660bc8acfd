"""Confined processes: the work of somebody whose control plane this is not, and what reads his tables.

They have processes, mounts, a `/tmp` and a network of their own; of this host they see programs and their libraries,
read-only, and their own folders. No file of the platform's, no socket, no other process, no home folder is among them.
bubblewrap builds that; an agent that is root takes all rights away as well.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from groundplane.spi import layout

USER = 65534
"""User and group id of confined work where the agent is root; elsewhere it keeps the agent's, in a user namespace."""
VARIABLES = 3
"""The descriptor where confined work is handed its variables, as `shell_exports` writes them."""
_BEGINS = f'. /proc/self/fd/{VARIABLES}; exec {VARIABLES}<&-; exec "$@"'
_PATIENCE = 3.0
_SEEN = (*layout.PROGRAMS, "/lib", "/lib32", "/lib64", "/libx32", "/sys")
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
    import subprocess  # with `shutil` some ms, which an agent without strangers' work need not spend

    try:
        done = subprocess.run(
            [*_inside(_bubblewrap()), *_isolated(network=False), *_less(), "true"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except FileNotFoundError:
        return "bubblewrap (bwrap) is not installed"
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
    network: bool,
    gpus: bool,
    cores: Sequence[int],
) -> tuple[str, list[str]]:
    """The program and arguments that start `argv` (its program at `path`) confined. They are to be started without the
    work's variables, which they hand to it by `VARIABLES`: one such as LD_PRELOAD would have its code run before
    anything confines it.

    folders: what it may write, at the paths that they have; the first is its current one. temporary: its `/tmp`.
    home: the platform's own folder, of which nothing else is to be seen. network: whether it has this host's, else it
    has its own `localhost` alone. Raises OSError when there is no bubblewrap.
    """
    program = _bubblewrap()
    words = [*_inside(program), *_isolated(network=network)]
    if gpus:
        for device in _matching(_GPUS):
            words += ["--dev-bind-try", device, device]
    words += ["--bind", temporary, "/tmp"]  # noqa: S108 - its own
    engine = _engine(path, home)
    words += _hidden(home, _SEEN)
    words += _ways_to((engine, *folders))
    if engine:
        words += ["--ro-bind", engine, engine]
    for folder in folders:
        words += ["--bind", folder, folder]
    words += ["--chdir", folders[0], *_less(), "/bin/sh", "-c", _BEGINS, "sh", path, *argv[1:]]
    if cores:  # set before it starts: what it has started by then would have others
        import shutil

        words = ["taskset", "--cpu-list", ",".join(map(str, cores)), *words]
        program = shutil.which("taskset") or "taskset"
    return program, words


def reader(argv: Sequence[str], given: Sequence[str], made: str, home: str, *, network: bool) -> list[str]:
    """The same for a program of the platform's own, in an interpreter like this one, that reads what a stranger made.

    given: what it reads, files and folders. made: the only folder that it may write to, with those below it: they are
    given to it. network: as for work. Raises OSError when there is no bubblewrap.
    """
    if os.geteuid() == 0:
        for folder, _, _ in os.walk(made):
            os.chown(folder, USER, USER)
    own = [path for path in interpreter() if not any(_lies_in(path, seen) for seen in _SEEN)]
    words = [*_inside(_bubblewrap()), *_isolated(network=network), "--tmpfs", "/tmp"]  # noqa: S108 - its own
    words += ["--as-pid-1", "--die-with-parent"]  # nothing of it is left when it has ended
    words += _ways_to(own)
    for path in own:
        words += ["--ro-bind", path, path]
    words += _hidden(home, (*_SEEN, *own))
    words += _ways_to((*given, made))
    for path in given:
        words += ["--ro-bind", path, path]
    return [*words, "--bind", made, made, "--chdir", made, *_less(), *argv]


def interpreter() -> list[str]:
    """Where this interpreter, its libraries and this package lie; no more of the folders around them, which may be
    somebody's home."""
    prefixes = (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix)
    spelled = [path for each in prefixes for path in (each, os.path.realpath(each))]
    parts = [f"{prefix}/{part}" for prefix in spelled for part in ("bin", "lib", "lib64", "pyvenv.cfg")]
    package = str(Path(__file__).parents[1])
    shown = [path for path in dict.fromkeys((*parts, package)) if Path(path).exists()]
    return [path for path in shown if not any(path != other and _lies_in(path, other) for other in shown)]


def taken(path: str) -> int:
    """A descriptor of the file that a confined process has made there, to be read. Raises OSError where it made a link,
    which leads out of its folder, or anything else."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "it is no file", path)
    return file


def status_of(status: int) -> int:
    """The work's own: bubblewrap says 128 + n for signal n."""
    return 128 - status if 128 < status < 128 + 65 else status


def _inside(program: str) -> list[str]:
    """bubblewrap over an empty root, with what is to be seen of the host's."""
    words = [program]
    for path in _SEEN:
        link = Path(path).is_symlink()
        words += ["--symlink", str(Path(path).readlink()), path] if link else ["--ro-bind-try", path, path]
    named = [f"/etc/{name}" for name in _SEEN_OF_ETC]
    seen = [path for path in (*named, *_matching(_SEEN_OF_ETC_BY_NAME), *_RESOLVER) if Path(path).exists()]
    words += _ways_to(seen)
    for path in seen:
        words += ["--ro-bind-try", path, path]
    return words


def _bubblewrap() -> str:
    import shutil

    program = shutil.which("bwrap")
    if program is None:
        raise FileNotFoundError(2, "bubblewrap is not installed", "bwrap")
    return program


def _ways_to(paths: Sequence[str]) -> list[str]:
    """The folders above them, made beforehand: only root could look into what bubblewrap makes by itself."""
    above = dict.fromkeys(parent for path in paths for parent in _above(path))
    return [word for parent in above for word in ("--dir", parent)]


def _hidden(home: str, seen: Sequence[str]) -> list[str]:
    """An empty folder in the place of the platform's, where that lies in what is seen."""
    real = os.path.realpath(home)
    return ["--tmpfs", real] if any(_lies_in(real, os.path.realpath(path)) for path in seen) else []


def _lies_in(path: str, folder: str) -> bool:
    return f"{path}/".startswith(f"{folder}/")


def _above(path: str) -> list[str]:
    """The folders above it, the topmost first."""
    parts = path.strip("/").split("/")[:-1]
    return ["/" + "/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _matching(patterns: Sequence[str]) -> list[str]:
    root = Path("/")
    return sorted(str(each) for pattern in patterns for each in root.glob(pattern.removeprefix("/")))


def _isolated(*, network: bool) -> list[str]:
    words = ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if not network:
        words.append("--unshare-net")
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
