"""The work of a pod, in the container beside this one: from its start to the end of the last process of its tree."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from groundplane.agent import outcome, pod_script, processes
from groundplane.agent.attempts import Attempt, Stage
from groundplane.agent.listening import KILL_EVERY, Listener, end_strays
from groundplane.agent.loop import Loop
from groundplane.agent.places import Places
from groundplane.agent.pod_log import Log, tell
from groundplane.model.reasons import Reason
from groundplane.spi import files, shell_exports, wire

_LOOK_EVERY, _FIRST_LOOK = 0.1, 0.02
_NEVER_BEGAN = 0.2  # seconds after which a shell that was told to begin has not seen it
_TIMES = re.compile(r"(\d+)m([\d.,]+)s (\d+)m([\d.,]+)s")
CANCELLED = Reason("cancelled", "it was cancelled")

everyone: Callable[[], dict[int, processes.Process]] = processes.everything
"""The processes of the pod's own namespace."""


def release(control: str, pipes: Mapping[str, int], script: bytes) -> None:
    """The other container goes on: with the script where it has not begun yet, else to its end. Raises OSError."""
    _write_script(control, script)
    os.write(pipes["go"], b"go\n")


def _write_script(control: str, script: bytes) -> None:
    files.write(Path(control, "start"), script, mode=0o700)


