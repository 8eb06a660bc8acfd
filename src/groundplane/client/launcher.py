"""Finds this home's control plane, and starts a private one when there is none.

A control plane may be killed at any instant, so replacing an older one is safe: running work runs on.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from groundplane.model.errors import Denied, GroundError, Invalid, Unavailable
from groundplane.model.version import VERSION
from groundplane.spi import layout, settings
from groundplane.spi.http import unix_socket

START_LIMIT = 60.0
"""Seconds that a control plane may take to its first answer (a migration may be among them)."""
_END_LIMIT = 5.0
_POLL = 0.002
_LOG_LIMIT = 4 * 1024 * 1024
_PRIVATE: Mapping[str, Any] = {"private": True}


class Record(NamedTuple):
    """What a control plane writes about itself into control.json. options: those of `ground up`, for its successor.
    settings: digest of the variables about logins that it was started with."""

    pid: int
    version: str
    url: str | None
    options: Mapping[str, Any]
    settings: str = ""


class _Child(NamedTuple):
    """A control plane that this process started: what it says stands in the log from `begin`."""

    pid: int
    log: Path
    begin: int


_child: _Child | None = None


def home_folder() -> Path:
    """GROUND_HOME, or the user's data folder."""
    if named := os.environ.get("GROUND_HOME"):
        return Path(named).expanduser().absolute()
    import platformdirs  # only where it is needed: it costs 6 ms

    return Path(platformdirs.user_data_dir("groundplane", appauthor=False))


def connect(home: Path) -> socket.socket:
    """A connection to this home's control plane; one is started when none answers, and replaces an older one."""
    found = running(home)
    if found and not _outdated(home, found):
        return found
    with _starting(home):
        found = running(home)
        if found is None:
            return start(home, _PRIVATE)
        if not _outdated(home, found):  # another shell was faster
            return found
        known = record(home, found)
        end(found)
        return start(home, known.options if known else _PRIVATE)


def restart(home: Path, options: Mapping[str, Any]) -> socket.socket:
    """Starts a control plane with these options in the place of one that may run."""
    with _starting(home):
        if found := running(home):
            end(found)
        return start(home, options)


def replace_this(home: Path, options: Mapping[str, Any]) -> NoReturn:
    """Becomes a control plane: this process, with its terminal. A private one gives way; another one refuses."""
    with _starting(home):
        if (found := running(home)) is not None:
            known = record(home, found)
            if known and known.options.get("private"):
                end(found)
    argv = command(home, options)
    sys.stdout.flush()
    os.execve(argv[0], argv, {**os.environ, "GROUND_HOME": str(home)})  # noqa: S606 - there is no shell in it


def running(home: Path) -> socket.socket | None:
    """A connection to the control plane, or None when none answers."""
    try:
        return unix_socket(str(layout.control_socket(home)))
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise Denied(f"the control plane of {home} belongs to another user", hint="set GROUND_HOME") from error


