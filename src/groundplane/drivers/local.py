"""Runs work on this host, as processes of the agent beside it."""

from __future__ import annotations

from groundplane.drivers.agent import BesideDriver
from groundplane.model.errors import Unavailable
from groundplane.spi import agent as protocol
from groundplane.spi.driver import Health


class LocalDriver(BesideDriver):
    """See `spi.driver.Driver`."""

    def check(self) -> Health:
        return self._health()

    def pid(self) -> int | None:
        """The agent's process; it is started when none runs. None while it cannot be."""
        try:
            self._health()
        except Unavailable:
            return None
        with self._asking:
            return self._channel.pid if self._channel else None

    def shutdown(self, end_work: bool) -> None:
        """Tells the agent to exit: at once with its work ended, and then this driver starts no other one; or as soon
        as it has none."""
        if end_work:
            with self._asking:
                self._channel = self._channel or self._connect()
                self._ending = True
        self._ask(protocol.Shutdown(end_work), protocol.Done)
