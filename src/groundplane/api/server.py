"""Serves the application on sockets that were bound elsewhere, and ends without losing an answer."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI

from groundplane.api.peers import PeerProtocol

if TYPE_CHECKING:
    import ssl

_GRACE = 3
"""Seconds that open requests have when the control plane ends; streams end at once."""


def serve(
    app: FastAPI,
    sockets: Sequence[socket.socket],
    on_started: Callable[[Callable[[], None]], None],
    tls: ssl.SSLContext | None = None,
) -> None:
    """Answers on the sockets until SIGTERM or SIGINT, or until the function given to `on_started` is called.

    tls: what TCP speaks; the unix socket never does. `on_started` is called once, from the serving thread, when
    requests are answered; what it gets may be called from any thread. Signals are heeded in the main thread only.
    Closes the sockets.
    """
    config = uvicorn.Config(
        app,
        http=PeerProtocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # nobody may say for himself where he comes from
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_GRACE,
    )
    _Server(config, app, on_started, tls).run(sockets=list(sockets))


class _Server(uvicorn.Server):
    def __init__(
        self,
        config: uvicorn.Config,
        app: FastAPI,
        on_started: Callable[[Callable[[], None]], None],
        tls: ssl.SSLContext | None,
    ) -> None:
        super().__init__(config)
        self._app = app
        self._tls = tls
        self._on_started = on_started
        self._stopped: asyncio.Event | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        found = sockets or []
        await super().startup([each for each in found if each.family == socket.AF_UNIX])
        inside = self.servers
        self.config.ssl = self._tls
        await super().startup([each for each in found if each.family != socket.AF_UNIX])
        self.servers = [*inside, *self.servers]
        loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stop)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the shell that started it may go

        def stop() -> None:
            loop.call_soon_threadsafe(self._stop)

        self._on_started(stop)

    def _stop(self) -> None:
        self.should_exit = True
        if self._stopped is not None:
            self._stopped.set()

    async def main_loop(self) -> None:
        """Sleeps: uvicorn's own wakes ten times a second for headers that are turned off here."""
        await self.on_tick(0)
        if self._stopped is not None and not self.should_exit:
            await self._stopped.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.closing.close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """uvicorn would raise each signal again after the end."""
        yield
