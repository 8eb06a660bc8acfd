"""A unix socket before an engine's own that loses one answer, as an engine does that is killed while it works on it."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_CHUNK = 1 << 16


class _Cut:
    def __init__(self, path: Path, engine: Path, request: bytes, reaches: bool) -> None:
        self._engine, self._request, self._reaches = engine, request, reaches
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
                asked = relay(near, far, lambda data: self._request in data.split(b"\r\n", 1)[0] and not self.cuts)
                if asked:
                    self.cuts += 1
                    if self._reaches:
                        far.sendall(asked)
                        far.recv(_CHUNK)
                    self.close_all()
            except (OSError, ValueError):
                return
            finally:
                self._open -= {near, far}

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
def cut(path: Path, engine: Path, request: bytes, *, reaches: bool) -> Iterator[_Cut]:
    """Listens at `path` for the engine. The first request whose line has `request` gets no answer, and all connections
    end with it; reaches: whether the engine has done by then what it asked for."""
    made = _Cut(path, engine, request, reaches)
    try:
        yield made
    finally:
        made.close()
