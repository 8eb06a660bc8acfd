"""The engine's loop: what was observed is settled and what is ready is claimed, in one transaction a turn."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial

from sqlalchemy.exc import DBAPIError

from groundplane.engine.errands import Errands
from groundplane.engine.licences import LicenceServers
from groundplane.engine.link import Link
from groundplane.model.errors import GroundError, Unavailable
from groundplane.model.reasons import Fault, Reason
from groundplane.services import backends, bringing, claims, fetching, leases, reasons, settling, status
from groundplane.services.limits import QUOTAS
from groundplane.services.notices import WORK
from groundplane.services.platform import Platform
from groundplane.services.settling import Settled
from groundplane.spi.driver import CanRunImages, CanStop, Driver, RunsPipelines
from groundplane.spi.launch import Launch, Observation, Phase

log = logging.getLogger(__name__)

_LARGEST_CLAIM = 128
_FETCHES = 4
_IMAGES = 2
_NET_SECONDS = 15.0
_NET_AMONG_OTHERS = 1.0
_RETRY_SECONDS = 1.0
_START_SECONDS = 0.02
_STOP_GRACE = 5.0


class Conductor:
    """One thread that writes, and the threads of the links. Everything it knows it could read again."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._met: Mapping[str, Driver] = platform.drivers
        self._links = {name: self._link(name, driver) for name, driver in platform.drivers.items()}
        self._fetches = Errands[tuple[int, int, str]](
            "fetch", lambda wanted: fetching.fetch(platform, *wanted), self._wake_up, _FETCHES
        )
        self._images = Errands[tuple[int, int]](
            "bring", lambda wanted: bringing.bring(platform, *wanted), self._wake_up, _IMAGES
        )
        self._licence_servers = LicenceServers(platform, self._wake_up)
        self._site = next(iter(platform.drivers.values())).site
        self._limits: set[str] = set()  # pools of licence seats, and quotas, that tasks here were found to need
        self._lock = threading.Lock()
        self._observed: list[Observation] = []
        self._origins: dict[str, str] = {}  # attempt -> the backend that told of it
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._maybe_ready = True
        self._maybe_cancelled = True
        self._told_to_stop: set[str] = set()
        # A control plane beside this one may have left ready what it had locked when this one looked.
        self._net = _NET_SECONDS if platform.database.sqlite else _NET_AMONG_OTHERS
        self._unsubscribe = platform.notifier.subscribe(WORK, self._wake_up)
        self._threads = [
            threading.Thread(target=self._run, name="conductor", daemon=True),
            threading.Thread(target=self._keep, name="leases", daemon=True),
        ]

    def start(self) -> None:
        """Takes over what a former control plane left, then goes on in its threads."""
        leases.enter(self._platform, self._site)
        self._recover()
        for link in self._links.values():
            if not isinstance(link.driver, CanRunImages | RunsPipelines):
                link.start()  # a remote one may well be away, which matters to nobody before it has work
        self._bring_what_is_missing()
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Ends the threads after the present turn; running work runs on."""
        self._closing.set()
        self._unsubscribe()
        self._wake.set()
        self._fetches.close()
        self._images.close()
        self._licence_servers.close()
        for thread in self._threads:  # both: a lease that is renewed after it was left would be waited for
            thread.join(timeout=10)
        last = [link for link in self._links.values() if isinstance(link.driver, CanStop)]
        for link in self._links.values():
            if link not in last:
                link.close()  # one that still follows an agent would start the next one when that ends
        try:
            if self._platform.end_agents:
                status.end_agents(self._platform)
            leases.leave(self._platform)
        except (GroundError, DBAPIError) as error:  # the lease ends by itself
            log.warning("not ended in good order error=%s", error)
        for link in last:
            link.close()

    # --- from other threads -------------------------------------------------------------------------------------

    def _wake_up(self) -> None:
        self._maybe_ready = self._maybe_cancelled = True
        self._wake.set()

    def _observe(self, backend: str, observations: Sequence[Observation]) -> None:
        with self._lock:
            self._observed.extend(observations)
            self._origins.update((seen.attempt, backend) for seen in observations)
        self._wake.set()

    def _log_grew(self, runs: Sequence[str]) -> None:
        self._platform.notifier.notify(*runs, local=True)

    # --- backends -----------------------------------------------------------------------------------------------

    def _link(self, name: str, driver: Driver) -> Link:
        return Link(name, driver, partial(self._observe, name), self._log_grew)

    def _meet(self) -> None:
        """Follows backends that were added since, with what waited for them, and lets go of those that were removed."""
        drivers = self._platform.drivers
        if drivers is self._met:
            return
        kept = {name: link for name, link in self._links.items() if drivers.get(name) is link.driver}
        for name, link in self._links.items():
            if name not in kept:
                link.close()
        self._links = {name: kept.get(name) or self._link(name, driver) for name, driver in drivers.items()}
        self._met = drivers
        self._recover()
        self._bring_what_is_missing()

    def _bring_what_is_missing(self) -> None:
        """Goes on with what a former control plane, or another one, had begun to bring."""
        self._fetches.add(fetching.unfinished(self._platform, self._site))
        self._images.add(bringing.unfinished(self._platform, self._site))

    # --- the loop -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing.is_set():
            if not self._wake.wait(timeout=self._net):
                self._maybe_ready = True
            linger = max(link.linger for link in self._links.values())
            if linger:
                time.sleep(linger)  # the backends have work: more news in one transaction
            elif self._only_starts():
                self._wake.clear()
                self._wake.wait(timeout=_START_SECONDS)  # a short task's end may come along
            self._wake.clear()
            with self._lock:
                observations, self._observed = self._observed, []
            try:
                self._turn(observations)
            except (GroundError, DBAPIError) as error:
                log.warning("turn failed, nothing is lost, trying again error=%s", error)
                self._put_back(observations)
            except Exception:
                log.exception("turn failed")
                self._put_back(self._isolate(observations))

    def _only_starts(self) -> bool:
        """Whether all that is to be done is to note that tasks run now: nothing waits for that."""
        with self._lock:
            news = [seen.phase for seen in self._observed]
        return bool(news) and not self._maybe_cancelled and all(phase is Phase.RUNNING for phase in news)

    def _put_back(self, observations: Sequence[Observation]) -> None:
        with self._lock:
            self._observed[:0] = observations
        self._maybe_ready = True
        self._closing.wait(_RETRY_SECONDS)
        self._wake.set()

    def _turn(self, observations: Sequence[Observation]) -> None:
        self._meet()
        if maybe_ready := self._maybe_ready:
            self._maybe_ready = False  # before anything is read: who says so from now on is heard in the next turn
        wanted = self._rooms() if maybe_ready or observations else {}
        if maybe_ready and not wanted:
            self._maybe_ready = True
        if not observations and not wanted:
            self._stop_cancelled()
            return
        settled = Settled()
        launches: dict[str, list[Launch]] = {}
        fetches: list[tuple[int, int, str]] = []
        images: list[tuple[int, int]] = []
        uncounted: set[str] = set()
        unpreparable: list[tuple[str, Observation]] = []
        changed: set[str] = set()
        with self._platform.database.write() as connection:
            if observations:
                settled = settling.settle(self._platform, connection, observations)
                maybe_ready |= bool(settled.freed & self._limits)  # it may be what another backend's task waits for
                changed |= settled.runs
                for row in settled.unknown:
                    try:
                        launch = claims.relaunch(self._platform, connection, row, leases.DEADLINE)
                    except GroundError as error:  # a secret that somebody removed: it ends, and holds up nobody
                        lost = Observation(row.uid, Phase.ENDED, epoch=row.epoch, reason=reasons.of_error(error))
                        unpreparable.append((row.backend, lost))
                    else:
                        launches.setdefault(row.backend, []).append(launch)
                if settled.done:  # what ended makes room in this very transaction
                    ended = set(settled.done)
                    for name, link in self._links.items():
                        if name in wanted:
                            wanted[name] += len(ended & link.outstanding)
            for backend, room in wanted.items():
                if not maybe_ready and backend not in settled.backends:
                    continue  # nothing has become ready there
                limit = min(room, _LARGEST_CLAIM)
                if limit <= 0:
                    self._maybe_ready = True
                    continue
                found = claims.claim(self._platform, connection, backend, limit, leases.DEADLINE)
                launches.setdefault(backend, []).extend(found.launches)
                fetches += found.fetch
                images += found.bring
                uncounted |= found.ask
                changed |= found.runs
                self._limits |= found.limits
                if found.freed:
                    settled.freed.add(QUOTAS)
                if found.more:
                    self._maybe_ready = True
        self._after_commit(observations, settled, launches)
        for backend, lost in unpreparable:
            self._observe(backend, [lost])
        self._fetches.add(fetches)
        self._images.add(images)
        self._licence_servers.ask(uncounted)
        if changed:
            self._platform.notifier.notify(*changed)
        if settled.freed & self._limits and not self._platform.database.sqlite:
            self._platform.notifier.notify(WORK)  # what waits for it may be another control plane's
        if self._maybe_ready and any(room > 0 for room in self._rooms().values()):
            self._wake.set()
        self._stop_cancelled()

    def _after_commit(
        self, observations: Sequence[Observation], settled: Settled, launches: dict[str, list[Launch]]
    ) -> None:
        ended = {*settled.done, *settled.strangers}
        for seen in observations:
            link = self._links.get(self._origins.get(seen.attempt, ""))
            if seen.attempt in ended and link is not None:
                link.ended(seen)
        for backend, attempt in settled.withdrawn:
            self._links[backend].stop(attempt, _STOP_GRACE)
        for backend, batch in launches.items():
            if batch:
                self._links[backend].submit(batch)
        if settled.done:
            self._told_to_stop.difference_update(settled.done)
            for name, link in self._links.items():
                if mine := [attempt for attempt in settled.done if self._origins.get(attempt) == name]:
                    link.cleanup(mine)
        with self._lock:
            for attempt in ended:
                self._origins.pop(attempt, None)

    def _rooms(self) -> dict[str, int]:
        """Backend -> how many tasks it could take; none while the disk is full."""
        try:
            self._platform.require_space()
        except Unavailable:
            return {}
        return {name: link.room() for name, link in self._links.items()}

    def _isolate(self, observations: Sequence[Observation]) -> list[Observation]:
        """One observation that cannot be settled must not hold up the others: its attempt fails, and says why."""
        kept: list[Observation] = []
        for seen in observations:
            try:
                self._turn([seen])
            except (GroundError, DBAPIError):
                kept.append(seen)
            except Exception as error:
                log.exception("cannot settle attempt=%s", seen.attempt)
                if seen.phase in (Phase.ENDED, Phase.LOST) and (seen.reason is None or seen.reason.code != "internal"):
                    reason = Reason(
                        "internal", f"its end could not be settled: {error}", "please report this", Fault.PLATFORM
                    )
                    kept.append(Observation(seen.attempt, Phase.ENDED, at=seen.at, reason=reason))
        return kept

    def _stop_cancelled(self) -> None:
        if not self._maybe_cancelled:
            return
        self._maybe_cancelled = False
        for row in leases.held(self._platform):
            link = self._links.get(row.backend)  # none while the backend cannot be used here
            if row.state == "stopping" and row.uid not in self._told_to_stop and link is not None:
                self._told_to_stop.add(row.uid)
                link.stop(row.uid, _STOP_GRACE)

    # --- leases and the net -------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Asks after every attempt that this control plane holds."""
        by_backend: dict[str, list[str]] = {}
        for row in leases.held(self._platform):
            by_backend.setdefault(row.backend, []).append(row.uid)
        for backend, attempts in by_backend.items():
            if backend in self._links:
                self._links[backend].observe(attempts)
        self._told_to_stop.clear()

    def _keep(self) -> None:
        asked = time.monotonic()
        while not self._closing.wait(leases.DURATION / 3):
            try:
                others_ended = leases.renew(self._platform, self._site)
                if not self._platform.database.sqlite:
                    backends.load(self._platform)  # what was added at a control plane beside this one
                if others_ended or time.monotonic() - asked > _NET_SECONDS:
                    asked = time.monotonic()
                    self._recover()
                    if others_ended:
                        self._bring_what_is_missing()
                    self._wake_up()
            except (GroundError, DBAPIError) as error:
                log.warning("lease not renewed error=%s", error)