class Work:
    """`gone` is told once: nothing of it is left, and its log is whole. On the loop's thread."""

    def __init__(
        self, loop: Loop, control: str, pipes: Mapping[str, int], attempt: Attempt, log: Log, gone: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._listener = Listener(loop)
        self._control = control
        self._pipes = pipes
        self._attempt = attempt
        self._log = log
        self._gone = gone
        self._shell = 0  # the waiting shell's pid
        self._since = 0  # when it began, in clock ticks: what is older is not the work's
        self._said = b""
        self._used: dict[tuple[int, int], float] = {}  # (pid, start) -> seconds of CPU

    def capture(self) -> None:
        """Before anything is written by anybody."""
        self._listener.capture(self._attempt, [self._pipes["out"], self._pipes["err"]], self._log.add)
        self._loop.watch(self._pipes["exit"], self._heard)

    def begin(self, home: Path) -> None:
        """Lets the other container begin. Raises ValueError (a NUL in its command) and OSError."""
        attempt, launch = self._attempt, self._attempt.launch
        places = Places(home)
        env = {**launch.command.env, **launch.env}
        env["GROUND_ATTEMPT"] = attempt.name
        env["TMPDIR"] = places.temporary(attempt.name)
        script = pod_script.begin(self._control, places.tree(attempt.name), launch.command.argv, env)
        left_out = sorted(name for name in env if not shell_exports.exportable(name))
        if left_out:
            text = f"not set, for no shell passes variables of such a name on: {', '.join(map(repr, left_out))}"
            self._log.add(outcome.note(attempt, (text,)))
        release(self._control, self._pipes, script)
        attempt.stage = Stage.READY

    def let_go(self) -> None:
        """The other container need not wait any longer, whether it has begun or not."""
        if self._shell:
            os.write(self._pipes["go"], b"end\n")
        else:
            release(self._control, self._pipes, pod_script.give_up(125))

    def _heard(self) -> None:
        """The shell's answers."""
        try:
            self._said += os.read(self._pipes["exit"], 4096)
        except BlockingIOError:
            return
        *lines, self._said = self._said.split(b"\n")
        for line in lines:
            word, _, number = line.decode(errors="replace").partition(" ")
            if word == "started" and number.isdigit() and self._attempt.stage is Stage.READY:
                self._started(int(number))
            elif word == "missing":
                self._attempt.reason = self._attempt.reason or _not_there(self._attempt.launch.command.argv[0])
            elif word == "exit" and number.isdigit():
                self._exited(int(number))
            elif match := _TIMES.fullmatch(f"{word} {number}"):
                minutes, seconds, more_minutes, more_seconds = (
                    float(part.replace(",", ".")) for part in match.groups()
                )
                # The shell's own, then its children's: the latter comes last.
                self._attempt.cpu = 60 * (minutes + more_minutes) + seconds + more_seconds

    def _started(self, shell: int) -> None:
        attempt = self._attempt
        self._shell = shell
        seen = processes.inspect(shell)
        self._since = seen.ticks if seen is not None else processes.now_ticks()
        attempt.begun = time.monotonic()
        attempt.started_at = time.time_ns() // 1000
        attempt.stage = Stage.RUNNING
        tell(wire.encode({"t": "started", "at": attempt.started_at}))
        timeout = attempt.launch.resources.timeout
        if timeout is not None:
            attempt.timeout_timer = self._loop.later(timeout, self._timed_out)
        self._loop.later(_FIRST_LOOK, self._look)
        if attempt.reason is not None:
            self._signal_all()

    def _timed_out(self) -> None:
        self.stop(outcome.timed_out(self._attempt.launch.resources.timeout or 0.0))

    def stop(self, reason: Reason) -> None:
        """SIGTERM to the whole tree, SIGKILL after the grace. What has not begun will not."""
        attempt = self._attempt
        if attempt.stopping or attempt.stage not in (Stage.IN_LINE, Stage.STAGING, Stage.READY, Stage.RUNNING):
            return
        attempt.reason = attempt.reason or reason
        attempt.stopping = True
        if attempt.stage is Stage.RUNNING:
            self._signal_all()
        elif attempt.stage is Stage.READY:
            _write_script(self._control, pod_script.give_up(143))
            self._loop.later(_NEVER_BEGAN, self._unless_begun)
        else:
            self._leave()

    def give_up(self, reason: Reason) -> None:
        """It will not begin."""
        self._attempt.reason = self._attempt.reason or reason
        self._leave()

    def kill(self) -> None:
        """At once, all that is there, and nothing more is heard of it."""
        if self._attempt.stage in (Stage.READY, Stage.RUNNING, Stage.ENDING):
            processes.send([process.pid for process in self._tree()], signal.SIGKILL)
        self._attempt.stage = Stage.OVER

    def end(self) -> None:
        """The pod is being ended. An ending that the work has told already counts; else it is stopped, if it runs."""
        self._heard()
        stage = self._attempt.stage
        if stage is Stage.RUNNING:
            if self._shell_lives():
                self.stop(CANCELLED)
            else:
                self._vanished()
        elif stage in (Stage.IN_LINE, Stage.STAGING, Stage.READY):
            self._leave()

    def _unless_begun(self) -> None:
        if self._attempt.stage is Stage.READY:
            self._leave()

    def _signal_all(self) -> None:
        attempt = self._attempt
        attempt.kill_at = time.monotonic() + max(0.0, attempt.launch.grace)
        left = [process.pid for process in self._tree()]
        if attempt.launch.grace > 0:
            processes.send(left, signal.SIGTERM)
            processes.send(left, signal.SIGCONT)
        self._loop.later(max(0.0, attempt.launch.grace), self._kill)

    def _kill(self) -> None:
        """Until the main process has ended; from then on `_end_strays` goes on."""
        if self._attempt.stage is Stage.RUNNING:
            processes.send([process.pid for process in self._tree()], signal.SIGKILL)
            self._loop.later(KILL_EVERY, self._kill)

    def _tree(self) -> list[processes.Process]:
        """What came to live in the pod since the waiting shell did, but for this process and its children.

        The main process first: a shell whose child was ended before it would say 143 instead of the signal.
        """
        if not self._shell:
            return []
        own = os.getpid()
        found = [
            process
            for process in everyone().values()
            if process.ticks >= self._since and not process.zombie
            if process.pid not in (1, own, self._shell) and process.parent != own
        ]
        return sorted(found, key=lambda process: (process.parent != self._shell, process.pid))

    def _shell_lives(self) -> bool:
        shell = processes.inspect(self._shell)
        return shell is not None and not shell.zombie

    def _look(self) -> None:
        """What it uses; and whether its shell still lives, for a killed one says nothing."""
        attempt = self._attempt
        if attempt.stage is not Stage.RUNNING:
            return
        tree = self._tree()
        for process in tree:
            used = processes.used(process.pid)
            self._used[process.pid, process.ticks] = used.cpu
            attempt.peak = max(attempt.peak, used.peak)
        total = sum(process.resident for process in tree)
        if total > attempt.peak and len(tree) > 1:  # shared pages were counted once a process
            total = sum(processes.proportional(process.pid) or process.resident for process in tree)
        attempt.peak = max(attempt.peak, total)
        self._loop.later(_LOOK_EVERY, self._look)
        if not self._shell_lives():
            self._heard()
            if self._attempt.stage is Stage.RUNNING:  # it said nothing before it went
                self._vanished()

    def _exited(self, code: int) -> None:
        attempt = self._attempt
        if attempt.stage is not Stage.RUNNING:
            return
        attempt.status = 128 - code if 128 < code < 160 else code
        self._ending()

    def _vanished(self) -> None:
        """The kernel has ended it together with its shell: its container's own state says why."""
        self._ending()

    def _ending(self) -> None:
        attempt = self._attempt
        attempt.exited = time.monotonic()
        attempt.stage = Stage.ENDING
        self._listener.take(attempt)
        self._end_strays()

    def _end_strays(self) -> None:
        """Comes back until nothing of the tree is left."""
        again = end_strays(self._attempt, [process.pid for process in self._tree()])
        if again is None:
            self._leave()
        else:
            self._loop.later(again, self._end_strays)

    def _leave(self) -> None:
        attempt = self._attempt
        attempt.exited = attempt.exited or time.monotonic()
        attempt.stage = Stage.COLLECTING
        attempt.cpu = max(attempt.cpu, sum(self._used.values()))
        self._listener.finish(attempt)
        self._gone()


def _not_there(program: str) -> Reason:
    text = f"the program {program} was not found in the container"
    return Reason("missing_engine", text, "choose an image that has it")
