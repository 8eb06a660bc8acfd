"""The SDK's calls for tokens, and for logging in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from groundplane.client.calls import Calls
from groundplane.client.paths import path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from groundplane.model.accounts import TokenDocument


class Tokens(Calls):
    """A part of `Client`."""

    def tokens(self) -> tuple[TokenDocument, ...]:
        """Those that were not revoked, the newest first."""
        from groundplane.model.accounts import TokenDocument

        return self._ask(tuple[TokenDocument, ...], "GET", "/tokens")

    def create_token(
        self, user: str | None = None, scopes: Sequence[str] = (), lifetime: float | None = None
    ) -> TokenDocument:
        """A new one; its `token` is told this once. lifetime: seconds."""
        from groundplane.model.accounts import TokenDocument

        body = {"user": user, "scopes": list(scopes), "lifetime": lifetime}
        return self._ask(TokenDocument, "POST", "/tokens", body)

    def revoke_token(self, token_id: str) -> None:
        """It does not hold from now on."""
        self._json("DELETE", path("tokens", token_id))

    def begin_login(self) -> Mapping[str, Any]:
        """Begins a login that is confirmed in a browser: device_code, user_code, verification_uri,
        verification_uri_complete, interval and expires_in (seconds)."""
        return self._json("POST", "/auth/device")

    def finish_login(self, device_code: str) -> TokenDocument | str:
        """The token, once it was confirmed; until then `authorization_pending` or `slow_down`."""
        from groundplane.model.accounts import TokenDocument
        from groundplane.spi import wire

        body = self._json("POST", "/auth/device/token", {"device_code": device_code})
        return str(body["pending"]) if "pending" in body else wire.decode(TokenDocument, body)

    def log_in(self, name: str, password: str) -> TokenDocument:
        """The token of a local account."""
        from groundplane.model.accounts import TokenDocument

        return self._ask(TokenDocument, "POST", "/auth/token", {"name": name, "password": password})

    def log_out(self) -> None:
        """Takes back the token that this client shows."""
        self._json("POST", "/auth/logout")
