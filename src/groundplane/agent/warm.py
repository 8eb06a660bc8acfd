"""A proxy's process, started ahead: it has imported what it needs and waits to be told what it stands for.

Its start would be a tenth of what a short container takes. What waits is the program without its last argument; one
line of JSON on its standard input brings that, the environment and the folder (see `spi.launch.Launch.proxy`). It ends
by itself when the agent does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from groundplane.agent.loop import Loop, Timer
from groundplane.agent.spawn import NotStarted, spawn

_LATER = 0.3  # seconds after a start: the container that begins just now comes first
_KEPT = 300.0
_LARGEST = 32 * 1024  # bytes: a pipe takes twice as much without a reader


@dataclass(slots=True)
class _Waiting:
    program: tuple[str, ...]
    pid: int
    stdin: int
    streams: list[int]


class Warm:
    """At most one process waits. On the loop's thread only."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._waiting: _Waiting | None = None
        self._timer: Timer | None = None

    @property
    def pids(self) -> frozenset[int]:
        """Of what waits: a child of the agent's, and no attempt's."""
        return frozenset((self._waiting.pid,)) if self._waiting else frozenset()

    def take(
        self, argv: Sequence[str], env: Mapping[str, str], folder: str, cores: Sequence[int]
    ) -> tuple[int, list[int]] | None:
        """The pid of a process that does the work of these arguments, and where its stdout and stderr are read; None
        when none waits for such work. Another one is started a moment later. cores: that it may use, [] for all."""
        found, self._waiting = self._waiting, None
        self._again(_LATER, tuple(argv[:-1]))
        if found is None:
            return None
        line = json.dumps({"argument": argv[-1], "env": dict(env), "folder": folder}).encode() + b"\n"
        if found.program != tuple(argv[:-1]) or len(line) > _LARGEST or os.waitpid(found.pid, os.WNOHANG)[0]:
            _let_go(found)
            return None
        try:
            if cores:
                os.sched_setaffinity(found.pid, cores)
            os.write(found.stdin, line)
        except (BrokenPipeError, ProcessLookupError):
            _let_go(found)
            return None
        os.close(found.stdin)
        return found.pid, found.streams

    def _again(self, seconds: float, program: tuple[str, ...]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.later(seconds, lambda: self._start(program))

    def _start(self, program: tuple[str, ...]) -> None:
        self._timer = None
        if self._waiting is not None:
            return
        pipes = [os.pipe() for _ in range(3)]
        (reads, stdin), (out, out_end), (err, err_end) = pipes
        try:
            pid = spawn(
                program[0], list(program), {"PATH": os.defpath}, "/", (out_end, err_end), stdin=f"/proc/self/fd/{reads}"
            )
        except (NotStarted, OSError):  # the start that is not ahead will say why
            for fd in (stdin, out, err):
                os.close(fd)
            return
        finally:
            for fd in (reads, out_end, err_end):
                os.close(fd)
        self._waiting = _Waiting(program, pid, stdin, [out, err])
        self._timer = self._loop.later(_KEPT, self._end)

    def _end(self) -> None:
        self._timer = None
        found, self._waiting = self._waiting, None
        if found is not None:
            _let_go(found)


def _let_go(found: _Waiting) -> None:
    """It ends when its input does; the agent reaps it with other orphans."""
    for fd in (found.stdin, *found.streams):
        os.close(fd)
