"""Starts a process: found on the work's own PATH, in its working copy, a session of its own."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping, Sequence

from groundplane.model.reasons import Fault, Reason
from groundplane.spi.confining import VARIABLES

_DEFAULT = (
    signal.SIGPIPE,
    signal.SIGXFSZ,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGCHLD,
)
_JOIN = 'n=$0; while [ $n -gt 0 ]; do echo $$ > "$1" || exit 126; shift; n=$((n - 1)); done; exec "$@"'


class NotStarted(Exception):
    """exit_code is what a shell would say: 127 not found, 126 cannot be run."""

    def __init__(self, exit_code: int, reason: Reason) -> None:
        super().__init__(reason.message)
        self.exit_code = exit_code
        self.reason = reason


def find(program: str, search: str, folder: str) -> str:
    """The absolute path of a program, relative names and PATH entries taken from `folder`. Raises NotStarted."""
    if "/" in program:
        candidates = [os.path.join(folder, program)]
    else:
        candidates = [os.path.join(folder, entry or ".", program) for entry in search.split(":")]
    present = ""
    for candidate in candidates:
        if os.path.isfile(candidate):
            if os.access(candidate, os.X_OK):
                return candidate
            present = present or candidate
    if present:
        raise NotStarted(
            126,
            Reason(
                "start_failed",
                f"{program} is not executable ({present})",
                f"chmod +x {program}, or name its interpreter",
            ),
        )
    where = "in the working copy" if "/" in program else f"on PATH ({search or 'which is empty'})"
    raise NotStarted(
        127,
        Reason("missing_engine", f"the program {program} was not found {where}", "install it, or give its full path"),
    )


def spawn(
    path: str,
    argv: list[str],
    env: Mapping[str, str],
    folder: str,
    streams: tuple[int, int],
    *,
    stdin: str = "/dev/null",
    groups: Sequence[str] = (),
    handed: int | None = None,
) -> int:
    """The pid of the started process. `groups`: cgroup.procs files that it joins first. handed: a descriptor that it
    gets as `confining.VARIABLES`. Raises NotStarted, OSError."""
    if groups:
        argv = ["sh", "-c", _JOIN, str(len(groups)), *groups, path, *argv[1:]]
        path = "/bin/sh"
    # posix_spawn takes no folder, so the agent goes there for a moment; all its own paths are absolute.
    os.chdir(folder)
    try:
        return os.posix_spawn(
            path,
            argv,
            env,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, stdin, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, streams[0], 1),
                (os.POSIX_SPAWN_DUP2, streams[1], 2),
                *([] if handed is None else [(os.POSIX_SPAWN_DUP2, handed, VARIABLES)]),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=_DEFAULT,
        )
    except ValueError as error:  # a NUL or a `=` where there can be none
        raise NotStarted(126, Reason("start_failed", f"{argv[0]} could not be started: {error}")) from error
    except OSError as error:
        raise _explained(error, argv[0], path) from error
    finally:
        os.chdir("/")


def _explained(error: OSError, program: str, path: str) -> Exception:
    if error.errno == errno.ENOENT:
        text = f"{program} could not be started: the interpreter that its first line names was not found"
        return NotStarted(127, Reason("missing_engine", text, f"install it, or correct the first line of {path}"))
    if error.errno == errno.ENOEXEC:
        text = f"{program} is neither a program nor a script with a first line that names one"
        return NotStarted(126, Reason("start_failed", text, "begin it with #! and its interpreter"))
    if error.errno == errno.E2BIG:
        text = f"{program} could not be started: its arguments and variables are too long"
        return NotStarted(126, Reason("start_failed", text, "put long values into a file"))
    if error.errno in (errno.EACCES, errno.EPERM):
        return NotStarted(126, Reason("start_failed", f"{program} may not be run ({path})", f"chmod +x {path}"))
    text = f"{program} could not be started: {error.strerror}"
    return NotStarted(126, Reason("start_failed", text, fault=Fault.PLATFORM))
