"""The control plane's process: wires everything and serves. The only file that sees all.

python -m groundplane.bootstrap --home HOME [--private] [--host H --port N] [--token-file FILE]
    [--tls-cert FILE --tls-key FILE] [--database URL]

Who may log in, and how, stands in the environment: services/login_rules.py.
"""

from __future__ import annotations

import argparse
import fcntl
import gc
import json
import logging
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from groundplane.drivers.docker import DockerDriver
from groundplane.drivers.local import LocalDriver
from groundplane.model.errors import GroundError, Invalid, Unavailable
from groundplane.model.version import VERSION
from groundplane.services import login_rules
from groundplane.spi import files, layout, settings

if TYPE_CHECKING:
    import ssl

log = logging.getLogger("groundplane")

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "lustre", "gpfs", "ceph", "glusterfs", "beegfs")
_IDLE_SECONDS = 900.0
_DOOR_SECONDS = 1.0
_END_SECONDS = 20.0
_LEAST_TOKEN = 32


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until it is told to end; the process's exit code."""
    options = _options(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it would log every request to a cluster
    try:
        again = run(options)
    except GroundError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        if not type(error).__module__.startswith("sqlalchemy."):  # not imported here: the agent starts before it
            raise
        log.exception("a query failed")
        print("error: the database refused a query", file=sys.stderr)  # what it said holds values: for the log alone
        print("hint: is it Groundplane's, and of a version that this one knows? control.log has more", file=sys.stderr)
        return 3
    if again:
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - there is no shell in it
    return 0


def run(options: argparse.Namespace) -> bool:
    """One control plane, from its lock to its end. Whether it shall start anew, for nobody can reach it any more."""
    home = options.home.absolute()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        layout.make_runtime(home)
    except OSError as error:
        raise Unavailable(
            f"{home} cannot be used: {error}", hint="set GROUND_HOME to a folder that you can write"
        ) from error
    if options.token_file is not None:
        _check_token(options.token_file)
    rules = login_rules.from_environment(os.environ)
    tls = _tls(options)
    idle = _idle_seconds()
    url = options.database or f"sqlite:///{home / 'ground.db'}"
    file = Path(url.partition(":///")[2]).absolute() if url.startswith("sqlite") else None
    if file:
        _refuse_network_file_system(file.parent)
    sockets: list[socket.socket] = []
    lock = _lock(home / "control.lock", layout.control_socket(home))
    if lock is None and (file or options.port is None):
        raise Unavailable(
            f"another control plane has {home}",
            hint="`ground down` ends it; several share one only with --database postgresql://… and a --port each",
        )
    doors: list[_Door] = []
    try:
        if file and file.parent != home and _lock(Path(f"{file}.lock")) is None:
            raise Unavailable(f"another control plane has {file}", hint="SQLite takes one; several share a PostgreSQL")
        _refuse_beyond_loopback(options, rules, url)
        if lock is not None:
            sockets.append(_unix_socket(home))
            doors += [_Door(layout.control_socket(home)), _Door(home / "control.lock")]
        if options.port is not None or options.host is not None:
            sockets.append(_tcp_socket(options.host or _LOOPBACK[0], options.port or 0))
        _serve(home, options, url, sockets, doors, idle, rules, tls)
        return bool(doors) and not doors[0].open and doors[1].open
    finally:
        for each in sockets:
            each.close()
        if lock is not None:
            if doors and doors[0].open:
                doors[0].path.unlink()
            os.close(lock)


class _Door:
    """A file as it is now: `open` while the same one is still there under its name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._status = path.stat()

    @property
    def open(self) -> bool:
        try:
            return os.path.samestat(self._status, self.path.stat())
        except OSError:
            return False


def _serve(
    home: Path,
    options: argparse.Namespace,
    url: str,
    sockets: Sequence[socket.socket],
    doors: Sequence[_Door],
    idle: float,
    rules: login_rules.LoginRules,
    tls: ssl.SSLContext | None,
) -> None:
    kept = settings.digest(os.environ)
    # The agent, and with it the work, gets this process' environment, but not that.
    secret = {name: os.environ.pop(name) for name in ("GROUND_OIDC_CLIENT_SECRET",) if name in os.environ}
    local = LocalDriver(home)
    warm = threading.Thread(target=_warm, args=(local,), daemon=True)
    warm.start()  # the agent starts on the other core while this process imports
    from groundplane.api.app import create
    from groundplane.api.peers import Doors
    from groundplane.api.server import serve
    from groundplane.engine.audit import Recorder
    from groundplane.engine.conductor import Conductor
    from groundplane.engine.housekeeping import Housekeeping
    from groundplane.engine.relay import Relay
    from groundplane.services import backends, gate
    from groundplane.services.audit import retention, witness
    from groundplane.services.platform import Platform
    from groundplane.store.database import Database

    database = Database(url)
    drivers = {"local": local, "docker": DockerDriver(home, "docker")}
    platform = Platform(home=home, database=database, drivers=drivers, url=_url(sockets, tls), logins=rules)
    platform.audit_witness = witness.checked(os.environ.get("GROUND_AUDIT_WITNESS", ""))
    platform.audit_retention = retention.days(os.environ.get("GROUND_AUDIT_RETENTION", ""))
    backends.load(platform)
    warm.join()
    conductor = Conductor(platform)
    relay = None if database.sqlite else Relay(platform)
    conductor.start()
    if relay:
        relay.start()
    housekeeping = Housekeeping(platform)
    housekeeping.start()
    recorder = Recorder(platform)
    recorder.start()
    app = create(platform, Doors(options.host or "", tls is not None, options.token_file, rules.url))
    activity = _Activity()
    app.add_middleware(activity.middleware)
    gc.freeze()  # what was imported stays: the collector need not look at it again and again
    gc.set_threshold(20_000, 20, 50)
    sys.setswitchinterval(0.0005)  # the engine's threads hand work to each other: they must not wait for a request's

    def started(stop: Callable[[], None]) -> None:
        platform.stop = stop
        if doors:
            _write_record(home, platform.url, options, kept)
            threading.Thread(target=_end_when_shut, args=(doors, stop), daemon=True).start()
        if options.private:
            threading.Thread(target=_end_when_idle, args=(platform, activity, idle, stop), daemon=True).start()
        threading.Thread(target=gate.warm, args=(platform,), name="policies", daemon=True).start()
        log.info("control plane answers version=%s pid=%d url=%s", VERSION, os.getpid(), platform.url)

    try:
        serve(app, sockets, started, tls)
    finally:
        os.environ.update(secret)
        housekeeping.close()
        conductor.close()
        recorder.close()
        if relay:
            relay.close()
        database.close()
        log.info("control plane ended pid=%d", os.getpid())


class _Activity:
    """When the last request was, and how many are open."""

    def __init__(self) -> None:
        self.open = 0
        self.last = time.monotonic()

    def middleware(self, app: Any) -> Any:
        """ASGI middleware that counts."""

        async def counted(scope: Any, receive: Any, send: Any) -> None:
            self.open += 1
            try:
                await app(scope, receive, send)
            finally:
                self.open -= 1
                self.last = time.monotonic()

        return counted


def _idle_seconds() -> float:
    text = os.environ.get("GROUND_IDLE") or str(_IDLE_SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise Invalid(f"GROUND_IDLE={text!r} is no number of seconds", hint=f"write it like {_IDLE_SECONDS:g}")
    return seconds


def _end_when_idle(platform: Any, activity: _Activity, limit: float, stop: Callable[[], None]) -> None:
    from groundplane.services import status

    while True:
        time.sleep(min(5.0, limit / 4))
        if activity.open or time.monotonic() - activity.last < limit or not status.is_idle(platform):
            continue
        log.info("ending: nothing to do for %.0f s", limit)
        stop()
        return


def _end_when_shut(doors: Sequence[_Door], stop: Callable[[], None]) -> None:
    """A control plane that nobody can reach would keep everybody else from starting one: its home was deleted, or
    somebody cleaned up in it."""
    while all(door.open for door in doors):
        time.sleep(_DOOR_SECONDS)
    log.warning("ending: %s is gone", next(door.path for door in doors if not door.open))
    stop()


def _warm(local: LocalDriver) -> None:
    try:
        local.check()
    except GroundError as error:
        log.warning("the agent does not answer error=%s", error)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="groundplane.bootstrap", description="The Groundplane control plane.")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--private", action="store_true", help="end after GROUND_IDLE seconds without work")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--token-file", type=Path)
    parser.add_argument("--tls-cert", type=Path)
    parser.add_argument("--tls-key", type=Path)
    parser.add_argument("--database")
    return parser.parse_args(argv)


def _refuse_beyond_loopback(options: argparse.Namespace, rules: login_rules.LoginRules, url: str) -> None:
    """Beyond loopback somebody must be able to log in."""
    if options.host in (None, *_LOOPBACK) or options.token_file is not None or rules.provider is not None:
        return
    if not url.startswith("sqlite") or Path(url.partition(":///")[2]).exists():
        from groundplane.services import sessions
        from groundplane.services.platform import Platform
        from groundplane.store.database import Database

        database = Database(url)
        try:
            if sessions.has_password(Platform(home=options.home, database=database, drivers={})):
                return
        finally:
            database.close()
    raise Invalid(
        f"--host {options.host} is beyond loopback, and nobody could log in there",
        hint="set GROUND_OIDC_ISSUER, or ground users create NAME --password; or --token-file FILE, or 127.0.0.1 and "
        "an SSH tunnel",
        code="unsafe_host",
    )


def _tls(options: argparse.Namespace) -> ssl.SSLContext | None:
    """What TCP speaks. Raises Invalid when the files are no certificate and its key."""
    if options.tls_cert is None and options.tls_key is None:
        return None
    if options.tls_cert is None or options.tls_key is None:
        raise Invalid("TLS needs a certificate and its key", hint="--tls-cert FILE --tls-key FILE")
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(options.tls_cert, options.tls_key, password=lambda: b"")
    except (OSError, ssl.SSLError) as error:
        raise Invalid(
            f"{options.tls_cert} and {options.tls_key} are no certificate and its key: {error}",
            hint="PEM files; the key without a pass phrase",
        ) from error
    return context


def _check_token(path: Path) -> None:
    """A token that can be guessed is none."""
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"the token file {path} cannot be read: {error}", hint="a file with the token alone") from error
    if len(token) < _LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise Invalid(
            f"the token in {path} is too short, or no word",
            hint=f"at least {_LEAST_TOKEN} characters without a space: openssl rand -hex 32",
        )


def _refuse_network_file_system(folder: Path) -> None:
    """SQLite's locks do not hold on a network file system: two control planes would write at once."""
    try:
        kind = file_system(folder, Path("/proc/self/mounts").read_bytes())
    except FileNotFoundError:
        return
    if kind in _NETWORK_FILE_SYSTEMS or kind.startswith("fuse.sshfs"):
        raise Invalid(
            f"{folder} is on a network file system ({kind}), where SQLite may lose work",
            hint="set GROUND_HOME to a folder on a local disk, or use --database postgresql://…",
        )


def file_system(folder: Path, mounts: bytes) -> str:
    """The kind of the file system that holds the folder, by the text of /proc/self/mounts; "" when that is not said."""
    real = os.fsencode(os.path.realpath(folder))
    best, kind = b"", b""
    for line in mounts.splitlines():
        _, point, found, *_ = line.split(b" ")
        point = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), point)
        inside = real == point or real.startswith(point.rstrip(b"/") + b"/")
        if inside and len(point) >= len(best):
            best, kind = point, found
    return kind.decode()


