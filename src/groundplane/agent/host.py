"""Takes launches, lets them start in order when there is room, and keeps each result until it is collected."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

from groundplane.agent import collect, handover, proxies
from groundplane.agent.attempts import Attempt, Stage
from groundplane.agent.book import Book, texts
from groundplane.agent.capacity import Capacity
from groundplane.agent.cgroups import Groups
from groundplane.agent.endings import Endings
from groundplane.agent.journal import History, Journal, Past
from groundplane.agent.ledger import Ledger
from groundplane.agent.loop import Loop
from groundplane.agent.outcome import reason_of
from groundplane.agent.places import Places, delete_tree, remove_attempt
from groundplane.agent.running import Runner
from groundplane.agent.sampling import Sampler
from groundplane.agent.segments import Segments
from groundplane.agent.snapshots import Snapshots
from groundplane.agent.spares import Spares
from groundplane.agent.spawn import NotStarted
from groundplane.agent.staging import Staged, Stager, Unfit
from groundplane.agent.threads import Pool
from groundplane.model.quantities import format_size
from groundplane.model.reasons import Fault, Reason
from groundplane.spi import confining, conversions, wire
from groundplane.spi.launch import Launch, Observation, Phase, Submission

_FLOOR = 32 * 1024 * 1024
_AHEAD = 2
_LOOKED_AT = 256  # launches of the line that are looked at for free room


class Host:
    """All on the loop's thread but for what it gives to its pools. `changed` is called when followers have news."""

    def __init__(
        self, home: Path, agent: str, loop: Loop, journal: Journal, book: Book, changed: Callable[[set[str]], None]
    ) -> None:
        self._home = home
        self._loop = loop
        self._journal = journal
        self._changed = changed
        self.book = book
        self.capacity = Capacity()
        self._elsewhere: dict[str, Capacity] = {}  # by channel
        self.groups = Groups(agent)
        self.segments = Segments(home, agent)
        self._snapshots = Snapshots(home)
        self._stager = Stager(home)
        self._places = Places(home)
        self._spares = Spares(self._places, lambda name: self._remove([name]))
        self._ledger = Ledger(loop, journal, self.segments, book, changed, self._log_is_full)
        self._pool = Pool(loop, 4)
        self._janitor = Pool(loop, 1)
        self.runner = Runner(home, loop, self.segments, self.groups, self.capacity.gpus, self._started, self._gone)
        self._sampler = Sampler(loop, self.runner)
        self._endings = Endings(home, self._pool, self.segments, self._snapshots, self._spares, self._ledger)
        self.line: dict[str, Attempt] = {}
        self.holding = False  # nothing new is started: a successor is about to take over

    # -- what the control plane asks for

    def submit(self, launches: tuple[Launch, ...], late: float) -> list[Submission]:
        """late: seconds that the request was on its way."""
        space = _free_space(self._home)
        return [Submission(launch.attempt, self._accept(launch, late, space)) for launch in launches]

    def _accept(self, launch: Launch, late: float, space: int) -> Reason | None:
        name = launch.attempt
        entry = self.book.entries.get(name)
        before = entry.epoch if entry is not None else self.book.tombstone(name)
        if before is not None and (entry is None or launch.epoch < before):
            what = f"attempt {name} was submitted with epoch {launch.epoch}"
            text = f"{what} after it had ended" if entry is None else f"{what} after epoch {before}"
            return Reason("stale", text, fault=Fault.PLATFORM)
        if entry is not None:
            if launch.epoch > entry.epoch:
                self._note_epoch(name, launch.epoch)
            self.book.renew(name, launch.epoch)
            self._changed(set())
            return None
        if late > launch.deadline:
            text = f"attempt {name} was submitted {late:.0f} s late; its deadline was {launch.deadline:g} s"
            return Reason("stale", text, fault=Fault.PLATFORM)
        if not launch.command.argv:
            return Reason("start_failed", "there is no command to run", fault=Fault.PLATFORM)
        if not _is_name(name) or not _is_name(launch.run):
            return Reason("start_failed", f"{name!r} of {launch.run!r} cannot name a folder", fault=Fault.PLATFORM)
        if refused := self._capacity(launch).never(launch.resources):
            return refused
        if space < _FLOOR or self._journal.stuck:
            return Reason(
                "no_space",
                f"{self._home} has {format_size(space)} left: no new work starts there",
                "free some space; it goes on by itself",
                Fault.PLATFORM,
            )
        self._take_in(launch)
        return None

    def _capacity(self, launch: Launch) -> Capacity:
        """What it shares with others."""
        place = launch.place
        if place is None:
            return self.capacity
        found = self._elsewhere.get(launch.channel)
        if found is None:
            found = self._elsewhere[launch.channel] = Capacity(place)
        elif (found.cpus, found.memory) != (place.cpus, place.memory):
            found.resize(place)
        return found

    def _take_in(self, launch: Launch) -> None:
        if launch.confined:
            launch = replace(launch, owner=confining.USER)
        self.book.accept(launch.attempt, launch.epoch, launch.run, launch.channel)
        self.line[launch.attempt] = Attempt(launch)
        channel = b',"channel":' + texts(launch.channel) if launch.channel else b""
        self._journal.add(
            "accepted", launch.attempt, b',"epoch":%d,"run":%s%s' % (launch.epoch, texts(launch.run), channel)
        )

    def _note_epoch(self, name: str, epoch: int) -> None:
        for attempts in (self.line, self.runner.active, self._endings.collecting):
            if name in attempts:
                attempts[name].epoch = epoch
        self._journal.add("accepted", name, b',"epoch":%d' % epoch)

    def stop(self, name: str, grace: float) -> None:
        """Nothing happens to an attempt that has ended or was never heard of."""
        reason = Reason("cancelled", "it was cancelled")
        attempt = self.line.get(name)
        if attempt is not None:
            attempt.reason = attempt.reason or reason
            if attempt.stage is not Stage.STAGING:
                self._end_unstarted(attempt)
        elif (active := self.runner.active.get(name)) is not None:
            self.runner.stop(active, grace, reason)

    def end_all(self, reason: Reason) -> None:
        """Ends all work, in line or running."""
        for attempt in list(self.line.values()):
            attempt.reason = attempt.reason or reason
            if attempt.stage is not Stage.STAGING:
                self._end_unstarted(attempt)
        for attempt in list(self.runner.active.values()):
            self.runner.stop(attempt, attempt.launch.grace, reason)

    def cleanup(self, names: tuple[str, ...]) -> None:
        """Forgets those that have ended; the others are left alone."""
        gone = [name for name in dict.fromkeys(names) if self.book.ended(name)]
        now = time.time()
        for name in gone:
            epoch = self.book.forget(name)
            self._journal.add("cleaned", name, b',"epoch":%d,"at":%.3f' % (epoch, now))
        if there := [name for name in gone if self._spares.is_there(name)]:
            self._remove(there)

    def _remove(self, names: list[str]) -> None:
        """Deletes attempts' folders, at leisure."""

        def work() -> None:
            for name in names:
                remove_attempt(self._places, name)

        self._janitor.run(work, _report)

    def inherit(self, inheritance: handover.Inheritance) -> None:
        """Goes on with what a predecessor has left."""
        for entry in inheritance.running:
            attempt, streams = handover.restored(entry)
            launch = attempt.launch
            self.book.accept(attempt.name, attempt.epoch, launch.run, launch.channel)
            self._capacity(launch).hold(launch.resources, attempt.gpus, attempt.cores)
            attempt.holds_room = True
            self.runner.adopt(attempt, streams, grouped=entry["grouped"])
            self._journal.add("starting", attempt.name, b',"epoch":%d,"run":%s' % (attempt.epoch, texts(launch.run)))
            self._journal.add("started", attempt.name, b',"pid":%d,"ticks":%d' % (attempt.pid, attempt.ticks))
        for launch in inheritance.waiting:
            self._take_in(launch)
        self._sampler.wake()

    def pause(self) -> bool:
        """Before a successor takes over: everything is written. False when the disk has no room for it."""
        for attempt in self.line.values():
            if attempt.stage is Stage.READY:
                remove_attempt(self._places, attempt.name)
                attempt.stage, attempt.staged = Stage.IN_LINE, None
        self._ledger.commit(self.holding or not self.line, self._history)
        return not self._journal.stuck

    def sweep(self, folders: list[str]) -> None:
        """Deletes what former agents left, at leisure."""
        for folder in folders:
            self._janitor.run(partial(delete_tree, folder), _report)

    @property
    def copies(self) -> str:
        """See `Stager.copies`."""
        return self._stager.copies

    @property
    def journal_stuck(self) -> bool:
        return self._journal.stuck

    @property
    def working(self) -> int:
        """Attempts in line, running or being collected."""
        return len(self.line) + len(self.runner.active) + len(self._endings.collecting) + self._ledger.untold

    @property
    def settled(self) -> bool:
        """Whether a successor could take over now: nothing is in a thread's hands."""
        busy = self._pool.busy + self._janitor.busy + self._ledger.untold + len(self._endings.collecting)
        return not busy and all(a.stage is Stage.RUNNING for a in self.runner.active.values())

    # -- once a turn

    def advance(self) -> None:
        """What follows from this turn's events: free room is used first, then the books are done."""
        self.runner.settle()
        self._schedule()
        self._ledger.commit(self.holding or not self.line, self._history)

    def prepare_one(self) -> bool:
        """In an idle moment: makes a working copy ahead. Whether there was one to make."""
        if self.holding:
            return False
        for attempt in islice(self.line.values(), len(self.capacity.cores) * 2 + _AHEAD):
            if attempt.stage is Stage.IN_LINE:
                self._prepare(attempt)
                return True
        return False

    def _schedule(self) -> None:
        if not self.line or self.holding or self._journal.stuck:
            return
        here = self.capacity.room()
        rooms = {channel: capacity.room() for channel, capacity in self._elsewhere.items()}
        chosen: list[Attempt] = []
        for attempt in list(islice(self.line.values(), _LOOKED_AT)):
            room = rooms[attempt.launch.channel] if attempt.launch.place else here
            if not room.left:
                if not rooms:
                    break
                continue
            # What does not fit keeps its place: the room that it waits for is not given to those behind it.
            if not room.fits(attempt.launch.resources):
                continue
            if attempt.stage is Stage.IN_LINE:
                self._prepare(attempt)
            if attempt.stage is Stage.READY:
                chosen.append(attempt)
        if not chosen:
            return
        for attempt in chosen:
            self._journal.add("starting", attempt.name)
        if not self._journal.flush():
            return
        for attempt in chosen:
            if attempt.name in self.line:
                self._start(attempt)

    def _prepare(self, attempt: Attempt) -> None:
        """Small working copies are made at once, others by a thread."""
        launch = attempt.launch
        known = self._snapshots.known(launch.snapshot)
        try:
            quick = known is not None or self._snapshots.is_quick(launch.snapshot)
            snapshot = known or (self._snapshots.load(launch.snapshot) if quick else None)
            if snapshot is not None and self._stager.is_small(launch, snapshot):
                spare = self._spares.take(launch.snapshot, attempt.name)
                attempt.staged = self._stager.stage(launch, snapshot, spare)
                attempt.stage = Stage.READY
                return
        except (OSError, Unfit, ValueError) as error:
            self._staged(attempt, error)
            return
        attempt.stage = Stage.STAGING

        def work() -> Staged:
            return self._stager.stage(launch, self._snapshots.load(launch.snapshot))

        self._pool.run(work, partial(self._staged, attempt))

    def _staged(self, attempt: Attempt, outcome: Staged | Exception) -> None:
        attempt.stage = Stage.READY
        if isinstance(outcome, Staged):
            attempt.staged = outcome
        elif attempt.reason is None:
            attempt.reason = _staging_failed(outcome)
        if attempt.reason is not None:
            self._end_unstarted(attempt)

    def _start(self, attempt: Attempt) -> None:
        resources, capacity = attempt.launch.resources, self._capacity(attempt.launch)
        gpus = capacity.take(resources)
        if gpus is None:
            return
        del self.line[attempt.name]
        attempt.gpus, attempt.holds_room = gpus, True
        attempt.cores = capacity.cores_for(resources)
        try:
            self.runner.start(attempt)
        except (NotStarted, OSError) as error:
            self.runner.failed_to_start(attempt, error)
        else:
            self._journal.add("started", attempt.name, b',"pid":%d,"ticks":%d' % (attempt.pid, attempt.ticks))
            self._sampler.wake()

    def _started(self, attempt: Attempt) -> None:
        told = Observation(
            attempt.name, Phase.RUNNING, at=attempt.started_at, epoch=attempt.epoch, started_at=attempt.started_at
        )
        self._ledger.started(told)
        if conversions.wanted(attempt.launch.inputs):  # the process is another one than the converter
            self._journal.add("started", attempt.name, b',"pid":%d,"ticks":%d' % (attempt.pid, attempt.ticks))

    def _gone(self, attempt: Attempt) -> None:
        """Nothing of its tree is left."""
        if attempt.holds_room:
            capacity = self._capacity(attempt.launch)
            capacity.give_back(attempt.launch.resources, attempt.gpus)
            capacity.leave_cores(attempt.cores)
            attempt.holds_room = False
        if attempt.launch.proxy:
            proxies.settle(self._home, attempt)
        else:
            self._sampler.judge(attempt)
        self._endings.begin(attempt)

    def _end_unstarted(self, attempt: Attempt) -> None:
        del self.line[attempt.name]
        self._endings.over(attempt, collect.Collected())

    def _log_is_full(self, path: str) -> None:
        reason = Reason(
            "no_space", f"the disk is full: the log could not be written ({path})", "free some space", Fault.PLATFORM
        )
        for attempt in list(self.runner.active.values()):
            if attempt.segment is not None and attempt.segment.path == path:
                attempt.muted = True
                if attempt.alive:
                    self.runner.stop(attempt, 0.0, reason)
                else:
                    attempt.reason = attempt.reason or reason

    def _history(self) -> History:
        """What a fresh journal has to hold."""
        history = History(marks=self.segments.ends())
        for name, (epoch, at) in self.book.tombstones().items():
            history.attempts[name] = Past(epoch=epoch, cleaned=at)
        for name, entry in self.book.entries.items():
            past = history.attempts[name] = Past(epoch=entry.epoch, run=entry.run, channel=entry.channel)
            if self.book.ended(name):
                past.observation = wire.parse(entry.body)
            elif (active := self.runner.active.get(name)) is not None:
                past.starting, past.pid, past.ticks = True, active.pid, active.ticks
            elif name not in self.line:
                past.starting = True
        return history


def _staging_failed(error: Exception) -> Reason:
    if isinstance(error, Unfit):
        return error.reason
    what = "its working copy could not be made"
    if isinstance(error, OSError):
        reason = reason_of(error)
        return Reason(reason.code, f"{what}: {reason.message}", reason.hint, reason.fault)
    return Reason("start_failed", f"{what}: {error}", "see the agent's log", Fault.PLATFORM)


def _is_name(text: str) -> bool:
    """Whether it can name a folder, and stand in JSON as it is."""
    return 0 < len(text) < 200 and text.isprintable() and text[0] != "." and not set(text) & set('/"\\')


def _free_space(home: Path) -> int:
    status = os.statvfs(home)
    return status.f_bavail * status.f_frsize


def _report(outcome: Exception | None) -> None:
    if outcome is not None:
        print(f"cleanup failed: {outcome!r}", file=sys.stderr, flush=True)
