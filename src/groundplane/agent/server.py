"""The agent's socket: one line a message both ways. Whoever is not this user is refused."""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
import traceback
from dataclasses import replace
from functools import partial
from pathlib import Path

from groundplane.agent.book import Book, joined, line_of, texts
from groundplane.agent.host import Host
from groundplane.agent.loop import Loop
from groundplane.model.reasons import Fault, Reason
from groundplane.model.version import VERSION
from groundplane.spi import agent as protocol
from groundplane.spi import confining, layout
from groundplane.spi.driver import Health

_CHUNK = 256 * 1024
_EVERY = 0.002  # seconds between two events
_BUSY_EVERY = 0.05  # while launches wait in line: who runs a thousand tasks gains by being told of several at once


def bind(home: Path) -> socket.socket:
    """The listening socket, in a folder and with a mode that keep others out."""
    layout.make_runtime(home)
    path = layout.agent_socket(home)
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    before = os.umask(0o077)
    try:
        listening.bind(str(path))
    finally:
        os.umask(before)
    listening.listen(64)
    return listening


class Connection:
    """One client. A follower's events are made when its socket takes them, so a slow one costs no memory."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.incoming = bytearray()
        self.outgoing = bytearray()
        self.blocked = False
        self.follows: int | None = None  # number of the last event told
        self.channel = ""
        self.logs: set[str] = set()


class Server:
    """Answers requests; `host` does what they ask for."""

    def __init__(self, loop: Loop, listening: socket.socket, book: Book, agent: str) -> None:
        self._loop = loop
        self._listening = listening
        self._book = book
        self._agent = agent
        self._connections: dict[int, Connection] = {}
        self._told_at = 0.0
        self._tell_armed = False
        self._replies: list[Connection] = []
        self.host: Host
        self.successor = ""  # the interpreter of a newer version that shall take over
        self.successor_version = ""
        self.shutting_down = False
        loop.watch(listening.fileno(), self._accept)

    @property
    def connections(self) -> int:
        return len(self._connections)

    @property
    def listening(self) -> socket.socket:
        return self._listening

    def listen_on(self, listening: socket.socket) -> None:
        """From now on; whoever is connected already stays so."""
        self._loop.forget(self._listening.fileno())
        self._listening.close()
        self._listening = listening
        self._loop.watch(listening.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            sock, _ = self._listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid != os.getuid():
            sock.close()
            return
        sock.setblocking(False)
        connection = Connection(sock)
        self._connections[connection.fd] = connection
        self._loop.watch(connection.fd, partial(self._readable, connection))

    def _drop(self, connection: Connection) -> None:
        if self._connections.pop(connection.fd, None) is not None:
            self._loop.forget(connection.fd)
            connection.sock.close()

    def _readable(self, connection: Connection) -> None:
        if connection.blocked:
            self._send(connection)
        if connection.fd not in self._connections:
            return
        try:
            data = connection.sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self._drop(connection)
            return
        connection.incoming += data
        if b"\n" not in data:
            return
        *lines, rest = connection.incoming.split(b"\n")
        connection.incoming = bytearray(rest)
        for line in lines:
            self._serve(connection, bytes(line))
        self._replies.append(connection)

    def _serve(self, connection: Connection, line: bytes) -> None:
        try:
            number, message = protocol.decode(line)
        except protocol.Unreadable as error:
            reason = Reason("invalid", str(error), fault=Fault.PLATFORM)
            connection.outgoing += protocol.encode(0, protocol.Failed(reason))
            return
        try:
            answer = self._answer(connection, message)
        except Exception as error:  # noqa: BLE001  one bad request must not end everybody's work
            complain(f"{type(message).__name__} could not be served:\n{traceback.format_exc()}")
            answer = protocol.Failed(
                Reason("internal", f"the agent failed: {error!r}", "see agent/agent.log", Fault.PLATFORM)
            )
        if isinstance(answer, bytes):
            connection.outgoing += b'{"id":%d,%s}\n' % (number, answer)
        else:
            connection.outgoing += protocol.encode(number, answer)

    def _answer(self, connection: Connection, message: protocol.Message) -> protocol.Message | bytes:
        host = self.host
        match message:
            case protocol.Hello():
                return self._welcome(message)
            case protocol.Submit():
                if self.shutting_down:
                    return protocol.Failed(Reason("unavailable", "the agent is ending", fault=Fault.PLATFORM))
                late = max(0.0, time.monotonic() - message.sent) if message.sent else 0.0
                return protocol.Submitted(tuple(host.submit(message.launches, late)))
            case protocol.Observe():
                bodies = joined([self._book.body(name) for name in message.attempts])
                return b'"kind":"observed","body":{"observations":%s}' % bodies
            case protocol.Stop():
                host.stop(message.attempt, message.grace)
            case protocol.Cleanup():
                host.cleanup(message.attempts)
            case protocol.Follow():
                connection.follows, connection.channel = self._book.since(message.cursor), message.channel
            case protocol.Check():
                health = self._health()
                if message.confining:
                    why = confining.unavailable()
                    health = replace(health, facts={**health.facts, protocol.CONFINED: why or protocol.YES})
                return health
            case protocol.Shutdown():
                self.shutting_down = True
                if message.end_work:
                    host.end_all(Reason("lost", "the agent was told to stop", "run it again", Fault.PLATFORM))
            case _:
                reason = Reason("invalid", f"{type(message).__name__} is no request", fault=Fault.PLATFORM)
                return protocol.Failed(reason)
        return protocol.Done()

    def _welcome(self, hello: protocol.Hello) -> protocol.Welcome:
        newer = _version(hello.version) > _version(VERSION)
        if newer and hello.python and hello.version != self.successor_version:
            self.successor, self.successor_version = hello.python, hello.version
        return protocol.Welcome(protocol.PROTOCOL, VERSION, self._agent, os.getpid(), handing_over=bool(self.successor))

    def _health(self) -> Health:
        host = self.host
        memory, cpus = host.groups.limits_memory, host.groups.limits_cpus
        gpus = host.capacity.gpus
        return Health(
            ok=not host.journal_stuck,
            message="ready" if not host.journal_stuck else "the disk is full",
            hint="" if not host.journal_stuck else "free some space; it goes on by itself",
            cpus=host.capacity.cpus,
            memory=host.capacity.memory,
            gpus=gpus.count,
            devices=gpus.found,
            facts={
                "limits": f"enforced by {memory}" if memory else "sampled, not enforced",
                "cpus": f"enforced by {cpus}" if cpus else "by affinity, fractions not enforced",
                "working copies": f"small ones copied, large ones {host.copies}",
                "agent": self._agent,
                "agent_version": VERSION,
                "agent_pid": str(os.getpid()),
                **({"gpus": f"not told apart: {gpus.why}"} if gpus.why else {}),
            },
        )

    def changed(self, runs: set[str]) -> None:
        """There is news: told at once, or a few milliseconds later when something was told just now."""
        if runs:
            for connection in self._connections.values():
                if connection.follows is not None:
                    connection.logs |= runs
        if self._tell_armed:
            return
        wait = self._told_at + (_BUSY_EVERY if self.host.line else _EVERY) - time.monotonic()
        if wait <= 0:
            self._tell()
        else:
            self._tell_armed = True
            self._loop.later(wait, self._tell)

    def _tell(self) -> None:
        self._tell_armed = False
        self._told_at = time.monotonic()
        for connection in self._connections.values():
            if connection.follows is not None and connection not in self._replies:
                self._replies.append(connection)

    def flush(self) -> None:
        """At the end of a turn: what has gathered goes out."""
        if not self._replies:
            return
        connections, self._replies = self._replies, []
        for connection in connections:
            if connection.fd in self._connections and not connection.blocked:
                self._send(connection)

    def _send(self, connection: Connection) -> None:
        if not connection.outgoing:
            self._gather_event(connection)
        while connection.outgoing:
            try:
                sent = connection.sock.send(connection.outgoing)
            except BlockingIOError:
                if not connection.blocked:
                    connection.blocked = True
                    self._loop.want_write(connection.fd, True)
                return
            except ConnectionError:
                self._drop(connection)
                return
            del connection.outgoing[:sent]
            if not connection.outgoing:
                self._gather_event(connection)
        if connection.blocked:
            connection.blocked = False
            self._loop.want_write(connection.fd, False)

    def _gather_event(self, connection: Connection) -> None:
        if connection.follows is None:
            return
        bodies = self._book.after(connection.follows, connection.channel)
        if not bodies and not connection.logs:
            return
        connection.follows = self._book.number
        connection.outgoing += b'{"id":0,"kind":"event","body":{"cursor":%s,"observations":%s,"logs":%s}}\n' % (
            line_of(self._book.cursor(connection.follows)),
            joined(bodies),
            texts(sorted(connection.logs)),
        )
        connection.logs.clear()

    def close(self) -> None:
        """Ends all connections and takes the socket's name away."""
        for connection in list(self._connections.values()):
            self._drop(connection)


def _version(text: str) -> tuple[int, ...]:
    """`0.10.1` as numbers; what is no number counts as nothing."""
    return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in text.split(".")[:4])


def complain(text: str) -> None:
    """Into the agent's log."""
    print(time.strftime("%Y-%m-%dT%H:%M:%S"), text, file=sys.stderr, flush=True)
