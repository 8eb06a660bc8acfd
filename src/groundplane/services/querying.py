"""Queries that tasks read: asked once a run, in a process of their own, kept by content."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from groundplane.model.connections import UNANSWERED, UNANSWERED_HINT, query_parts
from groundplane.model.errors import GroundError, Invalid
from groundplane.model.reasons import Fault, Reason
from groundplane.model.secrets import HIDDEN
from groundplane.services import connections, downloads, idioms, reasons
from groundplane.services.connections import Opened
from groundplane.services.platform import Platform
from groundplane.spi import confining, layout, readers

_PROGRAM = "groundplane.data.query"
_TRUSTED = {"sslrootcert": "~/.postgresql/root.crt", "sslcrl": "~/.postgresql/root.crl"}
"""libpq's settings for whom to trust, and where it looks by itself."""
_LOOK_EVERY = 1.0
_SHOWN = 80
_TRIES, _PAUSE = 3, 0.5
_CONNECT_SECONDS, _EVEN_SECONDS = 5, 7.0
"""Of strangers' connections: how long they may take, and how long they always take when there is no answer."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """folder: empty, for the result. what: how messages call it. wanted: whether it still is."""

    home: Path
    folder: Path
    opened: Opened
    what: str
    wanted: Callable[[], bool]


class NotAsked(Exception):
    """There is no result; carries the reason."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.message)
        self.reason = reason


def ask(platform: Platform, project: str, source: str, wanted: Callable[[], bool]) -> tuple[str, int]:
    """(sha256, bytes) of the query's result as Parquet, in the store. source: as ground.toml writes it. wanted: asked
    now and then; when it says no, the query is ended. Raises NotAsked, and OSError for this side's disk."""
    name, sql = query_parts(source)
    opened = _opened(platform, project, name)
    with _folder(platform) as folder:
        path = folder / "result.parquet"
        asked = _Asked(platform.home, folder, opened, f"{name!r}: {_short(sql)}", wanted)
        _patiently(asked, {"sql": sql, "target": str(path)})
        with os.fdopen(confining.taken(str(path)), "rb") as file:
            digest, size = hashlib.file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()).st_size
            if os.geteuid() == 0:
                os.fchown(file.fileno(), 0, 0)
            os.fchmod(file.fileno(), 0o444)
            os.fsync(file.fileno())
        place = layout.blob(platform.home, digest)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
    return digest, size


def probe(platform: Platform, opened: Opened) -> Reason | None:
    """Why the database does not answer; None when it does."""
    try:
        connections.require_client()
        with _folder(platform) as folder:
            _run(_Asked(platform.home, folder, opened, repr(opened.name), lambda: True), {})
    except NotAsked as failed:
        return failed.reason
    except GroundError as error:
        return reasons.of_error(error)
    return None


def _opened(platform: Platform, project: str, name: str) -> Opened:
    try:
        with platform.database.read() as connection:
            opened = connections.open_(platform, connection, project, name)
        if not opened.target.is_database:
            raise Invalid(f"connection {name!r} is a bucket, which answers no query")
        connections.require_client()
    except GroundError as error:
        raise NotAsked(reasons.of_error(error)) from error
    return opened


@contextmanager
def _folder(platform: Platform) -> Generator[Path]:
    """Where what is asked writes its result: beside the store, for it moves there."""
    incoming = layout.incoming(platform.home)
    incoming.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="query-", dir=incoming) as folder:
        yield Path(folder)


def _patiently(asked: _Asked, request: dict[str, str]) -> None:
    """A server that is away may be back in a moment."""
    for left in reversed(range(_TRIES)):
        try:
            _run(asked, request)
            return
        except NotAsked as failed:
            if failed.reason.fault is not Fault.BACKEND or not left or not asked.wanted():
                raise
            time.sleep(_PAUSE)


def _run(asked: _Asked, request: dict[str, str]) -> None:
    began = time.monotonic()
    try:
        _ask_once(asked, request)
    except NotAsked as failed:
        if not asked.opened.to_this_host and UNANSWERED in failed.reason.message:
            time.sleep(max(0.0, began + _EVEN_SECONDS - time.monotonic()))
        raise


def _ask_once(asked: _Asked, request: dict[str, str]) -> None:
    opened, target = asked.opened, asked.opened.target
    where: dict[str, Any] = {
        "host": target.host,
        "port": target.port,
        "dbname": target.name,
        "user": target.user,
        **target.options,
        "passfile": os.devnull,  # nobody's own passwords count
        **({"password": opened.password} if opened.password else {}),
    }
    argv, environment = readers.command(_PROGRAM), _environment()
    if not opened.to_this_host:
        where |= _outside(asked)
        argv, environment = _confined(asked, where), readers.environment()
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, cwd="/") as process:
        end = iter((process.terminate, process.kill))
        given: bytes | None = json.dumps({"connection": where, "discreet": not opened.to_this_host, **request}).encode()
        while True:
            try:
                out, said = process.communicate(given, timeout=_LOOK_EVERY)
                break
            except subprocess.TimeoutExpired:
                given = None
                if not asked.wanted():
                    next(end, process.kill)()
    try:
        error = json.loads(out).get("error")
        told = error and Reason(str(error["code"]), str(error["message"]), str(error["hint"]), Fault(error["fault"]))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):  # it may have been taken over
        lines = said.decode(errors="replace").strip().splitlines()
        crashed = "it crashed" + (f": {lines[-1]}" if lines else "")
        told = Reason("query_failed", crashed, "select less of it", Fault.PLATFORM)
    if told:
        raise NotAsked(replace(told, message=_clean(f"connection {asked.what}: {told.message}", opened)))


def _confined(asked: _Asked, where: Mapping[str, Any]) -> list[str]:
    """What asks for a stranger: it reaches that server, and nothing of this host."""
    given = [where[option] for option in _TRUSTED if option in where]
    try:
        return readers.confined(_PROGRAM, given, str(asked.folder), str(asked.home), network=True)
    except OSError as error:
        hint = "install bubblewrap on the control plane's host, or have its owner add the connection"
        raise NotAsked(Reason("cannot_confine", f"connection {asked.what}: {error.strerror}", hint)) from None


def _outside(asked: _Asked) -> dict[str, Any]:
    """More of libpq's settings for a connection that a stranger added: the address is one of another host, now and when
    it is connected to, and nobody's tickets and certificates are shown there."""
    target = asked.opened.target
    try:
        address = downloads.outside(target.host, target.port)
    except downloads.OwnAddress as error:
        raise NotAsked(connections.not_here(asked.opened.name, error)) from None
    except OSError:
        said = f"connection {asked.what}: {UNANSWERED}"
        raise NotAsked(Reason("connection_failed", said, UNANSWERED_HINT, Fault.BACKEND)) from None
    trusted = {option: os.path.expanduser(path) for option, path in _TRUSTED.items()}  # noqa: PTH111 - or there is none
    return {
        "hostaddr": address,
        "connect_timeout": _CONNECT_SECONDS,
        "gssencmode": "disable",
        "sslcert": "/nonexistent",
        "sslkey": "/nonexistent",
        **{option: path for option, path in trusted.items() if Path(path).is_file()},
    }


def _environment() -> dict[str, str]:
    """The control plane's, without what libpq reads of it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _clean(text: str, opened: Opened) -> str:
    for form in idioms.spellings(opened.password) if opened.password else ():
        text = text.replace(form, HIDDEN)
    return text


def _short(sql: str) -> str:
    line = " ".join(sql.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"
