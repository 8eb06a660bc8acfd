"""The SDK's part for the audit log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from groundplane.client.calls import Calls
from groundplane.client.paths import path
from groundplane.model.errors import Unavailable
from groundplane.spi.http import ConnectionLostError


class AuditCalls(Calls):
    """What `Client` can do with the audit log."""

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
        wanted = {"action": action, "outcome": outcome, "person": person}
        return self._json("GET", path("audit", "events", limit=limit, cursor=cursor, **wanted))

    def event(self, ref: str) -> dict[str, Any]:
        """An event by its id or its number, with its `leaf`."""
        return self._json("GET", path("audit", "events", ref))

    def export_events(self, form: str = "jsonl", *, reveal: bool = False) -> Iterator[bytes]:
        """The whole log in pieces: jsonl, ocsf, cef or syslog. reveal: with names in clear, which is an event too."""
        reply = self._request("GET", path("audit", "export", format=form, reveal=reveal), stream=True)
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
