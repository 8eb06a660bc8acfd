"""Waiting by notification. A topic is a run's id, or WORK for the engine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

WORK = "work"


class Notifier:
    """Calls back whoever listens to a topic. Callbacks run in the notifying thread and must not block."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[str, list[Callable[[], None]]] = {}
        self._relay: Callable[[Iterable[str]], None] | None = None

    def subscribe(self, topic: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Listens until the returned function is called."""
        with self._lock:
            self._listeners.setdefault(topic, []).append(callback)

        def unsubscribe() -> None:
            with self._lock:
                remaining = [known for known in self._listeners.get(topic, []) if known is not callback]
                if remaining:
                    self._listeners[topic] = remaining
                else:
                    self._listeners.pop(topic, None)

        return unsubscribe

    def notify(self, *topics: str, local: bool = False) -> None:
        """Tells all who listen; `local` keeps it from the control planes beside this one."""
        with self._lock:
            callbacks = [callback for topic in topics for callback in self._listeners.get(topic, ())]
        for callback in callbacks:
            callback()
        if self._relay is not None and not local:
            self._relay(topics)

    def relay_to(self, relay: Callable[[Iterable[str]], None]) -> None:
        """Also hands every topic to `relay`: PostgreSQL's NOTIFY to the control planes beside this one."""
        self._relay = relay
