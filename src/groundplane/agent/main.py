"""Puts the agent together, recovers what a former one left, and turns the loop until there is nothing to do."""

from __future__ import annotations

import gc
import os
import signal
import socket
import time
from functools import partial
from pathlib import Path

from groundplane.agent import handover, linux, places, processes
from groundplane.agent import journal as journals
from groundplane.agent.book import Book
from groundplane.agent.host import Host
from groundplane.agent.journal import Journal
from groundplane.agent.loop import Loop
from groundplane.agent.recovery import recover
from groundplane.agent.server import Server, bind, complain
from groundplane.model.reasons import Fault, Reason
from groundplane.model.version import VERSION
from groundplane.spi import layout
from groundplane.spi.agent import agent_id

_IDLE = 900.0
_LOOK = 2.0  # seconds between two looks whether its socket is still there


def serve(home_path: str, lock: int) -> int:
    """Until idle for a quarter of an hour (GROUND_IDLE seconds) or told to end. lock: held, or -1 when inherited."""
    home = Path(home_path)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    inheritance = handover.take(home) if lock < 0 else None
    linux.adopt_orphans()
    agent, boot = agent_id(home), processes.boot_id()
    path = str(home / "agent" / "journal.jsonl")
    history = journals.read(path)
    kept = inheritance.names if inheritance else frozenset[str]()
    recover(history, boot, agent, home, kept)
    aside = places.set_aside(home, kept)
    journal = Journal(path, boot, history)
    book = Book()
    book.restore(history)
    loop = Loop()
    if inheritance:
        lock = inheritance.lock
        listening = socket.socket(fileno=inheritance.listening)
    else:
        listening = bind(home)
    server = Server(loop, listening, book, agent)
    host = server.host = Host(home, agent, loop, journal, book, server.changed)
    if inheritance:
        server.successor_version = inheritance.version
        host.inherit(inheritance)
    host.sweep(aside)
    complain(f"agent {agent} {VERSION} serves {home} as process {os.getpid()}")
    # What lives now lives as long as the agent, and cycles are few: no need to look for them at every turn.
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
    _turn(home, loop, server, host, lock)
    return 0


def _turn(home: Path, loop: Loop, server: Server, host: Host, lock: int) -> None:
    idle = _Idle(loop)
    doors = _Doors(loop, home, server, lock)
    active = True
    while True:
        happened = loop.turn(block=not active)
        host.advance()
        server.flush()
        active = happened or host.prepare_one()
        if doors.homeless and not server.shutting_down:
            complain(f"{home} was deleted: the agent ends, and its work with it")
            server.shutting_down = True
            host.end_all(Reason("lost", f"{home} was deleted", fault=Fault.PLATFORM))
        if server.successor:
            _hand_over(home, server, host, lock)
        elif active:
            continue
        elif server.shutting_down and not host.working:
            server.flush()
            break
        elif idle.over(busy=bool(server.connections or host.working or host.book.entries)):
            complain("nothing to do: the agent ends")
            break
    server.close()
    layout.agent_socket(home).unlink(missing_ok=True)
    host.groups.close()
    places.unmount_all(home)


def _hand_over(home: Path, server: Server, host: Host, lock: int) -> None:
    host.holding = True
    if not host.settled or not host.pause():
        return
    python, server.successor = server.successor, ""
    waiting, running = list(host.line.values()), list(host.runner.active.values())
    try:
        handover.leave(home, python, server.successor_version, lock, server.listening, waiting, running)
    except OSError as error:
        complain(f"{python} could not take over: {error}")
        host.holding = False


class _Doors:
    """Sees to it that the agent can be found: one that cannot would keep another one from starting."""

    def __init__(self, loop: Loop, home: Path, server: Server, lock: int) -> None:
        self._loop = loop
        self._home = home
        self._server = server
        self._lock = os.fstat(lock)
        self._socket = layout.agent_socket(home).stat()
        self.homeless = False
        loop.later(_LOOK, self._look)

    def _look(self) -> None:
        if not _is(self._lock, self._home / "agent" / "lock"):
            self.homeless = True
            return
        self._loop.later(_LOOK, self._look)
        path = layout.agent_socket(self._home)
        if not _is(self._socket, path):
            complain(f"{path} is gone: it is made again")
            try:
                self._server.listen_on(bind(self._home))
                self._socket = path.stat()
            except OSError as error:  # the next look tries again
                complain(f"{path} cannot be made: {error}")


def _is(status: os.stat_result, path: Path) -> bool:
    try:
        return os.path.samestat(status, path.stat())
    except OSError:
        return False


class _Idle:
    """Tells when nobody has needed the agent for so long."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._limit = float(os.environ.get("GROUND_IDLE") or _IDLE)
        self._since = time.monotonic()
        self._armed = False

    def over(self, busy: bool) -> bool:
        now = time.monotonic()
        if busy:
            self._since = now
        elif now - self._since >= self._limit:
            return True
        if not self._armed:
            self._armed = True
            # The loop sleeps without an end: something has to wake it.
            self._loop.later(max(0.01, self._since + self._limit - now), partial(setattr, self, "_armed", False))
        return False
