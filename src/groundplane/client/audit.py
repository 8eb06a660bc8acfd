"""The SDK's part for the audit log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from groundplane.model.errors import Unavailable
from groundplane.spi.http import ConnectionLostError

if TYPE_CHECKING:
    from groundplane.spi.http import Connection, Reply


class AuditCalls:
    """What `Client` can do with the audit log."""

    if TYPE_CHECKING:
        _connection: Connection

        def _json(self, method: str, path: str, body: object = None) -> Any: ...
        def _request(self, method: str, path: str, body: object = None, *, stream: bool = False) -> Reply: ...
        def _stream(self, method: str, path: str, request: object = None, *, repeat: bool) -> Iterator[Any]: ...

    def events(
        self,
        limit: int = 50,
        cursor: str | None = None,
        *,
        action: str | None = None,
        outcome: str | None = None,
        person: str | None = None,
    ) -> dict[str, Any]:
        """A page of events, newest first: `{"events": […], "next": cursor or None}`. person: whose."""
        asked = {"limit": limit, "cursor": cursor, "action": action, "outcome": outcome, "person": person}
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        return self._json("GET", f"/audit/events?{query}")

    def event(self, ref: str) -> dict[str, Any]:
        """An event by its id or its number, with its `leaf`."""
        return self._json("GET", f"/audit/events/{quote(ref, safe='')}")

    def export_events(self, form: str = "jsonl", *, reveal: bool = False) -> Iterator[bytes]:
        """The whole log in pieces: jsonl, ocsf, cef or syslog. reveal: with names in clear, which is an event too."""
        reply = self._request("GET", f"/audit/export?format={quote(form)}&reveal={str(reveal).lower()}", stream=True)
        try:
            yield from reply.pieces()
        except ConnectionLostError as error:
            self._connection.close()
            raise Unavailable("the control plane went away while it sent the log", hint="try again") from error

    def checkpoint(self) -> str:
        """The log's head now: a C2SP checkpoint."""
        return self._json("GET", "/audit/checkpoint")["note"]

    def audit_key(self) -> str:
        """The key that checks checkpoints, as C2SP writes it."""
        return self._json("GET", "/audit/key")["key"]

    def verify_audit(self, checkpoints: Mapping[str, str] | None = None) -> Iterator[Any]:
        """Whether anybody changed the log: `{"line": …}` of progress, last `{"result": {"ok": …, "message": …}}`.

        checkpoints: that were kept elsewhere, each by a name for it.
        """
        body = {"checkpoints": dict(checkpoints or {})}
        yield from self._stream("POST", "/audit/verify", body, repeat=False)

    def forget(self, person: str) -> None:
        """Deletes a person's key: past events tell nothing of them any more."""
        self._json("POST", "/audit/forget", {"person": person})
