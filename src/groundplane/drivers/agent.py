"""Work that the agent of this host starts: what drivers that hand over to it have in common."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from groundplane.drivers.agent_channel import Broken, Channel, connect
from groundplane.model.errors import Unavailable
from groundplane.spi import agent as protocol
from groundplane.spi import layout
from groundplane.spi.driver import Changes, Health
from groundplane.spi.launch import Launch, LogChunk, Observation, Submission

_TRIES = 5
_Answer = TypeVar("_Answer")


class AgentDriver:
    """Most of a `spi.driver.Driver`. The agent outlives it; one that died is replaced by the next call.

    channel: see `Launch.channel`.
    """

    def __init__(self, home: Path, channel: str = "") -> None:
        self._home = home
        self._channel_name = channel
        self._asking = threading.Lock()
        self._channel: Channel | None = None
        self._pool = threading.Lock()
        self._followers: list[Channel] = []  # idle ones
        self._following: set[Channel] = set()
        self._closed = False
        self._ending = False
        self._site = protocol.agent_id(home)

    @property
    def site(self) -> str:
        return self._site

    def submit(self, launches: Sequence[Launch]) -> list[Submission]:
        if not launches:
            return []
        request = protocol.Submit(tuple(launches), time.monotonic())
        return list(self._ask(request, protocol.Submitted).submissions)

    def changes(self, cursor: str, timeout: float) -> Changes:
        deadline = time.monotonic() + timeout
        channel: Channel | None = None
        try:
            for attempt in range(_TRIES):
                try:
                    channel = channel or self._follower(cursor)
                    if attempt:
                        return Changes(cursor, interrupted=True)
                    event = channel.event(max(0.0, deadline - time.monotonic()))
                except Broken:
                    if self._closed:
                        return Changes(cursor)
                    self._drop(channel)
                    channel = None
                    if attempt + 1 == _TRIES:
                        raise
                    continue
                if event is None:
                    return Changes(cursor)
                return Changes(event.cursor, event.observations, event.logs)
            raise AssertionError
        except Broken as error:
            raise Unavailable(f"the agent cannot be followed: {error}") from error
        finally:
            self._put_back(channel)

    def observe(self, attempts: Sequence[str]) -> list[Observation]:
        if not attempts:
            return []
        return list(self._ask(protocol.Observe(tuple(attempts)), protocol.Observed).observations)

    def logs(self, attempt: str, cursor: str) -> tuple[str, list[LogChunk]]:
        """None: the agent writes the run's segments itself."""
        return cursor, []

    def stop(self, attempt: str, grace: float) -> None:
        self._ask(protocol.Stop(attempt, grace), protocol.Done)

    def cleanup(self, attempts: Sequence[str]) -> None:
        if attempts:
            self._ask(protocol.Cleanup(tuple(attempts)), protocol.Done)

    def close(self) -> None:
        self._closed = True
        with self._pool:
            channels = [*self._followers, *self._following]
            self._followers.clear()
        for channel in channels:
            channel.close()
        with self._asking:
            if self._channel is not None:
                self._channel.close()
                self._channel = None

    def _health(self) -> Health:
        """The agent's host."""
        return self._ask(protocol.Check(), Health)

    def _ask(self, request: protocol.Message, kind: type[_Answer]) -> _Answer:
        """Every request may be repeated, so one whose answer was lost is."""
        with self._asking:
            for attempt in range(_TRIES):
                if self._closed:
                    raise Unavailable("this driver has been closed")
                if self._channel is None:
                    self._channel = self._connect()
                try:
                    answer = self._channel.ask(request)
                except Broken as error:
                    self._channel.close()
                    self._channel = None
                    if attempt + 1 == _TRIES:
                        raise Unavailable(f"the agent keeps ending: {error}") from error
                    continue
                if not isinstance(answer, kind):
                    raise Unavailable(f"the agent answered {type(answer).__name__} to {type(request).__name__}")
                return answer
            raise AssertionError

    def _connect(self) -> Channel:
        if self._ending:
            raise Unavailable("the agent was told to end")
        if self._closed:
            raise Unavailable("this driver has been closed")
        return connect(self._home, lambda: not (self._ending or self._closed))

    def _follower(self, cursor: str) -> Channel:
        """A channel that stands at the cursor, if possible one that stood there already."""
        with self._pool:
            found = next((c for c in self._followers if c.cursor == cursor), None)
            if found is None and self._followers:
                found = self._followers[0]
            if found is not None:
                self._followers.remove(found)
        channel = found or self._connect()
        try:
            if channel.cursor != cursor:
                channel.follow(cursor, self._channel_name)
        except Broken:
            channel.close()
            raise
        with self._pool:
            if not self._closed:
                self._following.add(channel)
                return channel
        channel.close()
        raise Unavailable("this driver has been closed")

    def _put_back(self, channel: Channel | None) -> None:
        if channel is None:
            return
        with self._pool:
            self._following.discard(channel)
            if not self._closed:
                self._followers.append(channel)
                return
        channel.close()

    def _drop(self, channel: Channel | None) -> None:
        if channel is not None:
            with self._pool:
                self._following.discard(channel)
            channel.close()


class BesideDriver(AgentDriver):
    """Its work is the agent's own processes, on this host beside the platform."""

    def unconfined(self) -> str:
        """See `spi.driver.RunsBeside`."""
        said = self._ask(protocol.Check(confining=True), Health).facts.get(protocol.CONFINED, "the agent is too old")
        return "" if said == protocol.YES else said

    def support(self, attempt: str) -> str:
        """See `spi.driver.Driver`."""
        return str(layout.support(self._home, attempt))
