"""Queries that tasks read: asked once a run, in a process of their own, kept by content."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from groundplane.model.connections import UNANSWERED, UNANSWERED_HINT, query_parts
from groundplane.model.errors import GroundError, Invalid
from groundplane.model.reasons import Fault, Reason
from groundplane.model.secrets import HIDDEN
from groundplane.services import connections, downloads, idioms, reasons
from groundplane.services.connections import Opened
from groundplane.services.platform import Platform
from groundplane.spi import layout

_LOOK_EVERY = 1.0
_SHOWN = 80
_TRIES, _PAUSE = 3, 0.5
_CONNECT_SECONDS, _EVEN_SECONDS = 5, 7.0
"""Of strangers' connections: how long they may take, and how long they always take when there is no answer."""


class NotAsked(Exception):
    """There is no result; carries the reason."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.message)
        self.reason = reason


def ask(platform: Platform, project: str, source: str, wanted: Callable[[], bool]) -> tuple[str, int]:
    """(sha256, bytes) of the query's result as Parquet, in the store. source: as ground.toml writes it. wanted: asked
    now and then; when it says no, the query is ended. Raises NotAsked, and OSError for this side's disk."""
    name, sql = query_parts(source)
    folder = layout.incoming(platform.home)
    folder.mkdir(parents=True, exist_ok=True)
    handle, target = tempfile.mkstemp(suffix=".parquet", dir=folder)
    os.close(handle)
    path = Path(target)
    try:
        opened = _opened(platform, project, name)
        _patiently(opened, {"sql": sql, "target": target}, f"{name!r}: {_short(sql)}", wanted)
        with path.open("rb") as file:
            digest, size = hashlib.file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()).st_size
            os.fsync(file.fileno())
        place = layout.blob(platform.home, digest)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.chmod(0o444)
        path.rename(place)
    finally:
        path.unlink(missing_ok=True)
    return digest, size


def probe(opened: Opened) -> Reason | None:
    """Why the database does not answer; None when it does."""
    try:
        connections.require_client()
        _run(opened, {}, repr(opened.name), lambda: True)
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


def _patiently(opened: Opened, request: dict[str, str], what: str, wanted: Callable[[], bool]) -> None:
    """A server that is away may be back in a moment."""
    for left in reversed(range(_TRIES)):
        try:
            _run(opened, request, what, wanted)
            return
        except NotAsked as failed:
            if failed.reason.fault is not Fault.BACKEND or not left or not wanted():
                raise
            time.sleep(_PAUSE)


def _run(opened: Opened, request: dict[str, str], what: str, wanted: Callable[[], bool]) -> None:
    began = time.monotonic()
    try:
        _ask_once(opened, request, what, wanted)
    except NotAsked as failed:
        if not opened.to_this_host and UNANSWERED in failed.reason.message:
            time.sleep(max(0.0, began + _EVEN_SECONDS - time.monotonic()))
        raise


def _ask_once(opened: Opened, request: dict[str, str], what: str, wanted: Callable[[], bool]) -> None:
    target = opened.target
    where: dict[str, Any] = {
        "host": target.host,
        "port": target.port,
        "dbname": target.name,
        "user": target.user,
        **target.options,
        "passfile": os.devnull,  # nobody's own passwords count
        **({"password": opened.password} if opened.password else {}),
    }
    if not opened.to_this_host:
        where |= _outside(opened, what)
    argv = [sys.executable, "-I", "-m", "groundplane.data.query"]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, env=_environment(opened), cwd="/") as process:
        end = iter((process.terminate, process.kill))
        asked = {"connection": where, "discreet": not opened.to_this_host, **request}
        given: bytes | None = json.dumps(asked).encode()
        while True:
            try:
                out, said = process.communicate(given, timeout=_LOOK_EVERY)
                break
            except subprocess.TimeoutExpired:
                given = None
                if not wanted():
                    next(end, process.kill)()
    try:
        answer: dict[str, Any] = json.loads(out)
    except ValueError:
        lines = said.decode(errors="replace").strip().splitlines()
        told = f"asking connection {what} crashed" + (f": {lines[-1]}" if lines else "")
        raise NotAsked(Reason("query_failed", _clean(told, opened), "select less of it", Fault.PLATFORM)) from None
    if error := answer.get("error"):
        message = f"connection {what}: {error['message']}"
        raise NotAsked(Reason(error["code"], _clean(message, opened), error["hint"], Fault(error["fault"])))


def _outside(opened: Opened, what: str) -> dict[str, Any]:
    """More of libpq's settings for a connection that a stranger added: the address is one of another host, now and when
    it is connected to, and nobody's tickets and certificates are shown there."""
    try:
        address = downloads.outside(opened.target.host, opened.target.port)
    except downloads.OwnAddress as error:
        raise NotAsked(connections.not_here(opened.name, error)) from None
    except OSError:
        said = f"connection {what}: {UNANSWERED}"
        raise NotAsked(Reason("connection_failed", said, UNANSWERED_HINT, Fault.BACKEND)) from None
    return {
        "hostaddr": address,
        "connect_timeout": _CONNECT_SECONDS,
        "gssencmode": "disable",
        "sslcert": "/nonexistent",
        "sslkey": "/nonexistent",
    }


def _environment(opened: Opened) -> dict[str, str]:
    """The control plane's without what libpq reads of it; without its owner's tickets, too, for what he has not
    added."""
    found = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return found if opened.to_this_host else {**found, "KRB5CCNAME": "FILE:/nonexistent"}


def _clean(text: str, opened: Opened) -> str:
    for form in idioms.spellings(opened.password) if opened.password else ():
        text = text.replace(form, HIDDEN)
    return text


def _short(sql: str) -> str:
    line = " ".join(sql.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"
