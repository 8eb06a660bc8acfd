"""The engine's side of one backend: a thread that follows its changes, a thread that tells it what to do."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence

from groundplane.model.errors import GroundError
from groundplane.model.reasons import Fault, Reason
from groundplane.spi.driver import CanQueue, Driver
from groundplane.spi.launch import Launch, Observation, Phase

log = logging.getLogger(__name__)

_FOLLOW_SECONDS = 30.0
_RETRY_SECONDS = 0.5
_AHEAD_SECONDS = 0.3
_MOST_AHEAD = 256
_LEAST_AHEAD = 2
_FEW = 8
_MANY_FORGETTABLE = 256
_PAUSE_SECONDS = 0.05
_LONGEST_LINGER = 0.08
_REMIND_SECONDS = 600.0


class Outage:
    """Tells the log when a backend stops to answer, when it answers again, and rarely in between."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._since: float | None = None
        self._told = 0.0

    def failed(self, error: GroundError) -> None:
        """It did not answer."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
            log.warning("backend does not answer backend=%s error=%s", self._name, error)
        elif now - self._told >= _REMIND_SECONDS:
            away = now - self._since
            log.warning("backend still does not answer backend=%s seconds=%.0f error=%s", self._name, away, error)
        else:
            return
        self._told = now

    def over(self) -> None:
        """It did."""
        if self._since is not None:
            away, self._since = time.monotonic() - self._since, None
            log.info("backend answers again backend=%s seconds=%.0f", self._name, away)


class Link:
    """Hands observations to `observed` and names of runs whose logs grew to `logged`, from its own threads."""

    def __init__(
        self,
        name: str,
        driver: Driver,
        observed: Callable[[Sequence[Observation]], None],
        logged: Callable[[Sequence[str]], None],
    ) -> None:
        self.name = name
        self.driver = driver
        self._observed = observed
        self._logged = logged
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._outstanding: set[str] = set()
        self._in_line: set[str] = set()  # of these, the ones that are not known to run
        self._started = threading.Lock()
        self._forgettable: list[str] = []
        self._duration = 1.0  # seconds that a task takes, smoothed
        self._cpus = 1.0
        self._unheard, self._untold = Outage(name), Outage(name)  # a thread each
        self._threads = [
            threading.Thread(target=self._follow, name=f"follow-{name}", daemon=True),
            threading.Thread(target=self._work, name=f"tell-{name}", daemon=True),
        ]

    def start(self) -> None:
        """Begins to follow, unless it does already."""
        if self._started.acquire(blocking=False):
            for thread in self._threads:
                thread.start()

    def close(self) -> None:
        """Ends the threads and the driver's connection, not the work."""
        self._stopping.set()
        self._orders.put(None)
        self.driver.close()

    @property
    def outstanding(self) -> frozenset[str]:
        """Attempts that were submitted and have not ended."""
        return frozenset(self._outstanding)

    @property
    def linger(self) -> float:
        """Seconds that more news may be waited for, because the backend has enough ahead meanwhile."""
        ahead = len(self._outstanding) - self._cpus
        return min(_LONGEST_LINGER, self._duration * ahead / self._cpus / 3) if ahead > _FEW else 0.0

    def room(self) -> int:
        """How many more tasks to hand over: what may start at once, and about a third of a second of work ahead.

        The backend admits them by its own capacity, so that between two tasks nothing waits for a transaction. Those
        that run do not count: many may ask for a fraction of a CPU.
        """
        if isinstance(self.driver, CanQueue):
            return max(0, self.driver.waiting_room - len(self._in_line))
        ahead = min(_MOST_AHEAD, max(_LEAST_AHEAD, int(_AHEAD_SECONDS * self._cpus / self._duration)))
        return max(0, int(self._cpus) + ahead - len(self._in_line))

    def submit(self, launches: Sequence[Launch]) -> None:
        """In the background; a refusal comes back as an observation."""
        names = [launch.attempt for launch in launches]
        self._outstanding.update(names)
        self._in_line.update(names)
        self.start()
        self._orders.put(lambda: self._submit(launches))

    def observe(self, attempts: Sequence[str]) -> None:
        """Asks how these are; the answers come as observations. They count as submitted."""
        self._outstanding.update(attempts)
        self.start()
        self._orders.put(lambda: self._look(attempts))

    def stop(self, attempt: str, grace: float) -> None:
        """Ends one attempt."""
        self._orders.put(lambda: self._stop(attempt, grace))

    def ended(self, seen: Observation) -> None:
        """It is settled, or somebody else's: there is room for another."""
        self._outstanding.discard(seen.attempt)
        self._in_line.discard(seen.attempt)
        if seen.usage.wall:
            self._duration += 0.1 * (max(seen.usage.wall, 0.0002) - self._duration)

    def cleanup(self, attempts: Sequence[str]) -> None:
        """The backend may forget these; told together with others, soon."""
        self._outstanding.difference_update(attempts)
        self._in_line.difference_update(attempts)
        idle = not self._forgettable
        self._forgettable.extend(attempts)
        if idle:  # else the thread knows of some already, and looks again
            self._orders.put(lambda: None)

    def _submit(self, launches: Sequence[Launch]) -> None:
        try:
            answers = self.driver.submit(launches)
        except GroundError as error:
            self._untold.failed(error)
            self._stopping.wait(_RETRY_SECONDS)
            # Not known whether it arrived: asked again, and submitted again where it did not.
            self._observed([Observation(launch.attempt, Phase.UNKNOWN) for launch in launches])
            return
        self._untold.over()
        refused = [(answer.attempt, answer.refused) for answer in answers if answer.refused is not None]
        for attempt, reason in refused:
            log.warning("launch refused backend=%s attempt=%s reason=%s", self.name, attempt, reason.code)
        if refused:
            self._observed([_refusal(attempt, reason) for attempt, reason in refused])

    def _look(self, attempts: Sequence[str]) -> None:
        found = self.driver.observe(attempts)
        self._untold.over()
        self._tell(found)

    def _stop(self, attempt: str, grace: float) -> None:
        self.driver.stop(attempt, grace)
        self._untold.over()

    def _work(self) -> None:
        while (order := self._next_order()) is not None:
            try:
                order()
            except GroundError as error:
                self._untold.failed(error)
                self._stopping.wait(_RETRY_SECONDS)
            except Exception:
                log.exception("order failed backend=%s", self.name)
            if self._stopping.is_set():
                return

    def _next_order(self) -> Callable[[], None] | None:
        """What was asked for; when nothing is for a moment, or much has gathered, the cleanup of what has ended."""
        if len(self._forgettable) >= _MANY_FORGETTABLE:
            return self._cleanup
        try:
            return self._orders.get(timeout=_PAUSE_SECONDS if self._forgettable else None)
        except queue.Empty:
            return self._cleanup

    def _cleanup(self) -> None:
        attempts = self._forgettable[:_MANY_FORGETTABLE]
        self.driver.cleanup(list(dict.fromkeys(attempts)))
        self._untold.over()
        del self._forgettable[: len(attempts)]

    def _follow(self) -> None:
        cursor = ""
        connected = False
        while not self._stopping.is_set():
            try:
                if not connected:
                    self._cpus = max(1.0, self.driver.check().cpus)
                    connected = True
                    self._ask_again()
                changes = self.driver.changes(cursor, _FOLLOW_SECONDS)
            except GroundError as error:
                connected = False
                if not self._stopping.is_set():
                    self._unheard.failed(error)
                    self._stopping.wait(_RETRY_SECONDS)
                continue
            except Exception:
                log.exception("following failed backend=%s", self.name)
                self._stopping.wait(_RETRY_SECONDS)
                continue
            self._unheard.over()
            cursor = changes.cursor
            if changes.interrupted:
                self._ask_again()
            if changes.logs:
                self._logged(changes.logs)
            if changes.observations:
                self._tell(changes.observations)

    def _tell(self, observations: Sequence[Observation]) -> None:
        self._in_line.difference_update(
            [seen.attempt for seen in observations if seen.phase not in (Phase.ACCEPTED, Phase.UNKNOWN)]
        )
        self._observed(observations)

    def _ask_again(self) -> None:
        """What became of all that was handed over: a new agent may know nothing of it, and nobody would tell."""
        outstanding = sorted(self._outstanding)
        if outstanding:
            self.observe(outstanding)


def _refusal(attempt: str, reason: Reason) -> Observation:
    """`stale`: it was followed under a later epoch, or ended long ago. Where that was another control plane's doing,
    the attempt is not this one's any more and nothing is settled; where not, nobody knows what became of it."""
    if reason.code == "stale":
        return Observation(attempt, Phase.LOST)
    fault = reason.fault if reason.fault is not Fault.USER else Fault.BACKEND
    return Observation(attempt, Phase.ENDED, reason=Reason(reason.code, reason.message, reason.hint, fault))
