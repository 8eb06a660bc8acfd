"""The SDK's calls for users, and for who asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from groundplane.client.calls import Calls
from groundplane.client.paths import path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from groundplane.model.accounts import UserDocument, WhoDocument


class Users(Calls):
    """A part of `Client`."""

    def whoami(self) -> WhoDocument:
        """For whom this client acts."""
        from groundplane.model.accounts import WhoDocument

        return self._ask(WhoDocument, "GET", "/whoami")

    def users(self) -> tuple[UserDocument, ...]:
        """Every account, by name."""
        from groundplane.model.accounts import UserDocument

        return self._ask(tuple[UserDocument, ...], "GET", "/users")

    def create_user(
        self, name: str, *, service: bool = False, email: str = "", password: str | None = None
    ) -> UserDocument:
        """Makes an account. service: of a program, which has tokens alone."""
        from groundplane.model.accounts import UserDocument

        body = {"kind": "service" if service else "user", "email": email, "password": password}
        return self._ask(UserDocument, "PUT", path("users", name), body)

    def set_user(
        self,
        name: str,
        *,
        email: str | None = None,
        password: str | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> UserDocument:
        """Changes what is not None; an empty password or attribute is taken away."""
        from groundplane.model.accounts import UserDocument

        body = {"email": email, "password": password, "attributes": dict(attributes or {})}
        return self._ask(UserDocument, "PATCH", path("users", name), body)

    def disable_user(self, name: str) -> UserDocument:
        """Its tokens and sessions end, and its runs that have not begun are cancelled."""
        from groundplane.model.accounts import UserDocument

        return self._ask(UserDocument, "POST", path("users", name, "disable"))

    def enable_user(self, name: str) -> UserDocument:
        """It may log in again, and a lock is taken away."""
        from groundplane.model.accounts import UserDocument

        return self._ask(UserDocument, "POST", path("users", name, "enable"))