def _lock(path: Path, answers: Path | None = None) -> int | None:
    """The lock, or None when another control plane has it. One that does not answer is about to end, and waited for.

    answers: its socket.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _END_SECONDS
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except BlockingIOError:
            if answers is None or time.monotonic() > deadline or _answers(answers):
                os.close(handle)
                return None
            time.sleep(0.02)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _unix_socket(home: Path) -> socket.socket:
    path = layout.control_socket(home)
    path.unlink(missing_ok=True)
    found = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        found.bind(str(path))
    finally:
        os.umask(before)
    found.listen(1024)
    return found


def _tcp_socket(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except OSError as error:
        found.close()
        raise Unavailable(
            f"{host}:{port} cannot be listened on: {error.strerror}", hint="use another --port"
        ) from error
    found.listen(1024)
    return found


def _url(sockets: Sequence[socket.socket], tls: ssl.SSLContext | None) -> str | None:
    scheme = "https" if tls else "http"
    for each in sockets:
        if each.family == socket.AF_INET:
            return "{}://{}:{}".format(scheme, *each.getsockname()[:2])
        if each.family == socket.AF_INET6:
            return "{}://[{}]:{}".format(scheme, *each.getsockname()[:2])
    return None


def _write_record(home: Path, url: str | None, options: argparse.Namespace, logins: str) -> None:
    """Who serves, for the command line: written whole or not at all."""
    kept = {
        name.replace("_", "-"): str(value) if isinstance(value, Path) else value
        for name, value in vars(options).items()
        if name != "home" and value not in (None, False)
    }
    record = {"pid": os.getpid(), "version": VERSION, "url": url, "options": kept, "settings": logins}
    path = layout.runtime(home) / "control.json"
    files.write(path, json.dumps(record).encode())


if __name__ == "__main__":
    sys.exit(main())
