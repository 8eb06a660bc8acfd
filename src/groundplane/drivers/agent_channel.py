"""One connection to the agent of this host, user and home; the agent is started when none answers."""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

from groundplane.model.errors import Unavailable
from groundplane.model.version import VERSION
from groundplane.spi import agent as protocol
from groundplane.spi import layout

_START_WITHIN = 15.0
_ANSWER_WITHIN = 60.0


class Broken(ConnectionError):
    """The agent ended or became another; connect again."""


class Channel:
    """Requests and their answers, one at a time, and events for who follows. Not for two threads at once."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()
        self._lines: list[bytes] = []
        self._number = 0
        self.cursor: str | None = None  # of the last event; None when it does not follow

    @property
    def pid(self) -> int:
        """The process at the other side."""
        return struct.unpack("3i", self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]

    def ask(self, message: protocol.Message) -> protocol.Message:
        """The answer; events that were on their way are dropped. Raises Broken, and Unavailable with its reason."""
        self._number += 1
        deadline = time.monotonic() + _ANSWER_WITHIN
        try:
            self._sock.settimeout(_ANSWER_WITHIN)
            self._sock.sendall(protocol.encode(self._number, message))
        except OSError as error:
            raise Broken(str(error)) from error
        while True:
            line = self._line(deadline)
            if line is None:
                raise Unavailable("the agent does not answer", hint="see agent/agent.log in GROUND_HOME")
            number, answer = protocol.decode(line)
            if number == self._number:
                if isinstance(answer, protocol.Failed):
                    raise Unavailable(answer.reason.message, hint=answer.reason.hint, code=answer.reason.code)
                return answer

    def follow(self, cursor: str, channel: str = "") -> None:
        """The channel's events from that cursor on."""
        self.ask(protocol.Follow(cursor, channel))
        self.cursor = cursor

    def event(self, timeout: float) -> protocol.Event | None:
        """The next event; None when there is none within `timeout` seconds. Raises Broken."""
        line = self._line(time.monotonic() + timeout)
        if line is None:
            return None
        _, message = protocol.decode(line)
        if not isinstance(message, protocol.Event):
            raise Broken(f"unexpected {type(message).__name__}")
        self.cursor = message.cursor
        return message

    def close(self) -> None:
        """Also wakes a thread that waits in `event`."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other side has gone already
        self._sock.close()

    def _line(self, deadline: float) -> bytes | None:
        while not self._lines:
            try:
                self._sock.settimeout(max(0.0, deadline - time.monotonic()))
                data = self._sock.recv(256 * 1024)
            except (TimeoutError, BlockingIOError):
                return None
            except OSError as error:
                raise Broken(str(error)) from error
            if not data:
                raise Broken("the agent has closed the connection")
            self._buffer += data
            if b"\n" in data:
                *lines, rest = self._buffer.split(b"\n")
                self._lines = [bytes(line) for line in reversed(lines)]
                self._buffer = bytearray(rest)
        return self._lines.pop()


def connect(home: Path, may_start: Callable[[], bool]) -> Channel:
    """A channel to a running agent, started if need be and while it may be. Raises Unavailable."""
    deadline = time.monotonic() + _START_WITHIN
    path = str(layout.agent_socket(home))
    started = 0.0
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            sock.close()
            if not may_start():
                raise Unavailable(f"the agent of {home} has ended, and none is started any more") from None
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"the agent of {home} did not start", hint=f"see {home / 'agent' / 'agent.log'}"
                ) from None
            if time.monotonic() - started > 2.0:  # another one may be ending just now: ask again
                _start(home)
                started = time.monotonic()
            time.sleep(0.002)
            continue
        except OSError as error:
            sock.close()
            raise Unavailable(f"the agent's socket {path} cannot be used: {error.strerror}") from error
        channel = Channel(sock)
        try:
            answer = channel.ask(protocol.Hello(protocol.PROTOCOL, VERSION, sys.executable))
        except Broken:
            channel.close()
            if time.monotonic() > deadline:
                raise Unavailable(f"the agent of {home} refuses this user or keeps ending") from None
            time.sleep(0.005)
            continue
        if not isinstance(answer, protocol.Welcome):
            raise Unavailable(f"what answers at {path} is no agent")
        return channel


def _start(home: Path) -> None:
    """The agent detaches by itself: what is started here ends at once."""
    try:
        layout.make_runtime(home)
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-m", "groundplane.agent", "--home", str(home)],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            ],
        )
    except OSError as error:
        raise Unavailable(f"the agent of {home} could not be started: {error}") from error
    _, status = os.waitpid(pid, 0)
    if status != 0:
        raise Unavailable(f"the agent of {home} could not be started", hint=f"see {home / 'agent' / 'agent.log'}")
