"""A unix socket before an engine's own that loses one answer, as an engine does that is killed while it works on it;
or that is late with some."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_CHUNK = 1 << 16


class _Cut:
    def __init__(self, path: Path, engine: Path, request: bytes, reaches: bool, late: float) -> None:
        self._engine, self._request, self._reaches, self._late = engine, request, reaches, late
        self._open: set[socket.socket] = set()
        self.cuts = 0
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen(16)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=[near], daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        far = socket.socket(socket.AF_UNIX)
        with near, far:
            self._open |= {near, far}
            try:
                far.connect(str(self._engine))
                while asked := relay(near, far, self._is_meant):
                    self.cuts += 1
                    answer = b""
                    if self._reaches:
                        far.sendall(asked)
                        answer = far.recv(_CHUNK)
                    if not self._late:
                        self.close_all()
                        return
                    time.sleep(self._late)
                    near.sendall(answer)
            except (OSError, ValueError):
                return
            finally:
                self._open -= {near, far}

    def _is_meant(self, data: bytes) -> bool:
        return self._request in data.split(b"\r\n", 1)[0] and (self._late > 0 or not self.cuts)

    def close_all(self) -> None:
        for each in list(self._open):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # its other end has gone before

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.close_all()


def relay(near: socket.socket, far: socket.socket, ends: Callable[[bytes], bool] = lambda _: False) -> bytes:
    """Carries bytes both ways until one side closes, or until `near` sends what `ends` it: that, not passed on."""
    while True:
        for ready in select.select([near, far], [], [])[0]:
            data = ready.recv(_CHUNK)
            if not data or (ready is near and ends(data)):
                return data
            (far if ready is near else near).sendall(data)


@contextmanager
def cut(path: Path, engine: Path, request: bytes, *, reaches: bool = True, late: float = 0) -> Iterator[_Cut]:
    """Listens at `path` for the engine. The first request whose line has `request` gets no answer, and all connections
    end with it; reaches: whether the engine has done by then what it asked for. late: seconds; no answer is lost, but
    all answers to such requests come that much later than the engine gave them."""
    made = _Cut(path, engine, request, reaches, late)
    try:
        yield made
    finally:
        made.close()
