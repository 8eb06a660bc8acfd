"""From the start of an attempt's process to the end of the last one of its tree."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from groundplane.agent import conversion, processes, proxies, staging
from groundplane.agent.attempts import Attempt, Stage
from groundplane.agent.cgroups import Groups
from groundplane.agent.gpus import GpuPool
from groundplane.agent.listening import KILL_EVERY, Listener, end_strays
from groundplane.agent.loop import Loop
from groundplane.agent.outcome import reason_of, timed_out
from groundplane.agent.places import Places
from groundplane.agent.segments import Segments
from groundplane.agent.spawn import NotStarted, find, spawn
from groundplane.agent.warm import Warm
from groundplane.model.reasons import Reason
from groundplane.spi import confining, conversions, readers, shell_exports


class Runner:
    """Spawns, captures, waits, ends. `started` and `gone` tell the host: it runs; nothing of it is left."""

    def __init__(
        self,
        home: Path,
        loop: Loop,
        segments: Segments,
        groups: Groups,
        gpus: GpuPool,
        started: Callable[[Attempt], None],
        gone: Callable[[Attempt], None],
    ) -> None:
        self._home = home
        self._places = Places(home)
        self._loop = loop
        self._segments = segments
        self._groups = groups
        self._gpus = gpus
        self._started = started
        self._gone = gone
        self._warm = Warm(loop)
        self._listener = Listener(loop)
        self._found: dict[tuple[str, str], str] = {}
        self.active: dict[str, Attempt] = {}
        self._departed: list[Attempt] = []

    def start(self, attempt: Attempt) -> None:
        """Begins with the conversions when there are any. Raises NotStarted and OSError."""
        self.active[attempt.name] = attempt
        attempt.begun = time.monotonic()
        resources = attempt.launch.resources
        if resources.timeout is not None:
            attempt.timeout_timer = self._loop.later(resources.timeout, partial(self._timed_out, attempt))
        if (resources.memory or resources.cpus) and not attempt.launch.proxy:
            attempt.group = self._groups.make(attempt.name, resources)
        if conversions.wanted(attempt.launch.inputs):
            self._convert(attempt)
        else:
            self._spawn(attempt)

    def _convert(self, attempt: Attempt) -> None:
        argv = conversion.prepare(self._home, attempt.launch)
        where = conversion.files(self._home, attempt.name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        out, err = os.open(where.stdout, flags, 0o600), os.open(where.stderr, flags, 0o600)
        env = readers.environment(GROUND_ATTEMPT=attempt.name)
        if not attempt.launch.strange:
            env["TMPDIR"] = self._places.temporary(attempt.name)
        groups = attempt.group.entries if attempt.group else ()
        try:
            pid = spawn(argv[0], argv, env, "/", (out, err), stdin=where.stdin, groups=groups)
        finally:
            os.close(out)
            os.close(err)
        self._watch(attempt, pid, Stage.CONVERTING)

    def _converted(self, attempt: Attempt) -> None:
        if attempt.reason is None:
            attempt.lost, attempt.reason = conversion.answer(self._home, attempt.launch, attempt.status or 0)
        if attempt.group and attempt.group.killed() and attempt.reason and attempt.reason.code == "conversion_failed":
            attempt.reason = None  # the limit is the reason, and is told as such
        attempt.status = None
        if attempt.reason is not None or (attempt.group and attempt.group.killed()):
            self._end_strays(attempt)
            return
        try:
            placed = conversion.place(self._home, attempt.launch)
            conversion.forget(self._home, attempt.launch)
            if attempt.staged is not None:  # what was converted is an input, no output
                for name, path in placed.items():
                    attempt.staged.placed[name] = staging.signature(os.lstat(path))
            self._spawn(attempt)
        except (NotStarted, OSError) as error:
            self.failed_to_start(attempt, error)

    def failed_to_start(self, attempt: Attempt, error: NotStarted | OSError) -> None:
        """Ends an attempt that has no process."""
        if isinstance(error, NotStarted):
            attempt.reason = attempt.reason or error.reason
            attempt.status = error.exit_code
        else:
            attempt.reason = attempt.reason or reason_of(error)
        attempt.exited = time.monotonic()
        self._leave(attempt)

    def _spawn(self, attempt: Attempt) -> None:
        launch = attempt.launch
        tree = self._places.tree(attempt.name)
        env = {**launch.command.env, **launch.env}
        env["GROUND_ATTEMPT"] = attempt.name
        env["TMPDIR"] = self._places.temporary(attempt.name)
        if attempt.gpus:
            env.update(self._gpus.visible(attempt.gpus))
        argv = list(launch.command.argv)
        path = self._program(argv[0], env.get("PATH", os.defpath), tree)
        if attempt.segment is None:
            attempt.segment = self._segments.acquire(launch.run)
        waiting = self._warm.take(argv, env, tree, attempt.cores) if launch.proxy else None
        pid, reads = waiting or self._begun(attempt, path, argv, env, tree)
        attempt.started_at = time.time_ns() // 1000
        self._listener.capture(attempt, reads, partial(self._record, attempt))
        self._watch(attempt, pid, Stage.RUNNING)
        self._started(attempt)

    def _begun(
        self, attempt: Attempt, path: str, argv: list[str], env: Mapping[str, str], tree: str
    ) -> tuple[int, list[int]]:
        """A new process: its pid, and where its stdout and stderr are read."""
        reads: list[int] = []
        writes: list[int] = []
        handed: int | None = None
        if attempt.launch.confined:
            temporary, support = self._places.temporary(attempt.name), self._places.support(attempt.name)
            # What no shell can be told to have is put on by `env`, but for secrets: they are in no argument.
            odd = shell_exports.SHELLS_OWN.intersection(env).difference(attempt.launch.confidential)
            if odd:
                argv = ["env", *(f"{name}={env[name]}" for name in sorted(odd)), path, *argv[1:]]
                path = "/usr/bin/env"
            path, argv = confining.wrapped(
                path,
                argv,
                (tree, support),
                temporary,
                str(self._home),
                network=attempt.launch.network,
                gpus=bool(attempt.gpus),
                cores=attempt.cores,
            )
            handed = _handed({name: value for name, value in env.items() if name not in odd})
            env = {"PATH": os.defpath, "GROUND_ATTEMPT": attempt.name}
        try:
            for _ in range(2):
                reading, writing = os.pipe()
                reads.append(reading)
                writes.append(writing)
            groups = attempt.group.entries if attempt.group else ()
            pid = spawn(path, argv, env, tree, (writes[0], writes[1]), groups=groups, handed=handed)
        except BaseException:
            for fd in reads:
                os.close(fd)
            raise
        finally:
            for fd in (*writes, *([] if handed is None else [handed])):
                os.close(fd)
        if attempt.cores and not attempt.launch.confined:
            try:
                os.sched_setaffinity(pid, attempt.cores)
            except ProcessLookupError:
                pass  # it has ended already
        return pid, reads

    def _program(self, program: str, search: str, tree: str) -> str:
        """Absolute entries of PATH are looked through once; `spawn` says when the program has gone since."""
        if "/" in program or not all(entry.startswith("/") for entry in search.split(":")):
            return find(program, search, tree)
        found = self._found.get((program, search))
        if found is None or not os.access(found, os.X_OK):
            found = find(program, search, tree)
            if len(self._found) > 256:
                self._found.clear()
            self._found[program, search] = found
        return found

    def _watch(self, attempt: Attempt, pid: int, stage: Stage) -> None:
        attempt.pid, attempt.stage = pid, stage
        # A child's own peak begins at its parent's: up to there it says nothing.
        attempt.floor = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        attempt.pidfd = os.pidfd_open(pid)
        self._loop.watch(attempt.pidfd, partial(self._exited, attempt))
        # Reading the start time from /proc costs half a spawn, so this is its upper bound: whoever has this pid
        # and began later is somebody else.
        attempt.ticks = processes.now_ticks()

    def adopt(self, attempt: Attempt, streams: list[dict[str, Any]], grouped: bool) -> None:
        """Goes on with an attempt that a predecessor started; its process is still this one's child."""
        self.active[attempt.name] = attempt
        if grouped:
            attempt.group = self._groups.find(attempt.name, bool(attempt.launch.resources.memory))
        attempt.segment = self._segments.acquire(attempt.launch.run)
        self._listener.capture(attempt, [state["fd"] for state in streams], partial(self._record, attempt))
        for stream, state in zip(attempt.streams, streams, strict=True):
            stream.restore(state)
            stream.filter.seen = stream.filter.seen or state["seen"]
            stream.show_unfinished()
        timeout = attempt.launch.resources.timeout
        now = time.monotonic()
        if timeout is not None:
            delay = max(0.0, attempt.begun + timeout - now)
            attempt.timeout_timer = self._loop.later(delay, partial(self._timed_out, attempt))
        if attempt.stopping:
            self._kill_later(attempt)
        self._watch(attempt, attempt.pid, Stage.RUNNING)
        self._started(attempt)

    def _record(self, attempt: Attempt, record: bytes) -> None:
        if not attempt.muted and attempt.segment is not None:
            self._segments.gather(attempt.segment, record)

    def _exited(self, attempt: Attempt) -> None:
        pid, status, usage = os.wait4(attempt.pid, os.WNOHANG)
        if pid == 0:
            return
        self._loop.forget(attempt.pidfd)
        os.close(attempt.pidfd)
        attempt.pidfd = -1
        attempt.status = os.waitstatus_to_exitcode(status)
        converting = attempt.stage is Stage.CONVERTING
        if attempt.launch.strange if converting else attempt.launch.confined:
            attempt.status = confining.status_of(attempt.status)
        attempt.cpu += usage.ru_utime + usage.ru_stime
        if usage.ru_maxrss > attempt.floor:
            attempt.peak = max(attempt.peak, usage.ru_maxrss * 1024)
        attempt.exited = time.monotonic()
        if converting:
            self._converted(attempt)
            return
        attempt.stage = Stage.ENDING
        self._listener.take(attempt)
        self._departed.append(attempt)

    def settle(self) -> None:
        """Once a turn: of the attempts whose main process has ended, those that left nothing behind are done."""
        if not self._departed:
            return
        departed, self._departed = self._departed, []
        strange = self.strange_children()
        for attempt in departed:
            if strange or any(stream.fd >= 0 for stream in attempt.streams) or _group_exists(attempt.pid):
                self._end_strays(attempt)
            else:
                self._leave(attempt)

    def strange_children(self) -> set[int]:
        """Orphans that this process has adopted; those that have ended are reaped."""
        known = {attempt.pid for attempt in self.active.values() if attempt.alive} | self._warm.pids
        strange = set(processes.children()) - known
        for pid in list(strange):
            try:
                if os.waitpid(pid, os.WNOHANG)[0]:
                    strange.discard(pid)
            except ChildProcessError:
                strange.discard(pid)
        return strange

    def _end_strays(self, attempt: Attempt) -> None:
        """Comes back until nothing of the tree is left."""
        attempt.stage = Stage.ENDING
        again = end_strays(attempt, self._tree(attempt))
        if again is None:
            self._leave(attempt)
        else:
            self._loop.later(again, partial(self._end_strays, attempt))

    def _tree(self, attempt: Attempt) -> list[int]:
        strange = self.strange_children()
        found = {process.pid for process in processes.members({attempt.name: attempt.pid})[attempt.name]}
        if attempt.group is not None:
            found.update(attempt.group.members())
        if len(self.active) == 1:
            # An orphan with a session of its own and an emptied environment: it can only be this attempt's.
            found |= strange
        found.discard(os.getpid())
        # The main process first: a shell whose child was ended before it would say 143 instead of the signal.
        return sorted(found, key=lambda pid: (pid != attempt.pid, pid))

    def _leave(self, attempt: Attempt) -> None:
        self._listener.finish(attempt)
        attempt.stage = Stage.COLLECTING
        del self.active[attempt.name]
        self._gone(attempt)

    def stop(self, attempt: Attempt, grace: float, reason: Reason) -> None:
        """SIGTERM to the whole tree, SIGKILL after the grace. A second call can only shorten it."""
        attempt.reason = attempt.reason or reason
        now = time.monotonic()
        if attempt.launch.proxy and attempt.stage is not Stage.CONVERTING:
            grace += proxies.EXTRA_GRACE
        deadline = now + max(0.0, grace)
        first = not attempt.stopping
        attempt.kill_at = deadline if first else min(attempt.kill_at, deadline)
        attempt.stopping = True
        if first and grace > 0:
            # A proxy passes it on, and needs its helpers (ssh) for that.
            left = [attempt.pid] if attempt.launch.proxy and attempt.stage is Stage.RUNNING else self._tree(attempt)
            if attempt.launch.confined and attempt.stage is Stage.RUNNING:
                left.remove(attempt.pid)  # bubblewrap itself: it waits, and tells how the work ended
            processes.send(left, signal.SIGTERM)
            processes.send(left, signal.SIGCONT)
        self._kill_later(attempt)

    def _kill_later(self, attempt: Attempt) -> None:
        """When its grace is over; a proxy is told before to end what it stands for at once."""
        left = attempt.kill_at - time.monotonic()
        if attempt.launch.proxy:
            self._loop.later(max(0.0, left - proxies.EXTRA_GRACE), partial(self._hurry, attempt))
        self._loop.later(max(0.0, left), partial(self._kill, attempt))

    def _hurry(self, attempt: Attempt) -> None:
        if attempt.stage is Stage.RUNNING and self.active.get(attempt.name) is attempt:
            processes.send([attempt.pid], proxies.AT_ONCE)

    def _kill(self, attempt: Attempt) -> None:
        """Until the main process has ended; from then on `_end_strays` goes on."""
        if attempt.alive and self.active.get(attempt.name) is attempt and time.monotonic() >= attempt.kill_at:
            processes.send(self._tree(attempt), signal.SIGKILL)
            self._loop.later(KILL_EVERY, partial(self._kill, attempt))

    def _timed_out(self, attempt: Attempt) -> None:
        if attempt.alive:
            reason = timed_out(attempt.launch.resources.timeout or 0.0)
            self.stop(attempt, attempt.launch.grace, reason)


def _handed(env: Mapping[str, str]) -> int:
    """A descriptor with the variables of confined work, which no process has before it is confined. Raises
    NotStarted."""
    try:
        content = shell_exports.exports(env)
    except ValueError as error:
        raise NotStarted(126, Reason("start_failed", str(error))) from error
    fd = os.memfd_create("variables")
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(content)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _group_exists(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