def record(home: Path, connection: socket.socket) -> Record | None:
    """What the control plane at the other side wrote about itself; None when it did not, or not yet."""
    try:
        body = json.loads((layout.runtime(home) / "control.json").read_bytes())
        found = Record(
            int(body["pid"]),
            str(body["version"]),
            body.get("url"),
            body.get("options") or {},
            str(body.get("settings") or ""),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if found.pid == peer_pid(connection) else None  # a killed one leaves its record behind


def end(connection: socket.socket) -> None:
    """Ends the process at the other side of a unix socket: SIGTERM, and SIGKILL when it is not gone in 5 s."""
    pid = peer_pid(connection)
    connection.close()
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        if wait_for_end(pid, _END_LIMIT):
            return
    raise Unavailable(f"the control plane (pid {pid}) does not end", hint="look at it with ps, then try again")


def wait_for_end(pid: int, seconds: float) -> bool:
    """Whether a process of this user, no child of this one, is gone within that time."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        waiter = select.poll()
        waiter.register(handle, select.POLLIN)
        return bool(waiter.poll(seconds * 1000))
    finally:
        os.close(handle)


def peer_pid(connection: socket.socket) -> int:
    """The id of the process that listens at the other side of a unix socket."""
    return struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]


def command(home: Path, options: Mapping[str, Any]) -> list[str]:
    """The control plane's command line."""
    argv = [sys.executable, "-P", "-m", "groundplane.bootstrap", "--home", str(home)]
    for name, value in options.items():
        if value is True:
            argv.append(f"--{name}")
        elif value is not None and value is not False:
            argv += [f"--{name}", str(value)]
    return argv


def start(home: Path, options: Mapping[str, Any]) -> socket.socket:
    """Starts one, detached from this process and its streams, and returns when it answers.

    Raises what it said when it did not come up; likewise for one that this process started before.
    """
    global _child
    patience = time.monotonic() + _END_LIMIT
    while _child is not None and time.monotonic() < patience:  # nobody answers, so it is on its way out
        raise_if_failed()
        time.sleep(_POLL)
    log = home / "control.log"
    if log.exists() and log.stat().st_size > _LOG_LIMIT:
        log.replace(log.with_suffix(".log.old"))
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        begin = os.lseek(output, 0, os.SEEK_END)
        argv = command(home, options)
        pid = os.posix_spawn(
            argv[0],
            argv,
            {**os.environ, "GROUND_HOME": str(home)},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
            setsid=True,
            setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE],
        )
    finally:
        os.close(output)
    _child = _Child(pid, log, begin)
    limit = time.monotonic() + START_LIMIT
    while time.monotonic() < limit:
        if found := running(home):
            return found
        raise_if_failed()
        time.sleep(_POLL)
    raise Unavailable(f"the control plane did not answer within {START_LIMIT:.0f} s", hint=f"see {log}")


def raise_if_failed() -> None:
    """Raises what the control plane said that this process started last, when that has ended by a failure of its own.

    It listens before it has looked at its database: a connection to it does not prove that it comes up.
    """
    global _child
    if _child is None:
        return
    ended, status = os.waitpid(_child.pid, os.WNOHANG)
    if not ended:
        return
    failed, _child = _child, None
    if (code := os.waitstatus_to_exitcode(status)) > 0:
        raise _failure(failed.log, failed.begin, code)


def _failure(log: Path, begin: int, code: int) -> GroundError:
    """What a control plane that did not come up said, as the error that its exit code means."""
    with log.open("rb") as file:
        file.seek(begin)
        text = file.read(_LOG_LIMIT).decode(errors="replace").rstrip()
    kind = {2: Invalid, 4: Denied}.get(code, Unavailable)
    errors, hints = re.findall(r"^error: (.*)$", text, re.M), re.findall(r"^hint: (.*)$", text, re.M)
    if errors:
        return kind(errors[-1], hint=hints[-1] if hints else f"see {log}")
    last = "\n".join(text.splitlines()[-5:])
    return kind(f"the control plane ended as it started (exit {code}){': ' + last if last else ''}", hint=f"see {log}")


@contextmanager
def _starting(home: Path) -> Generator[None]:
    """One start at a time in a home: of two shells, the second waits and finds the first one's."""
    import fcntl

    try:
        folder = layout.make_runtime(home)
        lock = os.open(folder / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(
            f"{home} cannot be used: {error.strerror or error}", hint="set GROUND_HOME to a folder that you can write"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _outdated(home: Path, connection: socket.socket) -> bool:
    known = record(home, connection)
    if known is None or version_key(known.version) >= version_key(VERSION):
        return False
    # In its place would come one that lets in nobody, or others: whoever set these variables has to do it.
    return known.settings in ("", settings.digest(os.environ))


def version_key(text: str) -> tuple[int, ...]:
    """`0.10.1` as numbers; what follows them (`.dev3`, `+local`) does not count."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()
